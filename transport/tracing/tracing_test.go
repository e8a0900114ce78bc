package tracing

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/verenc/kms/service/span"
	"github.com/verenc/kms/transport/tracing/collectortest"
)

const (
	sampled   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID    = "00f067aa0ba902b7"
)

// bench is a tracer, with its log and its metrics.
type bench struct {
	*Tracer
	log     *observer.ObservedLogs
	metrics *prometheus.Registry
}

func newBench(t testing.TB, url string, change func(*Config)) *bench {
	t.Helper()
	core, log := observer.New(zapcore.InfoLevel)
	b := &bench{log: log, metrics: prometheus.NewRegistry()}
	cfg := Config{Endpoint: url, Sample: 1, Version: "v1", Log: zap.New(core), Metrics: b.metrics,
		Delay: time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	var err error
	if b.Tracer, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bench) dropped(t testing.TB, reason string) float64 {
	t.Helper()
	families, err := b.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "verenc_tracing_spans_dropped_total" && m.GetLabel()[0].GetValue() == reason {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no metric of spans dropped by the %s", reason)
	return 0
}

func headers(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h.Add(pairs[i], pairs[i+1])
	}
	return h
}

// TestShare: no client has more of its requests traced than the configured share, whatever it says of its traces, and
// a client may leave its own out.
func TestShare(t *testing.T) {
	drawn := 0
	b := newBench(t, collectortest.New(t).URL, func(c *Config) {
		c.Sample = 0.25
		c.Random = func() float64 { drawn++; return float64(drawn%8) / 8 }
	})
	defer b.Close()
	for _, test := range []struct {
		name   string
		header http.Header
		want   int
		id     string // of what is not traced
	}{
		{"no parent", nil, 200, ""},
		{"a parent that is sampled", headers("Traceparent", sampled), 200, traceID},
		{"a trace id that others would sample", headers("Traceparent",
			"00-00000000000000000000000000000001-00f067aa0ba902b7-01"), 200, "00000000000000000000000000000001"},
		{"a parent that is not sampled", headers("Traceparent", unsampled), 0, traceID},
		{"a vendor's wish", headers("Traceparent", sampled, "Tracestate", "dd=s:2,ot=th:0"), 200, traceID},
	} {
		drawn = 0
		traced := 0
		for range 800 {
			_, s, id := b.Begin(t.Context(), test.header)
			if s != nil {
				traced++
				s.End("")
			} else if id != test.id {
				t.Fatalf("%s: the trace id is %q", test.name, id)
			}
		}
		if traced != test.want {
			t.Errorf("%s: %d of 800 requests are traced, and not %d", test.name, traced, test.want)
		}
	}
}

// TestParent: the caller's span is the parent, and its tracestate is passed on. What is not in the form of W3C Trace
// Context, too long or there twice counts as none.
func TestParent(t *testing.T) {
	long := "a=" + strings.Repeat("x", 250)
	for _, test := range []struct {
		name                 string
		header               http.Header
		trace, parent, state string
	}{
		{"none", headers(), "", "", ""},
		{"a state alone", headers("Tracestate", "a=b"), "", "", ""},
		{"a parent", headers("Traceparent", sampled), traceID, spanID, ""},
		{"a parent with a state", headers("Traceparent", sampled, "Tracestate", "a=b", "Tracestate", "c=d"), traceID,
			spanID, "a=b,c=d"},
		{"a state that is long", headers("Traceparent", sampled, "Tracestate", long), traceID, spanID, long},
		{"a state that is too long", headers("Traceparent", sampled, "Tracestate", long, "Tracestate", "b"+long,
			"Tracestate", "c"+long), traceID, spanID, ""},
		{"a state that is none", headers("Traceparent", sampled, "Tracestate", "a=b\x01,,=\""), traceID, spanID, ""},
		{"two parents", headers("Traceparent", sampled, "Traceparent", sampled), "", "", ""},
		{"a later version", headers("Traceparent", "01"+sampled[2:]+"-more"), traceID, spanID, ""},
		{"a version that is none", headers("Traceparent", "ff"+sampled[2:]), "", "", ""},
		{"zeros", headers("Traceparent", "00-"+strings.Repeat("0", 32)+"-"+spanID+"-01"), "", "", ""},
		{"too long", headers("Traceparent", "01"+sampled[2:]+"-"+strings.Repeat("x", 100)), "", "", ""},
		{"rubbish", headers("Traceparent", "00-\xff\x00-"+spanID+"-01"), "", "", ""},
	} {
		p := parentOf(test.header)
		got := [3]string{}
		if p.IsValid() {
			got = [3]string{p.TraceID().String(), p.SpanID().String(), p.TraceState().String()}
		}
		if want := [3]string{test.trace, test.parent, test.state}; got != want {
			t.Errorf("%s: %q, and not %q", test.name, got, want)
		}
	}
}

func FuzzParent(f *testing.F) {
	f.Add(sampled, "a=b,c=d")
	f.Add(unsampled, "")
	f.Add("01"+sampled[2:]+"-more", strings.Repeat("a=b,", 200))
	f.Fuzz(func(t *testing.T, parent, state string) {
		p := parentOf(http.Header{"Traceparent": {parent}, "Tracestate": {state}})
		if !p.IsValid() {
			return
		}
		again := fmt.Sprintf("00-%s-%s-%s", p.TraceID(), p.SpanID(), p.TraceFlags())
		if q := parentOf(headers("Traceparent", again, "Tracestate", p.TraceState().String())); !q.Equal(p) {
			t.Errorf("%q, %q: %v, and then %v", parent, state, p, q)
		}
		if len(p.TraceState().String()) > maxTracestate {
			t.Errorf("a tracestate of %d bytes", len(p.TraceState().String()))
		}
	})
}

// TestTree: spans arrive as they are within each other, with their attributes and times.
func TestTree(t *testing.T) {
	collector := collectortest.New(t)
	b := newBench(t, collector.URL, nil)
	ctx, root, id := b.Begin(t.Context(), headers("Traceparent", sampled, "Tracestate", "a=b"))
	within, inner := span.Start(ctx, "inner")
	span.Call(within, "call").End("CODE")
	inner.Set("text", strings.Repeat("x", 2*maxAttribute))
	inner.Set("no text", "a\xffb\x00")
	inner.SetInt("number", 7)
	inner.End("")
	past := time.Unix(1_000_000_000, 5)
	root.CallAt("past", past).EndAt(past.Add(time.Second), "")
	root.Rename("renamed")
	root.EndAnswered("Refused", false)
	b.Close()
	if id != traceID {
		t.Errorf("the trace id is %s", id)
	}
	got := collector.Await(t, traceID)
	const want = "renamed (Refused)\n  past\n  inner\n    call (CODE)\n"
	if tree := collector.Tree(got); tree != want || got.Parent != spanID || got.State != "a=b" || got.Failed ||
		got.Resource["service.version"] != "v1" {
		t.Errorf("%s%+v", tree, got)
	}
	for _, s := range collector.Spans(traceID) {
		switch s.Name {
		case "inner":
			if len(s.Attributes["text"]) != maxAttribute || s.Attributes["number"] != "7" ||
				s.Attributes["no text"] != "a\ufffdb\x00" {
				t.Errorf("%+v", s)
			}
		case "call":
			if !s.Failed {
				t.Errorf("%+v", s)
			}
		case "past":
			if s.Begun != uint64(past.UnixNano()) || s.Ended-s.Begun != uint64(time.Second) {
				t.Errorf("%+v", s)
			}
		}
	}
	if n := b.out.sent.Load(); n != 4 {
		t.Errorf("%d spans are counted as sent", n)
	}
}

// TestSpansOfRequest: a request that does a great deal has so many spans and no more.
func TestSpansOfRequest(t *testing.T) {
	collector := collectortest.New(t)
	b := newBench(t, collector.URL, nil)
	ctx, root, id := b.Begin(t.Context(), nil)
	for range 2 * spansOfRequest {
		span.Call(ctx, "call").End("")
	}
	root.End("")
	b.Close()
	if got := len(collector.Spans(id)); got != spansOfRequest+1 {
		t.Errorf("%d spans", got)
	}
	if got := collector.Await(t, id).Attributes["verenc.spans_left_out"]; got != fmt.Sprint(spansOfRequest) {
		t.Errorf("%s spans are left out", got)
	}
}

// TestCollectors: whatever a collector does, spans that it does not take are counted, the log has one line in a
// minute, which is short, and the tracer ends.
func TestCollectors(t *testing.T) {
	rubbish := bytes.Repeat([]byte{0xff}, 1<<20)
	for name, handler := range map[string]http.HandlerFunc{
		"refuses": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(rubbish)
		},
		"answers rubbish": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write(rubbish[:100])
		},
		"answers without end": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			_, _ = w.Write(rubbish)
		},
		"sends elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:9/", http.StatusTemporaryRedirect)
		},
		"breaks off": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(handler)
			defer server.Close()
			now := time.Unix(0, 0)
			b := newBench(t, server.URL, func(c *Config) { c.Now = func() time.Time { return now } })
			for range 3 {
				_, s, _ := b.Begin(t.Context(), nil)
				s.End("")
				if err := b.provider.ForceFlush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if n := b.dropped(t, "collector"); n != 3 {
				t.Errorf("%v spans are counted as dropped", n)
			}
			if lines := b.log.FilterMessage("traces are lost").All(); len(lines) != 1 ||
				len(lines[0].ContextMap()["cause"].(string)) > maxComplaint {
				t.Errorf("the log has %v", lines)
			}
			now = now.Add(complainEvery)
			_, s, _ := b.Begin(t.Context(), nil)
			s.End("")
			b.Close()
			lines := b.log.FilterMessage("traces are lost").All()
			if len(lines) != 2 || lines[1].ContextMap()["spans"] != int64(3) {
				t.Errorf("the log has %v", lines)
			}
		})
	}
}

