package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/audit/witness"
)

// addHiddenDataKeys adds the metric that says whether data keys are generated and wrapped in the
// token.
func addHiddenDataKeys(r *prometheus.Registry, can service.Capabilities) {
	for size, wraps := range can.WrapDataKeys {
		value := truth(wraps)
		r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "verenc_token_hides_data_keys",
			Help:        "1 if data keys of GenerateDataKeyWithoutPlaintext of this size are in no memory but the token's.",
			ConstLabels: prometheus.Labels{"bytes": strconv.Itoa(size)}}, func() float64 { return value }))
	}
}

// truth is a condition as the value of a metric.
func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// newRegistry returns a registry with the metrics of the process and the token; transport adds
// those of requests.
func newRegistry(token interface{ Stats() hsm.Stats }, log *audit.Log) *prometheus.Registry {
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
	add("verenc_token_connected", "1 while the token is connected.", false,
		func(s hsm.Stats) float64 { return truth(s.Connected) })
	add("verenc_token_sessions", "PKCS#11 sessions open.", false,
		func(s hsm.Stats) float64 { return float64(s.Sessions) })
	add("verenc_token_sessions_busy", "PKCS#11 sessions in use.", false,
		func(s hsm.Stats) float64 { return float64(s.Busy) })
	add("verenc_token_held_keys", "Wrapped keys held unwrapped in the token.", false,
		func(s hsm.Stats) float64 { return float64(s.Held) })
	add("verenc_token_stuck_calls", "Token calls past their deadline, still inside the module.", false,
		func(s hsm.Stats) float64 { return float64(s.Stuck) })
	add("verenc_token_refusing", "1 while new calls are refused at once, since too many are stuck.", false,
		func(s hsm.Stats) float64 { return truth(s.Refusing) })
	add("verenc_token_waits_total", "Token calls that had to wait for a session.", true,
		func(s hsm.Stats) float64 { return float64(s.Waits) })
	add("verenc_token_timeouts_total", "Token calls that reached their deadline.", true,
		func(s hsm.Stats) float64 { return float64(s.Timeouts) })
	add("verenc_token_failures_total", "Token calls that failed.", true,
		func(s hsm.Stats) float64 { return float64(s.Failures) })
	add("verenc_token_connections_total", "Connections made to the token.", true,
		func(s hsm.Stats) float64 { return float64(s.Connections) })
	add("verenc_token_reinitializations_total", "Times that the PKCS#11 module was initialised again.", true,
		func(s hsm.Stats) float64 { return float64(s.Reinitializations) })
	add("verenc_token_objects", "Token objects with a CKA_ID like the service's.", false,
		func(s hsm.Stats) float64 { return float64(s.Objects) })
	add("verenc_token_free_memory_bytes",
		"Free memory for private objects as the token reports it; 0 if it does not.", false,
		func(s hsm.Stats) float64 { return float64(s.FreeMemory) })
	add("verenc_token_memory_bytes",
		"Total memory for private objects as the token reports it; 0 if it does not.", false,
		func(s hsm.Stats) float64 { return float64(s.TotalMemory) })
	if log != nil {
		addAudit(r, log)
	}
	return r
}

func addAudit(r *prometheus.Registry, log *audit.Log) {
	counter := func(name, help string, value func(audit.Stats) int64) {
		r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 {
			return float64(value(log.Stats()))
		}))
	}
	counter("verenc_audit_records_total", "Records appended to the audit log since the start.",
		func(s audit.Stats) int64 { return s.Appended })
	counter("verenc_audit_syncs_total", "Writes of the audit log to the disk since the start.",
		func(s audit.Stats) int64 { return s.Syncs })
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "verenc_audit_unsealed_records",
		Help: "Records after the last signed checkpoint."},
		func() float64 { s := log.Stats(); return float64(s.Records - s.Sealed) }))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "verenc_audit_failing",
		Help: "1 while the audit log takes no records."},
		func() float64 { return truth(log.Stats().Failure != nil) }))
	for i, o := range log.Stats().Outputs {
		labels := prometheus.Labels{"output": o.Name}
		r.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: "verenc_audit_dropped_total",
				Help: "Records that an output which is not required has missed.", ConstLabels: labels},
			func() float64 { return float64(log.Stats().Outputs[i].Dropped) }))
	}
}

func addAuditWitness(r *prometheus.Registry, w *witness.Witness) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "verenc_audit_witness_faults_total",
		Help: "Times that an audit log, this server's or another one's, was found not to be what it was."},
		func() float64 { return float64(w.Faults()) }))
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "verenc_audit_witness_waiting",
		Help: "1 while the database or the token keep the server from comparing audit logs."},
		func() float64 { return truth(w.Waiting()) }))
}
