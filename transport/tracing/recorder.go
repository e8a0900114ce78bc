package tracing

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/verenc/kms/service/span"
)

// request is what the spans of a request share.
type request struct {
	tracer trace.Tracer
	spans  atomic.Int64 // begun, the first one not counted
}

// recorder implements span.Recorder.
type recorder struct {
	of   *request
	ctx  context.Context // of OpenTelemetry: it has the span
	span trace.Span
}

var kinds = map[span.Kind]trace.SpanKind{span.Here: trace.SpanKindInternal, span.Called: trace.SpanKindClient}

// Child implements span.Recorder.
func (r *recorder) Child(name string, k span.Kind, begun time.Time) span.Recorder {
	if r.of.spans.Add(1) > spansOfRequest {
		return nil
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(kinds[k])}
	if !begun.IsZero() {
		options = append(options, trace.WithTimestamp(begun))
	}
	child := &recorder{of: r.of}
	child.ctx, child.span = r.of.tracer.Start(r.ctx, name, options...)
	return child
}

// Rename implements span.Recorder.
func (r *recorder) Rename(name string) { r.span.SetName(name) }

// Set implements span.Recorder. A text that is no UTF-8, such as a client's User-Agent, could not be sent, and with it
// all spans of the same export.
func (r *recorder) Set(name, value string) {
	r.span.SetAttributes(attribute.String(name, strings.ToValidUTF8(value, "\uFFFD")))
}

// SetInt implements span.Recorder.
func (r *recorder) SetInt(name string, value int64) {
	r.span.SetAttributes(attribute.Int64(name, value))
}

// End implements span.Recorder.
func (r *recorder) End(ended time.Time, failed bool) {
	if failed {
		r.span.SetStatus(codes.Error, "")
	}
	if n := r.of.spans.Load() - spansOfRequest; n > 0 {
		r.SetInt("verenc.spans_left_out", n)
	}
	var options []trace.SpanEndOption
	if !ended.IsZero() {
		options = append(options, trace.WithTimestamp(ended))
	}
	r.span.End(options...)
}
