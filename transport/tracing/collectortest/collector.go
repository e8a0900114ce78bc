// Package collectortest has a collector of OpenTelemetry traces for tests.
package collectortest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span that has arrived.
type Span struct {
	TraceID, ID, Parent string // hexadecimal; Parent is empty for a trace's first span
	Name, State         string // State is its tracestate
	Kind                tracepb.Span_SpanKind
	Failed              bool
	Begun, Ended        uint64            // nanoseconds since 1970
	Attributes          map[string]string // numbers in decimal
	Resource            map[string]string
}

// Collector takes spans over OTLP/HTTP.
type Collector struct {
	URL string // for posts

	mu      sync.Mutex
	spans   []Span        // guarded by mu
	raw     bytes.Buffer  // guarded by mu: the bodies of all posts
	headers []http.Header // guarded by mu: of all posts
	more    chan struct{} // guarded by mu: closed and replaced when spans arrive
}

// New returns a collector that ends with the test.
func New(t testing.TB) *Collector {
	t.Helper()
	c := &Collector{more: make(chan struct{})}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := c.take(r); err != nil {
			t.Error(err)
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
	t.Cleanup(server.Close)
	c.URL = server.URL + "/v1/traces"
	return c
}

func (c *Collector) take(r *http.Request) error {
	if r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		return fmt.Errorf("the collector got %s %s of type %q", r.Method, r.URL, r.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var request coltracepb.ExportTraceServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	c.headers = append(c.headers, r.Header)
	for _, of := range request.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				c.spans = append(c.spans, Span{TraceID: hex.EncodeToString(s.TraceId), ID: hex.EncodeToString(s.SpanId),
					Parent: hex.EncodeToString(s.ParentSpanId), Name: s.Name, State: s.TraceState, Kind: s.Kind,
					Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, Begun: s.StartTimeUnixNano,
					Ended: s.EndTimeUnixNano, Attributes: texts(s.Attributes),
					Resource: texts(of.GetResource().GetAttributes())})
			}
		}
	}
	close(c.more)
	c.more = make(chan struct{})
	return nil
}

func texts(attributes []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range attributes {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.Key] = fmt.Sprint(v.IntValue)
		}
	}
	return all
}

// Spans returns the spans of a trace that have arrived, or those of all traces, in the order in which they began.
func (c *Collector) Spans(traceID string) (spans []Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if traceID == "" || s.TraceID == traceID {
			spans = append(spans, s)
		}
	}
	slices.SortStableFunc(spans, func(a, b Span) int { return int(int64(a.Begun - b.Begun)) })
	return spans
}

// Raw returns the bodies of all posts.
func (c *Collector) Raw() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.raw.Bytes())
}

// Headers returns the headers of all posts.
func (c *Collector) Headers() []http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.headers)
}

// Await waits for the server's span of a trace, which ends last, and returns it. It arrives with those that ended
// before it, or after them.
func (c *Collector) Await(t testing.TB, traceID string) Span {
	t.Helper()
	late := time.After(2 * time.Minute) // far more than promised, so that a slow machine doesn't fail
	for {
		c.mu.Lock()
		more := c.more
		c.mu.Unlock()
		for _, s := range c.Spans(traceID) {
			if s.Kind == tracepb.Span_SPAN_KIND_SERVER {
				return s
			}
		}
		select {
		case <-more:
		case <-late:
			t.Fatalf("no span of trace %s arrives", traceID)
		}
	}
}

// Tree draws the spans below one: a line for each, as deep as it is in the tree, with its error.type.
func (c *Collector) Tree(root Span) string {
	var b strings.Builder
	c.draw(&b, root, 0)
	return b.String()
}

func (c *Collector) draw(b *strings.Builder, s Span, depth int) {
	fmt.Fprintf(b, "%s%s", strings.Repeat("  ", depth), s.Name)
	if code := s.Attributes["error.type"]; code != "" {
		fmt.Fprintf(b, " (%s)", code)
	}
	b.WriteString("\n")
	for _, child := range c.Spans(s.TraceID) {
		if child.Parent == s.ID {
			c.draw(b, child, depth+1)
		}
	}
}
