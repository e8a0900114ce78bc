// Package transport speaks AWS: JSON 1.1 over HTTP, operations by X-Amz-Target, requests signed with SigV4.
//
// It protects the service behind it from every byte that a client sends. A request's size is
// limited before it is read, its signature is verified over the bytes as they came, and only then
// is it parsed and validated against AWS's constraints. No error that leaves contains internal
// details, and no log contains a body, a plaintext or a signature.
//
// Verenc's own operations, of package inspect, are called in the same way.
//
// It trusts net/http to frame requests, and package service to know what a caller may do. TLS is up
// to the listener.
package transport

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/inspect"
	"github.com/verenc/kms/transport/proxies"
	"github.com/verenc/kms/transport/sigv4"
)

// Config configures a handler. Members without a default are required.
type Config struct {
	Service *service.Service
	// Inspector serves Verenc's own operations; nil: they are unknown.
	Inspector *inspect.Inspector
	Log       *zap.Logger
	// Succeeded gets the lines of requests that ended without an error. Default Log.
	Succeeded *zap.Logger
	Metrics   prometheus.Registerer
	// Regions are the regions served; "*" serves every region.
	Regions []string
	// Ready has the checks of /readyz by name.
	Ready map[string]func(context.Context) error
	// CORSOrigins are the origins of web pages whose scripts may call the operations; "*" is every
	// origin. Default none.
	CORSOrigins []string
	// AnswerWithin is how long a request may wait for the token and the store; 0 means no limit.
	// See TimeoutsFor.
	AnswerWithin time.Duration
	// ClientIP returns the address of the client that made a request, for policies and records. A
	// request is refused when it can't. Default proxies.Peer.
	ClientIP func(*http.Request) (string, error)
	// VerifyClient, if set, is asked for each request of a client with a certificate, which the
	// handshake has verified, whether it is still valid.
	VerifyClient func(*http.Request) error
	Now          func() time.Time // default time.Now
}

// handler serves POST /.
type handler struct {
	cfg      Config
	iam      *iam.Directory
	kms, sts *sigv4.Verifier[*iam.Identity]
	metrics  *metrics
}

func (c *Config) setDefaults() {
	if c.Succeeded == nil {
		c.Succeeded = c.Log
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.ClientIP == nil {
		c.ClientIP = proxies.Peer
	}
}

// New returns the handler of the public listener: the operations on POST /, and GET /healthz and /readyz.
func New(cfg Config) (http.Handler, error) {
	if cfg.Service == nil || cfg.Log == nil || cfg.Metrics == nil || len(cfg.Regions) == 0 {
		return nil, errors.New("new handler: Service, Log, Metrics and Regions are required")
	}
	cfg.setDefaults()
	h := &handler{cfg: cfg, iam: cfg.Service.IAM()}
	var err error
	if h.metrics, err = newMetrics(cfg.Metrics); err != nil {
		return nil, err
	}
	h.kms = sigv4.New(sigv4.Config[*iam.Identity]{Service: "kms", Region: serves(cfg.Regions), Lookup: h.lookup})
	h.sts = sigv4.New(sigv4.Config[*iam.Identity]{Service: "sts", Region: serves(cfg.Regions), Lookup: h.lookup})

	r := mux.NewRouter().SkipClean(true)            // no redirects: a signature is valid for one path
	r.Methods(http.MethodPost).HandlerFunc(h.serve) // which accepts only the path /
	health(r, cfg)
	r.NotFoundHandler = http.HandlerFunc(h.serve) // which refuses it, and logs it like others
	r.MethodNotAllowedHandler = r.NotFoundHandler
	return crossOrigin(r, cfg.CORSOrigins), nil
}

func serves(regions []string) func(string) bool {
	set := map[string]bool{}
	for _, r := range regions {
		set[r] = true
	}
	return func(region string) bool { return set["*"] || set[region] }
}

// defaultRegion is the region of a request that names none.
func defaultRegion(regions []string) string {
	if regions[0] == "*" {
		return "us-east-1"
	}
	return regions[0]
}

// Request ids are not secret, so they may come from random bytes that were read ahead.
func init() { uuid.EnableRandPool() }

// exchange is one request and what is known about it so far.
type exchange struct {
	name   string // of the operation, "unknown" until it is found
	sts    bool   // of AWS STS: it is answered in XML
	caller iam.Caller
	noIP   error // why the client's address is not known
	begun  time.Time
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{name: "unknown", begun: h.cfg.Now()}
	x.caller = iam.Caller{RequestID: uuid.NewString(), UserAgent: r.UserAgent(), Host: r.Host, TLS: r.TLS}
	x.caller.SourceIP, x.noIP = h.cfg.ClientIP(r)
	w.Header().Set("X-Amzn-Requestid", x.caller.RequestID)

	if h.cfg.AnswerWithin > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), h.cfg.AnswerWithin)
		defer cancel()
		r = r.WithContext(ctx)
	}
	out, err := h.guarded(w, r, x)
	code, status := "", http.StatusOK
	var cause error
	send := answer
	if x.sts {
		send = x.answerXML
	}
	if err != nil {
		p := problemOf(err)
		out, code, status, cause = p, p.Type, p.status, p.cause
		if p == errContentType {
			send = answerContentType
		}
	}
	if sent := send(w, status, out); sent != nil {
		cause = errors.Join(cause, sent)
	}
	took := h.cfg.Now().Sub(x.begun)
	h.metrics.observe(x.name, code, took)
	h.log(x, code, status, took, cause)
}

