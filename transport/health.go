package transport

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"go.uber.org/zap"
)

const (
	readyFor     = time.Second     // for this long one result of the checks is used for all requests
	readyTimeout = 3 * time.Second // for all checks together
)

// readiness runs the checks, at most once in readyFor.
type readiness struct {
	cfg Config

	mu      sync.Mutex // held while the checks run
	checked time.Time
	failed  map[string]string // name of a failed check -> "failed"
}

// Results of checks that did not succeed.
const (
	checkFailed   = "failed"
	checkDegraded = "degraded"
)

type degraded struct{ error }

// Degraded marks the error of a check that need not keep requests away: a part of them is served.
func Degraded(err error) error { return degraded{err} }

// Health returns the handler of GET /healthz (the process serves) and GET /readyz (what it depends
// on works too).
func Health(cfg Config) http.Handler {
	r := mux.NewRouter()
	health(r, cfg)
	return r
}

func health(r *mux.Router, cfg Config) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	ready := &readiness{cfg: cfg}
	r.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		report(w, http.StatusOK, nil)
	}).Methods(http.MethodGet)
	r.HandleFunc("/readyz", ready.serve).Methods(http.MethodGet)
}

func (d *readiness) serve(w http.ResponseWriter, r *http.Request) {
	failed := d.check(r.Context())
	status := http.StatusOK
	for _, result := range failed {
		if result == checkFailed {
			status = http.StatusServiceUnavailable
		}
	}
	report(w, status, failed)
}

func (d *readiness) check(ctx context.Context) map[string]string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.cfg.Now(); d.checked.IsZero() || now.Sub(d.checked) >= readyFor {
		// Not the client's context: a client that goes away must not fail the check for others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyTimeout)
		defer cancel()
		failed := map[string]string{}
		for name, check := range d.cfg.Ready {
			if err := check(ctx); err != nil {
				failed[name] = checkFailed // the reason is for the log, not for the client
				if errors.As(err, &degraded{}) {
					failed[name] = checkDegraded
				}
				d.cfg.Log.Warn("not ready", zap.String("check", name), zap.Error(err))
			}
		}
		d.failed, d.checked = failed, d.cfg.Now()
	}
	return d.failed
}

func report(w http.ResponseWriter, status int, failed map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	body := map[string]any{"status": "ok"}
	if len(failed) > 0 {
		body = map[string]any{"status": "unavailable", "failed": failed}
		if status == http.StatusOK {
			body["status"] = checkDegraded
		}
	}
	_ = json.NewEncoder(w).Encode(body)
}
