package main

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/http/pprof"
	"net/url"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"github.com/verenc/kms/cmd/verenc/systemd"
	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/proxies"
	"github.com/verenc/kms/transport/tlsfiles"
)

// Limits of the HTTP servers: what a slow or silent client can occupy.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second // to arrive
	idleTimeout    = 3 * time.Minute
	headerBytes    = 32 << 10
)

// limits returns times in which a request that waits for the token gets an answer before its
// connection ends. Both listeners use them, because /readyz asks the token too.
func limits(c *Config) transport.Timeouts {
	return transport.TimeoutsFor(requestTimeout, c.Token.CallTimeout, c.Token.GenerateTimeout)
}

// heapFloor keeps the garbage collector from running dozens of times a second for a heap of a few
// megabytes: the collector's goal is twice the live heap, and this is live. It is never touched, so
// it occupies addresses but no memory.
const heapFloor = 8 << 20 // bytes

// serve runs until ctx ends, then lets the requests in progress finish.
func serve(ctx context.Context, c *Config) error { return serveOn(ctx, c, open) }

// serveOn is serve on what open opens.
func serveOn(ctx context.Context, c *Config, open func(context.Context, *Config) (*components, error)) (err error) {
	c.commandLevel = c.LogLevel // not an error
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	c.run.giveUp, c.run.connected = end, make(chan struct{}, 1)
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	var servers serverGroup // first: a port in use is the most common mistake
	api, err := servers.listen("api", c.Listen, c)
	if err != nil {
		return err
	}
	private := &http.Server{}
	if c.PrivateListen != "" {
		if private, err = servers.listen("private", c.PrivateListen, &Config{Token: c.Token}); err != nil {
			return errors.Join(err, servers.closeListeners())
		}
	}
	p, err := open(ctx, c)
	if err != nil {
		return errors.Join(err, servers.closeListeners())
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := servers.logTo(p.log); err != nil {
		return errors.Join(err, servers.closeListeners())
	}

	useProcessors(ctx, p.token, p.log)
	metrics := newRegistry(p.token, p.audit)
	if c.run.tlsKey != nil {
		signers := tlsSigners(c, p.token)
		if err := servers.openTLS(api, c, signers.of(c.run.tlsKey)); err != nil {
			return errors.Join(err, servers.closeListeners())
		}
		addTLSSignatures(metrics, signers)
	}
	if p.audit != nil {
		addAuditWitness(metrics, p.witness)
	}
	addHiddenDataKeys(metrics, p.can)
	addBreakGlass(context.WithoutCancel(ctx), metrics, p.service.IAM())
	watch := &tokenWatch{connected: c.run.connected, log: p.log,
		check: func(ctx context.Context) error { return checkToken(ctx, p.store, p.token) }}
	past, err := p.history(metrics)
	if err != nil {
		return errors.Join(err, servers.closeListeners())
	}
	inspector, err := newInspector(c, p, past)
	if err != nil {
		return errors.Join(err, servers.closeListeners())
	}
	cfg := transport.Config{
		Service: p.service, Inspector: inspector, Log: p.log, Succeeded: succeeded(p.batched, c.LogRequests),
		Metrics: metrics, Regions: c.Regions, CORSOrigins: c.CORSOrigins,
		AnswerWithin: limits(c).Answer, ClientIP: c.clientIP(),
		Ready: map[string]func(context.Context) error{"token": p.token.Ping, "store": databaseReady(p.store),
			"keys": watch.ready},
	}
	tracer, err := newTracer(c, p.log, metrics)
	if err != nil {
		return errors.Join(err, servers.closeListeners())
	}
	if tracer != nil {
		cfg.Tracer = tracer
		defer tracer.Close()
	}
	if p.audit != nil {
		cfg.Ready["audit"] = p.audit.Ready
	}
	if servers.tls != nil {
		cfg.VerifyClient = func(r *http.Request) error { return servers.tls.Verify(r.TLS) }
		c.run.reload = append(c.run.reload, reloadable{"TLS certificates", servers.tls.Reload})
	}
	if api.Handler, err = transport.New(cfg); err != nil {
		return errors.Join(err, servers.closeListeners())
	}
	private.Handler = privateHandler(cfg, metrics, c.Profiling)
	if c.Console != consoleOff {
		pages, err := transport.Pages(cfg)
		if err != nil {
			return errors.Join(err, servers.closeListeners())
		}
		if c.Console == consoleOn {
			api.Handler = transport.WithPages(api.Handler, pages)
		} else {
			private.Handler = privatePages(private.Handler, api.Handler, pages)
		}
	}

	if c.run.handler != nil {
		api.Handler = c.run.handler(api.Handler)
	}

	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var workers sync.WaitGroup
	workers.Go(func() { p.service.Run(background, c.Reconcile) })
	workers.Go(func() { watch.run(background) })
	if p.audit != nil {
		workers.Go(func() { p.witness.Run(background) })
	}
	workers.Go(func() { past.Run(background) })
	workers.Go(func() {
		if err := systemd.Watchdog(background, func() bool { return alive(api.Handler) }); err != nil {
			p.log.Error("systemd's watchdog can't be told that the server lives", zap.Error(err))
		}
	})
	renewal := newReloader(c, p)
	workers.Go(func() { renewal.run(background) })
	if c.run.serving != nil {
		c.run.serving(c, servers.members[0].listener.Addr())
	}
	err = servers.run(ctx, c.ShutdownTimeout, p.log)
	stop()
	workers.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, hsm.ErrGivenUp) {
		err = errors.Join(cause, err)
	}
	return err
}

