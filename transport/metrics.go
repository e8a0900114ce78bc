package transport

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests by operation and outcome.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	named    map[string]operationMetrics // by operation: what WithLabelValues would look for
}

type operationMetrics struct {
	succeeded prometheus.Counter
	seconds   prometheus.Observer
}

var requestBuckets = prometheus.ExponentialBuckets(0.0001, 2.5, 13) // 0.1 ms to 6 s

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verenc_requests_total",
			Help: "Requests by operation and exception; the exception of a success is empty.",
		}, []string{"operation", "error"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "verenc_request_seconds",
			Help:    "Time from the first byte of a request's body to the answer, by operation.",
			Buckets: requestBuckets,
		}, []string{"operation"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	var names []string // so that each exists before its first request
	for _, o := range operations {
		names = append(names, o.label)
	}
	for action := range stsOperations {
		names = append(names, stsPrefix+action)
	}
	m.named = make(map[string]operationMetrics, len(names))
	for _, name := range names {
		m.named[name] = operationMetrics{m.requests.WithLabelValues(name, ""), m.seconds.WithLabelValues(name)}
	}
	return m, nil
}

// observe counts a request. The id of the trace that was made of it, if there is one, becomes an exemplar.
func (m *metrics) observe(operation, code string, took time.Duration, traceID string) {
	of, named := m.named[operation]
	if !named || code != "" {
		of = operationMetrics{m.requests.WithLabelValues(operation, code), m.seconds.WithLabelValues(operation)}
	}
	of.succeeded.Inc()
	if with, ok := of.seconds.(prometheus.ExemplarObserver); ok && traceID != "" {
		with.ObserveWithExemplar(took.Seconds(), prometheus.Labels{"trace_id": traceID})
		return
	}
	of.seconds.Observe(took.Seconds())
}
