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
	"bytes"
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
	"github.com/verenc/kms/service/span"
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
	Tracer    Tracer // nil: no request is traced
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
	kms, sts *sigv4.Verifier[iam.Identity]
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
	h.kms = sigv4.New(sigv4.Config[iam.Identity]{Service: "kms", Region: serves(cfg.Regions), Lookup: h.lookup})
	h.sts = sigv4.New(sigv4.Config[iam.Identity]{Service: "sts", Region: serves(cfg.Regions), Lookup: h.lookup})

	r := mux.NewRouter().SkipClean(true) // no redirects: a signature is valid for one path
	health(r, cfg)
	r.NotFoundHandler = http.HandlerFunc(h.serve) // which refuses it, and logs it like others
	r.MethodNotAllowedHandler = r.NotFoundHandler
	return crossOrigin(h.route(r), cfg.CORSOrigins), nil
}

// route serves every POST, of which serve accepts only the path /, and leaves other requests to a router.
func (h *handler) route(others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			h.serve(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
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

// exchange is one request, what is known about it so far, and how it ended.
type exchange struct {
	ctx    context.Context
	name   string // of the operation; unknownOperation until it is found
	sts    bool   // of AWS STS: it is answered in XML
	caller iam.Caller
	noIP   error // why the client's address is not known
	begun  time.Time
	body   *bytes.Buffer // of bodies, nil until it is read

	code   string
	status int
	took   time.Duration
	cause  error

	span    *span.Span // nil: the request is not traced
	traceID string     // see Tracer

	// Room for what each request has, so that an exchange is one allocation.
	limit     limited
	requestID [1]string
	line      [1]zap.Field
}

// unknownOperation is the name of an operation that was not found.
const unknownOperation = "unknown"

func (h *handler) serve(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ctx: r.Context(), name: unknownOperation, begun: h.cfg.Now(), status: http.StatusOK}
	x.caller = iam.Caller{RequestID: uuid.NewString(), UserAgent: r.UserAgent(), Host: r.Host, TLS: r.TLS}
	x.caller.SourceIP, x.noIP = h.cfg.ClientIP(r)
	x.requestID[0] = x.caller.RequestID
	w.Header()["X-Amzn-Requestid"] = x.requestID[:]

	if h.cfg.Tracer != nil {
		h.trace(r, x)
	}
	if h.cfg.AnswerWithin > 0 {
		x.limit.Context, x.limit.at = x.ctx, time.Now().Add(h.cfg.AnswerWithin)
		x.ctx = &x.limit
		defer x.limit.end()
	}
	out, err := h.guarded(w, r, x)
	release(x.body)
	if err != nil {
		p := problemOf(err)
		out, x.code, x.status, x.cause = p, p.Type, p.status, p.cause
	}
	if sent := x.send(w, out); sent != nil {
		x.cause = errors.Join(x.cause, sent)
	}
	x.took = h.cfg.Now().Sub(x.begun)
	h.metrics.observe(x.name, x.code, x.took, x.exemplar())
	h.log(x)
	x.endSpan(r)
}

// send answers a request in its protocol.
func (x *exchange) send(w http.ResponseWriter, out any) error {
	switch {
	case out == errContentType:
		return answerContentType(w, x.status)
	case x.sts:
		return x.answerXML(w, x.status, out)
	}
	return answer(w, x.status, out)
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
		return h.processSTS(w, r.WithContext(x.ctx), x)
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
	body, err := x.readBody(w, r, op.BodyLimit())
	if err != nil {
		return nil, err
	}
	if err := x.authenticate(func() error { return h.identify(h.kms, r, body, x) }); err != nil {
		return nil, err
	}
	if op.KeepsProof {
		if x.caller.Signed, err = proofOf(r, body); err != nil {
			return nil, err
		}
	}
	return op.do(x.ctx, host, &x.caller, body)
}

// log writes one line for a request: who, what, and how it ended.
func (h *handler) log(x *exchange) {
	log, level := h.cfg.Log, zap.InfoLevel
	if x.status >= http.StatusInternalServerError {
		level = zap.ErrorLevel
	} else if x.code == "" && x.cause == nil {
		log = h.cfg.Succeeded
	}
	if entry := log.Check(level, "request"); entry != nil {
		x.line[0] = zap.Inline(x)
		entry.Write(x.line[:]...)
	}
}

// MarshalLogObject makes the members of a line of the log.
func (x *exchange) MarshalLogObject(line zapcore.ObjectEncoder) error {
	line.AddString("request_id", x.caller.RequestID)
	line.AddString("operation", x.name)
	line.AddInt("status", x.status)
	line.AddString("error", x.code)
	line.AddFloat64("took_ms", float64(x.took.Microseconds())/1000)
	line.AddString("principal", x.caller.Principal)
	line.AddString("access_key", x.caller.AccessKeyID)
	line.AddString("region", x.caller.Region)
	line.AddString("source_ip", x.caller.SourceIP)
	line.AddString("user_agent", x.caller.UserAgent)
	if x.traceID != "" {
		line.AddString("trace_id", x.traceID)
	}
	if x.cause != nil {
		line.AddString("cause", x.cause.Error())
	}
	return nil
}
