package tracing

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"
)

// complainEvery is how often a line of the log says that spans are lost.
const complainEvery = time.Minute

// exporter sends spans with another exporter, and counts what becomes of them. It is shut down once, by the batch
// processor, as the last thing that this does.
type exporter struct {
	to     sdktrace.SpanExporter
	log    *zap.Logger
	now    func() time.Time
	giving context.Context // ends when no more time is left
	giveUp context.CancelFunc
	ended  chan struct{} // closed when nothing is sent any more

	queued             atomic.Int64 // spans that wait, or are being sent
	sent, full, failed atomic.Int64 // spans that were sent; that found no place; that the collector did not take

	mu         sync.Mutex
	complained time.Time // guarded by mu: the last time
	told       int64     // guarded by mu: spans lost until then
}

func newExporter(to sdktrace.SpanExporter, log *zap.Logger, now func() time.Time) *exporter {
	e := &exporter{to: to, log: log, now: now, ended: make(chan struct{})}
	e.giving, e.giveUp = context.WithCancel(context.Background())
	return e
}

func (e *exporter) register(r prometheus.Registerer) error {
	counter := func(o prometheus.CounterOpts, n *atomic.Int64) error {
		return r.Register(prometheus.NewCounterFunc(o, func() float64 { return float64(n.Load()) }))
	}
	if err := counter(prometheus.CounterOpts{Name: "verenc_tracing_spans_sent_total",
		Help: "Spans that the collector of traces has taken."}, &e.sent); err != nil {
		return err
	}
	for reason, n := range map[string]*atomic.Int64{"queue": &e.full, "collector": &e.failed} {
		if err := counter(prometheus.CounterOpts{Name: "verenc_tracing_spans_dropped_total",
			Help:        "Spans that were lost, since too many waited or since the collector of traces did not take them.",
			ConstLabels: prometheus.Labels{"reason": reason}}, n); err != nil {
			return err
		}
	}
	return nil
}

// ExportSpans implements sdktrace.SpanExporter. It gives no error: complain has told it.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.giving, cancel)()
	err := e.to.ExportSpans(ctx, spans)
	n := int64(len(spans))
	e.queued.Add(-n)
	if err == nil {
		e.sent.Add(n)
	} else {
		e.failed.Add(n)
	}
	if err != nil || e.full.Load() > 0 {
		e.complain(err)
	}
	return nil
}

// Shutdown implements sdktrace.SpanExporter.
func (e *exporter) Shutdown(ctx context.Context) error {
	defer close(e.ended)
	return e.to.Shutdown(ctx)
}

// maxComplaint is how many bytes of an error get into the log: a collector's answer is a part of it.
const maxComplaint = 300

// complain says in the log why spans are lost, if it has not done so for a while. Without an error, too many waited.
func (e *exporter) complain(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	lost, now := e.full.Load()+e.failed.Load(), e.now()
	if err == nil && lost == e.told || !e.complained.IsZero() && now.Sub(e.complained) < complainEvery {
		return
	}
	why := "spans come faster than the collector takes them"
	if err != nil {
		why = err.Error()
	}
	e.log.Warn("traces are lost", zap.String("cause", why[:min(len(why), maxComplaint)]),
		zap.Int64("spans", lost-e.told))
	e.complained, e.told = now, lost
}

// queue is a batch processor that counts the spans which find no place. The batch processor's own queue has as many
// places as this one, and so always one for what this one lets in.
type queue struct {
	sdktrace.SpanProcessor
	out *exporter
}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.out.queued.Add(1) > maxQueued {
		q.out.queued.Add(-1)
		q.out.full.Add(1)
		return
	}
	q.SpanProcessor.OnEnd(s)
}