// alive reports whether a handler answers a request for its health. It does without a connection, since a
// listener may want a client certificate or the PROXY protocol; a listener that fails ends the server.
func alive(h http.Handler) bool {
	w := &statusOnly{status: http.StatusOK, header: http.Header{}}
	r := (&http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/healthz"}, Header: http.Header{},
		RemoteAddr: "127.0.0.1:0", Body: http.NoBody, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).
		WithContext(context.Background())
	h.ServeHTTP(w, r)
	return w.status == http.StatusOK
}

// statusOnly is an http.ResponseWriter that keeps the status.
type statusOnly struct {
	status int
	header http.Header
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

// useProcessors sets the number of Go's processors that suits the token's latency, unless the
// environment variable GOMAXPROCS sets it.
func useProcessors(ctx context.Context, token pinger, log *zap.Logger) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	call, err := callTime(ctx, token)
	if err != nil {
		return // readiness tells
	}
	cores := runtime.GOMAXPROCS(0)
	if n := hsm.Processors(call, cores); n != cores {
		runtime.GOMAXPROCS(n)
		log.Info("the token is far away", zap.Duration("call", call), zap.Int("processors", n))
	}
}

type pinger interface {
	Ping(ctx context.Context) error
}

// callTime returns how long a call to the token takes: the fastest of ten, which nothing else
// delayed.
func callTime(ctx context.Context, token pinger) (time.Duration, error) {
	fastest := time.Duration(math.MaxInt64)
	for range 10 {
		began := time.Now()
		if err := token.Ping(ctx); err != nil {
			return 0, err
		}
		fastest = min(fastest, time.Since(began))
	}
	return fastest, nil
}