// TestHangingCollector: a collector that takes spans and does not answer fills the queue. Requests go on all the same,
// what finds no place is counted, and the end does not wait for it for ever.
func TestHangingCollector(t *testing.T) {
	asked := make(chan struct{})
	once := sync.OnceFunc(func() { close(asked) })
	var ended sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ended.Add(1)
		defer ended.Done()
		_, _ = io.Copy(io.Discard, r.Body) // then net/http notices that the client goes away
		once()
		<-r.Context().Done()
	}))
	defer server.Close()
	b := newBench(t, server.URL, nil)
	one := func() {
		_, s, _ := b.Begin(t.Context(), nil)
		s.End("")
	}
	one()
	<-asked
	for range maxQueued + 99 {
		one()
	}
	if n := b.dropped(t, "queue"); n != 100 {
		t.Errorf("%v spans are counted as dropped", n)
	}
	b.Close()
	if n := b.dropped(t, "collector"); n != maxQueued {
		t.Errorf("%v spans are counted as not taken", n)
	}
	ended.Wait()
}

func TestParseEndpoint(t *testing.T) {
	for text, want := range map[string]string{
		"http://127.0.0.1:4318":                   "http://127.0.0.1:4318/v1/traces",
		"https://otlp.example.com/":               "https://otlp.example.com/v1/traces",
		"https://otlp.example.com/otlp/v1/traces": "https://otlp.example.com/otlp/v1/traces",
	} {
		if got, err := ParseEndpoint(text); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "127.0.0.1:4318", "grpc://a:4317", "http://", "http://user:secret@a/", "http://a/?b",
		"http://a/#b", "http://[::1"} {
		if got, err := ParseEndpoint(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func TestParseHeaders(t *testing.T) {
	got, err := ParseHeaders("authorization: Bearer a:b\nX-Scope-OrgID:  kms")
	if err != nil || got.Get("Authorization") != "Bearer a:b" || got.Get("X-Scope-OrgID") != "kms" || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
	for _, text := range []string{"", "secret", "a b: secret", ": secret"} {
		if got, err := ParseHeaders(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
