package history

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counted is a registry with the metrics that a History reads.
type counted struct {
	*prometheus.Registry
	requests *prometheus.CounterVec
	stuck    prometheus.Gauge
}

func newCounted() *counted {
	c := &counted{Registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: requestsMetric},
			[]string{"operation", errorLabel}),
		stuck: prometheus.NewGauge(prometheus.GaugeOpts{Name: stuckMetric})}
	c.MustRegister(c.requests, c.stuck)
	return c
}

func newHistory(t *testing.T, cfg Config) *History {
	t.Helper()
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHistory takes samples every ten seconds, and gives rates of them.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounted()
		var records, call, pings atomic.Int64
		var broken atomic.Bool
		records.Store(1000)
		call.Store(int64(2 * time.Millisecond))
		h := newHistory(t, Config{Metrics: c, Records: func() (int64, bool) { return records.Load(), true },
			Ping: func(context.Context) error {
				pings.Add(1)
				time.Sleep(time.Duration(call.Load()))
				if broken.Load() {
					return errors.New("the token is gone")
				}
				return nil
			}})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			h.Run(ctx)
		}()
		// Half a second behind the samples, so that a step has those of its ten seconds.
		time.Sleep(500 * time.Millisecond)
		step := func() Step { return h.Steps(Interval, 1)[0] }
		if s := step(); !math.IsNaN(s.Requests) || s.Records != 1000 || s.TokenCall != 0.002 {
			t.Errorf("at first: %+v", s)
		}
		c.requests.WithLabelValues("Encrypt", "").Add(70)
		c.requests.WithLabelValues("Decrypt", "AccessDeniedException").Add(20)
		c.requests.WithLabelValues("Decrypt", "KMSInternalException").Add(10)
		records.Store(1100)
		call.Store(int64(3 * time.Millisecond))
		time.Sleep(Interval)
		if s := step(); s.Requests != 10 || s.Refused != 2 || s.Failed != 1 || s.Records != 1100 ||
			s.TokenCall != 0.003 {
			t.Errorf("after ten seconds: %+v", s)
		}
		broken.Store(true)
		time.Sleep(Interval)
		if s := step(); s.Requests != 0 || !math.IsNaN(s.TokenCall) {
			t.Errorf("without a token: %+v", s)
		}
		c.stuck.Set(1)
		before := pings.Load()
		time.Sleep(Interval)
		if pings.Load() != before {
			t.Error("a token that hangs is asked")
		}
		all := h.Steps(Interval, 5)
		if got := fmt.Sprint(all[0].Requests, all[1].Records, all[2].Requests, all[3].Requests, all[4].Requests); got !=
			"NaN 1000 10 0 0" {
			t.Errorf("the steps are %+v", all)
		}
		if s := h.Steps(4*Interval, 1)[0]; s.TokenCall != 0.003 || s.Records != 1100 {
			t.Errorf("of all: %+v", s)
		}
		cancel()
		<-ended
	})
}

// TestHistoryIsBounded: it has the samples of a day, and no more.
func TestHistoryIsBounded(t *testing.T) {
	c := newCounted()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := newHistory(t, Config{Metrics: c, Records: func() (int64, bool) { return 0, false },
		Ping: func(context.Context) error { return nil }, Now: func() time.Time { return now }})
	for range samples + 100 {
		c.requests.WithLabelValues("Encrypt", "").Add(30)
		h.take(t.Context())
		now = now.Add(Interval)
	}
	if len(h.ring) != samples {
		t.Errorf("it has %d samples", len(h.ring))
	}
	all := h.Steps(time.Hour, 26)
	for i, s := range all {
		if i > 2 && s.Requests != 3 || i < 2 && !math.IsNaN(s.Requests) || !math.IsNaN(s.Records) {
			t.Errorf("hour %d: %+v", i, s)
		}
	}
	if _, err := New(Config{}); err == nil {
		t.Error("a history of nothing is made")
	}
}
