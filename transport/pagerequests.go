package transport

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/transport/console"
)

// pageHandler serves the pages, and logs and counts the requests for them.
type pageHandler struct {
	pages   *console.Handler
	cfg     Config
	metrics *pageMetrics
}

func (h *pageHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun, id := h.cfg.Now(), uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", id)
	sent := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	h.pages.ServeHTTP(sent, r)
	route, took := h.pages.Route(r), h.cfg.Now().Sub(begun)
	h.metrics.observe(route, sent.status, took)
	ip, err := h.cfg.ClientIP(r)
	const longest = 200 // bytes, more than any address of a page has
	address := r.URL.Path
	log := h.cfg.Log
	if sent.status < http.StatusBadRequest && err == nil {
		log = h.cfg.Succeeded
	}
	log.Info("request", zap.String("request_id", id), zap.String("operation", r.Method+" "+route),
		zap.Int("status", sent.status), zap.Float64("took_ms", float64(took.Microseconds())/1000),
		zap.String("path", address[:min(len(address), longest)]), zap.String("source_ip", ip),
		zap.String("user_agent", r.UserAgent()), zap.Error(err))
}

// statusWriter knows the status of the answer that passes it.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// pageMetrics counts requests for pages by route and status. A route is of a kind of pages, so that no client can make
// labels.
type pageMetrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newPageMetrics(r prometheus.Registerer) (*pageMetrics, error) {
	m := &pageMetrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "verenc_page_requests_total",
			Help: "Requests for pages of the documentation and the console, by route and status.",
		}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "verenc_page_request_seconds",
			Help:    "Time from a request for a page to its answer, by route.",
			Buckets: requestBuckets,
		}, []string{"route"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of pages: %w", err)
		}
	}
	return m, nil
}

func (m *pageMetrics) observe(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}
