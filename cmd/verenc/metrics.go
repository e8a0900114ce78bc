package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/verenc/kms/hsm"
)

// newRegistry holds the process's metrics and the token's; transport adds the requests'.
func newRegistry(token interface{ Stats() hsm.Stats }) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	add := func(name, help string, counter bool, value func(hsm.Stats) float64) {
		read := func() float64 { return value(token.Stats()) }
		if counter {
			r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, read))
			return
		}
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	add("verenc_token_connected", "1 while the token is connected.", false, func(s hsm.Stats) float64 {
		if s.Connected {
			return 1
		}
		return 0
	})
	add("verenc_token_sessions", "PKCS#11 sessions open.", false, func(s hsm.Stats) float64 { return float64(s.Sessions) })
	add("verenc_token_sessions_busy", "PKCS#11 sessions in use.", false, func(s hsm.Stats) float64 { return float64(s.Busy) })
	add("verenc_token_stuck_calls", "Token calls past their deadline, still inside the module.", false, func(s hsm.Stats) float64 { return float64(s.Stuck) })
	add("verenc_token_waits_total", "Token calls that had to wait for a session.", true, func(s hsm.Stats) float64 { return float64(s.Waits) })
	add("verenc_token_timeouts_total", "Token calls that reached their deadline.", true, func(s hsm.Stats) float64 { return float64(s.Timeouts) })
	add("verenc_token_failures_total", "Token calls that failed.", true, func(s hsm.Stats) float64 { return float64(s.Failures) })
	add("verenc_token_connections_total", "Connections made to the token.", true, func(s hsm.Stats) float64 { return float64(s.Connections) })
	return r
}
