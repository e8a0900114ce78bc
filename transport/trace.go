package transport

import (
	"context"
	"net/http"
	"strings"

	"github.com/verenc/kms/service/span"
)

// Tracer begins the traces of requests.
type Tracer interface {
	// Begin decides, by a request's headers and its own settings, whether the request is traced, and begins its
	// span if so; otherwise the span is nil. The trace id, 32 hexadecimal digits, is also that of a trace of the
	// caller's that the request belongs to; it is empty when there is none.
	Begin(ctx context.Context, header http.Header) (_ context.Context, _ *span.Span, traceID string)
}

// trace begins the trace of a request, if it has one.
func (h *handler) trace(r *http.Request, x *exchange) {
	x.ctx, x.span, x.traceID = h.cfg.Tracer.Begin(x.ctx, r.Header)
}

// exemplar is the id of the trace that was made of a request; empty when there is none.
func (x *exchange) exemplar() string {
	if x.span == nil {
		return ""
	}
	return x.traceID
}

// methods are those that a span may name (RFC 9110 section 9, RFC 5789).
var methods = map[string]bool{http.MethodConnect: true, http.MethodDelete: true, http.MethodGet: true,
	http.MethodHead: true, http.MethodOptions: true, http.MethodPatch: true, http.MethodPost: true,
	http.MethodPut: true, http.MethodTrace: true}

// endSpan tells in the span of a request what it was and how it ended. The names of attributes are those of
// OpenTelemetry's semantic conventions for HTTP servers, RPC and AWS SDKs.
func (x *exchange) endSpan(r *http.Request) {
	s := x.span
	if s == nil {
		return
	}
	system, method := "KMS", x.name
	if of, name, other := strings.Cut(x.name, ":"); other {
		system, method = map[string]string{"sts": "STS", "verenc": "Verenc"}[of], name
	}
	if x.name != unknownOperation {
		s.Rename(system + "/" + method)
		s.Set("rpc.system", "aws-api")
		s.Set("rpc.service", system)
		s.Set("rpc.method", method)
	}
	s.Set("http.request.method", span.Other)
	if methods[r.Method] {
		s.Set("http.request.method", r.Method)
	}
	s.Set("url.scheme", map[bool]string{false: "http", true: "https"}[r.TLS != nil])
	s.SetInt("http.response.status_code", int64(x.status))
	s.Set("aws.request_id", x.caller.RequestID)
	for name, value := range map[string]string{"client.address": x.caller.SourceIP,
		"user_agent.original": x.caller.UserAgent, "cloud.region": x.caller.Region, "user.id": x.caller.Principal} {
		if value != "" {
			s.Set(name, value)
		}
	}
	s.EndAnswered(x.code, x.status >= http.StatusInternalServerError)
}

// authenticate finds out who sends a request, in a span.
func (x *exchange) authenticate(identify func() error) error {
	ctx, s := span.Start(x.ctx, "authenticate")
	if s == nil {
		return identify()
	}
	of := x.ctx
	x.ctx = ctx
	err := identify()
	if x.ctx = of; err != nil {
		s.End(problemOf(err).Type)
		return err
	}
	s.End("")
	return nil
}
