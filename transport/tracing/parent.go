package tracing

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"strings"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/http/httpguts"
)

// Largest headers, in bytes (W3C Trace Context). A traceparent of version 00 has 55; later versions may add to it. A
// tracestate is passed on up to 512, and need not be beyond that.
const (
	maxTraceparent = 128
	maxTracestate  = 512
)

// parentOf returns the caller's span, if a request names one. A header that is wrong, too long or there twice counts
// as none.
func parentOf(header http.Header) trace.SpanContext {
	parent := header["Traceparent"]
	if len(parent) != 1 || len(parent[0]) > maxTraceparent {
		return trace.SpanContext{}
	}
	carrier := propagation.MapCarrier{"traceparent": parent[0]}
	size := 0
	for _, state := range header["Tracestate"] {
		size += len(state) + 1
	}
	if size <= maxTracestate {
		carrier["tracestate"] = strings.Join(header["Tracestate"], ",")
	}
	return trace.SpanContextFromContext(propagation.TraceContext{}.Extract(context.Background(), carrier))
}

// ParseHeaders reads headers for the collector: a line NAME: VALUE for each.
func ParseHeaders(text string) (http.Header, error) {
	wrong := errors.New("its lines are not like NAME: VALUE") // without them, since they are secret
	header, err := textproto.NewReader(bufio.NewReader(strings.NewReader(text + "\n\n"))).ReadMIMEHeader()
	if err != nil || len(header) == 0 {
		return nil, wrong
	}
	for name, values := range header {
		if !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(values[0]) {
			return nil, wrong
		}
	}
	return http.Header(header), nil
}