// guarded turns a panic into an internal error, so that one request cannot end the others.
func (h *handler) guarded(w http.ResponseWriter, r *http.Request, x *exchange) (out any, err error) {
	defer func() {
		if v := recover(); v != nil {
			h.cfg.Log.Error("panic", zap.String("request_id", x.caller.RequestID), zap.String("operation", x.name),
				zap.Any("panic", v), zap.Stack("stack"))
			out, err = nil, errPanic
		}
	}()
	return h.process(w, r, x)
}

func (h *handler) process(w http.ResponseWriter, r *http.Request, x *exchange) (any, error) {
	x.sts = isSTS(r)
	if !x.sts && !isJSON(r) {
		return nil, errContentType
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		x.sts = false
		return nil, errNotPost
	}
	if x.noIP != nil {
		return nil, errNoClientIP(x.noIP)
	}
	if x.sts {
		return h.processSTS(w, r, x)
	}
	op, known := operations[r.Header.Get("X-Amz-Target")]
	if !known || len(r.Header["X-Amz-Target"]) != 1 {
		return nil, errUnknownOperation
	}
	host := h.host(op)
	if host == nil {
		return nil, errUnknownOperation
	}
	x.name = op.label
	body, err := readBody(w, r, op.BodyLimit())
	if err != nil {
		return nil, err
	}
	if err := h.authenticate(h.kms, r, body, x); err != nil {
		return nil, err
	}
	if op.KeepsProof {
		if x.caller.Signed, err = proofOf(r, body); err != nil {
			return nil, err
		}
	}
	return op.do(r.Context(), host, &x.caller, body)
}

// log writes one line for a request: who, what, and how it ended.
func (h *handler) log(x *exchange, code string, status int, took time.Duration, cause error) {
	log, level := h.cfg.Log, zap.InfoLevel
	if status >= http.StatusInternalServerError {
		level = zap.ErrorLevel
	} else if code == "" && cause == nil {
		log = h.cfg.Succeeded
	}
	if entry := log.Check(level, "request"); entry != nil {
		entry.Write(zap.Inline(&ending{x, code, status, took, cause}))
	}
}

// ending is an exchange and how it ended.
type ending struct {
	*exchange
	code   string
	status int
	took   time.Duration
	cause  error
}

// MarshalLogObject makes the members of a line of the log.
func (e *ending) MarshalLogObject(line zapcore.ObjectEncoder) error {
	line.AddString("request_id", e.caller.RequestID)
	line.AddString("operation", e.name)
	line.AddInt("status", e.status)
	line.AddString("error", e.code)
	line.AddFloat64("took_ms", float64(e.took.Microseconds())/1000)
	line.AddString("principal", e.caller.Principal)
	line.AddString("access_key", e.caller.AccessKeyID)
	line.AddString("region", e.caller.Region)
	line.AddString("source_ip", e.caller.SourceIP)
	line.AddString("user_agent", e.caller.UserAgent)
	if e.cause != nil {
		line.AddString("cause", e.cause.Error())
	}
	return nil
}
