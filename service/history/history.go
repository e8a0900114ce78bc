// Package history keeps what a server has counted in the last day, so that people can look at it without
// a monitoring system: requests and errors, how long the token takes, how the audit log grows.
//
// The numbers are those of the server's own metrics, read every ten seconds. They are in memory only:
// they begin with the server, and those of other servers are not among them.
package history

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// What is kept: a day of samples, of 48 bytes each.
const (
	Interval = 10 * time.Second
	samples  = int(24 * time.Hour / Interval)

	pingTimeout = 5 * time.Second
)

// Config is what a History reads.
type Config struct {
	Metrics prometheus.Gatherer                // with those of package transport; required
	Ping    func(ctx context.Context) error    // makes a short call to the token; required
	Records func() (inAuditLog int64, ok bool) // required; not ok when no audit log is kept
	Now     func() time.Time                   // default time.Now
}

// History is written by Run. Its methods may be called concurrently.
type History struct {
	cfg Config

	mu   sync.Mutex // guards what follows
	ring []sample
	next int // where the next sample goes once the ring is full
}

// sample is what was counted at one time, since the start.
type sample struct {
	at                        time.Time
	requests, refused, failed float64
	records                   float64 // in the audit log; NaN when there is none
	call                      float64 // seconds that a call to the token took; NaN when it did not end well
}

// New returns a History without samples.
func New(cfg Config) (*History, error) {
	if cfg.Metrics == nil || cfg.Ping == nil || cfg.Records == nil {
		return nil, errors.New("new history: Metrics, Ping and Records are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &History{cfg: cfg}, nil
}

// Run takes samples until ctx ends.
func (h *History) Run(ctx context.Context) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for ctx.Err() == nil {
		h.take(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Names of metrics: those of package transport and of the program.
const (
	requestsMetric = "verenc_requests_total"
	errorLabel     = "error"
	stuckMetric    = "verenc_token_stuck_calls"
)

// failures are the exceptions that are no fault of the client's.
var failures = []string{"KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"}

func (h *History) take(ctx context.Context) {
	s := sample{at: h.cfg.Now(), call: math.NaN(), records: math.NaN()}
	families, _ := h.cfg.Metrics.Gather() // with an error it gives what it has
	stuck := false
	for _, f := range families {
		switch f.GetName() {
		case requestsMetric:
			s.count(f)
		case stuckMetric:
			stuck = f.GetMetric()[0].GetGauge().GetValue() > 0
		}
	}
	if n, ok := h.cfg.Records(); ok {
		s.records = float64(n)
	}
	if !stuck { // a token that hangs is not asked further questions
		s.call = h.ping(ctx)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.ring) < samples {
		h.ring = append(h.ring, s)
		return
	}
	h.ring[h.next] = s
	h.next = (h.next + 1) % samples
}

// count adds up the requests of all operations.
func (s *sample) count(f *dto.MetricFamily) {
	for _, m := range f.GetMetric() {
		n := m.GetCounter().GetValue()
		s.requests += n
		for _, l := range m.GetLabel() {
			switch {
			case l.GetName() != errorLabel || l.GetValue() == "":
			case slices.Contains(failures, l.GetValue()):
				s.failed += n
			default:
				s.refused += n
			}
		}
	}
}

func (h *History) ping(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	begun := h.cfg.Now()
	if err := h.cfg.Ping(ctx); err != nil {
		return math.NaN()
	}
	return h.cfg.Now().Sub(begun).Seconds()
}

// Step is a period of time. A value that is not known is NaN.
type Step struct {
	Begin                     time.Time
	Requests, Refused, Failed float64 // a second; Refused and Failed are among Requests
	TokenCall                 float64 // seconds: the longest of the period's calls, one a sample
	Records                   float64 // in the audit log at the end
}

// Steps gives so many steps of a length, the last of which is not over. They begin at multiples of the
// length, which must be one of Interval.
func (h *History) Steps(length time.Duration, count int) []Step {
	all := h.ordered()
	begin := h.cfg.Now().Truncate(length).Add(-time.Duration(count-1) * length)
	steps := make([]Step, count)
	for i := range steps {
		steps[i] = stepOf(all, begin.Add(time.Duration(i)*length), length)
	}
	return steps
}

// ordered copies the samples, the oldest first.
func (h *History) ordered() []sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Concat(h.ring[h.next:], h.ring[:h.next])
}

// stepOf compares the last sample of a period with the last one before it.
func stepOf(all []sample, begin time.Time, length time.Duration) Step {
	step := Step{Begin: begin, Requests: math.NaN(), Refused: math.NaN(), Failed: math.NaN(), TokenCall: math.NaN(),
		Records: math.NaN()}
	from, _ := slices.BinarySearchFunc(all, begin, func(s sample, t time.Time) int { return s.at.Compare(t) })
	to, _ := slices.BinarySearchFunc(all, begin.Add(length), func(s sample, t time.Time) int { return s.at.Compare(t) })
	if from == to {
		return step
	}
	for _, s := range all[from:to] {
		if !(step.TokenCall >= s.call) && !math.IsNaN(s.call) {
			step.TokenCall = s.call
		}
	}
	last := all[to-1]
	step.Records = last.records
	if from == 0 {
		return step
	}
	first := all[from-1]
	seconds := last.at.Sub(first.at).Seconds()
	step.Requests = (last.requests - first.requests) / seconds
	step.Refused = (last.refused - first.refused) / seconds
	step.Failed = (last.failed - first.failed) / seconds
	return step
}
