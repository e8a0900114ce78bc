// Package tracing makes OpenTelemetry traces of requests, and sends them to a collector over OTLP/HTTP, in protobuf.
//
// What it protects: the service, from clients and from the collector. A client's traceparent can have a request left
// out, and can name the trace that it belongs to; it can't have more requests traced than Config.Sample says. What it
// may send is bounded, and so is what waits for the collector. A collector that is away, slow or answers anything
// else changes no answer and holds no request up: its spans are dropped and counted.
//
// What it trusts: the code of OpenTelemetry's SDK, and package span's users to set nothing that is secret. The
// environment variables of OpenTelemetry have no effect, except for OTEL_RESOURCE_ATTRIBUTES, which adds attributes
// to the resource.
package tracing

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/verenc/kms/service/span"
)

// Limits of what waits, and of what is told of one request.
const (
	maxQueued      = 4096             // spans that wait for the collector, of about 1 KB each
	batch          = 512              // spans of one export at most
	exportTimeout  = 10 * time.Second // for one export and its repetitions
	flushTimeout   = 5 * time.Second  // for what waits when the server ends
	maxAttribute   = 1024             // characters of an attribute; the rest is cut off
	maxAttributes  = 32               // of a span
	spansOfRequest = 128
	maxAnswer      = 64 << 10 // bytes of a collector's answer
)

// Config configures a Tracer. Members without a default are required.
type Config struct {
	// Endpoint is the URL to which traces are posted, as ParseEndpoint returns it.
	Endpoint string
	// Headers, if set, gives headers for each post. Their values appear in no error.
	Headers func() http.Header
	// Sample is the share of requests that are traced, from 0 to 1.
	Sample  float64
	Version string // of the program
	Log     *zap.Logger
	Metrics prometheus.Registerer

	Delay  time.Duration    // how long a span waits for others, to be sent with them; default 5 s
	Random func() float64   // at least 0 and less than 1, to choose requests by; default rand.Float64
	Now    func() time.Time // for the rate of log lines; default time.Now
}

// Tracer implements transport.Tracer. Its methods may be called concurrently.
type Tracer struct {
	cfg      Config
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	out      *exporter
	client   *http.Client
}

// ParseEndpoint checks the URL of a collector, and gives it the path /v1/traces if it has none.
func ParseEndpoint(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" ||
		u.Fragment != "" {
		return "", errors.New("the URL is not like https://collector.example.com:4318/v1/traces")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	return u.String(), nil
}

// New returns a Tracer. It sends nothing before the first request, and does not need the collector to be there. Close
// ends its goroutine.
func New(cfg Config) (*Tracer, error) {
	if cfg.Delay == 0 {
		cfg.Delay = 5 * time.Second
	}
	if cfg.Random == nil {
		cfg.Random = rand.Float64
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	// There is one logger, and one handler of errors, for the process. What the SDK logs is only what it finds wrong
	// with variables that have no effect here, with their values.
	otel.SetLogger(logr.Discard())
	t := &Tracer{cfg: cfg, client: newClient(cfg.Headers)}
	// Each option has its value here, also where it is the default, since the default is the environment's.
	to, err := otlptrace.New(context.Background(), otlptracehttp.NewClient(
		otlptracehttp.WithEndpointURL(cfg.Endpoint), otlptracehttp.WithHTTPClient(t.client),
		otlptracehttp.WithTLSClientConfig(nil), otlptracehttp.WithHeaders(nil),
		otlptracehttp.WithTimeout(exportTimeout),
		otlptracehttp.WithCompression(otlptracehttp.NoCompression),
		otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf), otlptracehttp.WithMaxResponseSize(maxAnswer),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: time.Second,
			MaxInterval: 4 * time.Second, MaxElapsedTime: exportTimeout}),
	))
	if err != nil {
		return nil, fmt.Errorf("trace requests: %w", err)
	}
	t.out = newExporter(to, cfg.Log, cfg.Now)
	if err := t.out.register(cfg.Metrics); err != nil {
		return nil, fmt.Errorf("trace requests: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(t.out.complain))
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // Begin has decided
		sdktrace.WithResource(describe(cfg.Version)),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{AttributeValueLengthLimit: maxAttribute,
			AttributeCountLimit: maxAttributes}),
		sdktrace.WithSpanProcessor(&queue{out: t.out, SpanProcessor: sdktrace.NewBatchSpanProcessor(t.out,
			sdktrace.WithMaxQueueSize(maxQueued), sdktrace.WithMaxExportBatchSize(batch),
			sdktrace.WithBatchTimeout(cfg.Delay), sdktrace.WithExportTimeout(exportTimeout))}),
	)
	t.tracer = t.provider.Tracer("github.com/verenc/kms")
	return t, nil
}

// describe says which server it is whose spans these are.
func describe(version string) *resource.Resource {
	attributes := []attribute.KeyValue{attribute.String("service.name", "verenc-kms"),
		attribute.String("service.version", version), attribute.String("service.instance.id", uuid.NewString())}
	if host, err := os.Hostname(); err == nil {
		attributes = append(attributes, attribute.String("host.name", host))
	}
	return resource.NewSchemaless(attributes...)
}

// newClient returns the client for the collector. It does not follow redirects: their target was not configured.
func newClient(headers func() http.Header) *http.Client {
	c := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone(),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if headers != nil {
		c.Transport = withHeaders{c.Transport.(*http.Transport), headers}
	}
	return c
}

// withHeaders adds headers to requests.
type withHeaders struct {
	*http.Transport
	headers func() http.Header
}

// RoundTrip implements http.RoundTripper.
func (t withHeaders) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range t.headers() {
		r.Header[name] = values
	}
	return t.Transport.RoundTrip(r)
}

// Begin implements transport.Tracer.
//
// A request is traced if its traceparent does not say that the caller's trace is left out, and then with the
// probability Config.Sample. Whether the caller's trace is sampled does not raise it, and the trace id does not decide:
// both are chosen by the client, which nothing is known of yet.
func (t *Tracer) Begin(ctx context.Context, header http.Header) (context.Context, *span.Span, string) {
	parent, id := parentOf(header), ""
	if parent.IsValid() {
		id = parent.TraceID().String()
	}
	if parent.IsValid() && !parent.IsSampled() || t.cfg.Random() >= t.cfg.Sample {
		return ctx, nil, id
	}
	r := &recorder{of: &request{tracer: t.tracer}}
	r.ctx = trace.ContextWithRemoteSpanContext(context.Background(), parent)
	r.ctx, r.span = t.tracer.Start(r.ctx, "HTTP", trace.WithSpanKind(trace.SpanKindServer))
	ctx, s := span.New(ctx, r)
	return ctx, s, r.span.SpanContext().TraceID().String()
}

// Close sends what waits, for a few seconds at most, and ends the Tracer. Spans that end afterwards are forgotten.
func (t *Tracer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = t.provider.Shutdown(ctx) // when the time is over, the spans that are left are counted as dropped
	t.out.giveUp()
	<-t.out.ended
	t.client.CloseIdleConnections()
}