// privateHandler returns the handler of the private listener. Importing pprof adds its handlers to
// http.DefaultServeMux, too, which no listener serves.
func privateHandler(cfg transport.Config, metrics *prometheus.Registry, profiling bool) http.Handler {
	r := mux.NewRouter()
	r.Handle("/metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		EnableOpenMetrics: cfg.Tracer != nil})) // for exemplars
	if profiling {
		r.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		r.HandleFunc("/debug/pprof/profile", pprof.Profile)
		r.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		r.HandleFunc("/debug/pprof/trace", pprof.Trace)
		r.PathPrefix("/debug/pprof/").HandlerFunc(pprof.Index)
	}
	r.PathPrefix("/").Handler(transport.Health(cfg))
	return r
}

// privatePages adds the pages to the private listener, and the AWS API: Try it out calls it at the origin of its page.
func privatePages(private, api, pages http.Handler) http.Handler {
	r := mux.NewRouter()
	r.Path("/").Methods(http.MethodPost).Handler(api)
	r.PathPrefix("/").Handler(transport.WithPages(private, pages))
	return r
}

// serverGroup is the listeners, which start and end together.
type serverGroup struct {
	members []member
	tls     *tlsfiles.Files // of the API's listener; nil without TLS
}

type member struct {
	name     string
	server   *http.Server
	listener net.Listener
}

// listen opens a listener and returns its server, whose Handler is still to be set.
func (g *serverGroup) listen(name, address string, c *Config) (*http.Server, error) {
	s := &http.Server{ReadHeaderTimeout: headerTimeout, ReadTimeout: limits(c).Read, WriteTimeout: limits(c).Write,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes}
	if c.TLSCert != "" && c.run.tlsKey == nil {
		if err := g.openTLS(s, c, nil); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w (choose another address: listen, private_listen)", name, err)
	}
	if c.ProxyProtocol {
		l = c.run.trusted.Listener(l, headerTimeout)
	}
	g.members = append(g.members, member{name, s, l})
	return s, nil
}

// tlsConfig names the files of TLS. signer is as that of openTLS.
func tlsConfig(c *Config, signer func(crypto.PublicKey) (crypto.Signer, error)) tlsfiles.Config {
	return tlsfiles.Config{Certificate: c.TLSCert, Key: c.TLSKey, Signer: signer, ClientCA: c.TLSClientCA,
		ClientCRLs: c.TLSClientCRL, Required: c.TLSClientAuth == clientRequired}
}

// openTLS makes a server serve TLS. signer is that of a key in the token, nil for one in a file.
func (g *serverGroup) openTLS(
	s *http.Server, c *Config, signer func(crypto.PublicKey) (crypto.Signer, error),
) (err error) {
	if g.tls, err = tlsfiles.Open(tlsConfig(c, signer)); err != nil {
		return err
	}
	s.TLSConfig = g.tls.TLS()
	return nil
}

// logTo sends the servers' own errors, about connections without a request, to the log.
func (g *serverGroup) logTo(log *zap.Logger) error {
	for _, m := range g.members {
		complaints, err := zap.NewStdLogAt(log.With(zap.String("listener", m.name)), zap.WarnLevel)
		if err != nil {
			return err
		}
		m.server.ErrorLog = complaints
	}
	return nil
}

// clientIP returns how a request's client is known: the PROXY protocol has told the connection, or the
// request tells it.
func (c *Config) clientIP() func(*http.Request) (string, error) {
	if c.ProxyProtocol {
		return proxies.Peer
	}
	return c.run.trusted.ClientIP
}

func (g *serverGroup) closeListeners() error {
	var errs []error
	for _, m := range g.members {
		errs = append(errs, m.listener.Close())
	}
	return errors.Join(errs...)
}

// run serves until ctx ends or a listener fails, then shuts everything down within the timeout.
func (g *serverGroup) run(ctx context.Context, timeout time.Duration, log *zap.Logger) error {
	failed := make(chan error, len(g.members))
	var running sync.WaitGroup
	for _, m := range g.members {
		log.Info("serving", zap.String("listener", m.name), zap.Stringer("address", m.listener.Addr()),
			zap.Bool("tls", m.server.TLSConfig != nil))
		running.Go(func() {
			serve := func() error { return m.server.Serve(m.listener) }
			if m.server.TLSConfig != nil {
				serve = func() error { return m.server.ServeTLS(m.listener, "", "") }
			}
			if err := serve(); !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", m.name, err)
			}
		})
	}
	tellSystemd(systemd.Ready, log)
	var errs []error
	select {
	case <-ctx.Done():
		log.Info("shutting down", zap.Duration("timeout", timeout))
	case err := <-failed:
		errs = append(errs, err)
	}
	tellSystemd(systemd.Stopping, log)
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
	defer cancel()
	for _, m := range g.members {
		if err := m.server.Shutdown(ending); err != nil {
			errs = append(errs, fmt.Errorf("shut down %s: %w", m.name, err), m.server.Close())
		}
	}
	running.Wait()
	return errors.Join(errs...)
}

// tellSystemd calls a function of package systemd. A server whose unit waits for what it can't be told is ended by
// systemd, and the log says why.
func tellSystemd(what func() error, log *zap.Logger) {
	if err := what(); err != nil {
		log.Error("systemd can't be told of the server's state", zap.Error(err))
	}
}
