package main

import (
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/inspect"
)

// history keeps what this server's metrics were.
func (p *components) history(metrics prometheus.Gatherer) (*history.History, error) {
	records := func() (int64, bool) {
		if p.audit == nil {
			return 0, false
		}
		return p.audit.Stats().Records, true
	}
	return history.New(history.Config{Metrics: metrics, Ping: p.token.Ping, Records: records})
}

// inspection is what Verenc's own operations look at.
func (p *components) inspection(c *Config, past *history.History) inspect.Config {
	cfg := inspect.Config{Service: p.service, Account: c.Account, Examiner: p.examiner(c), History: past}
	if p.audit != nil {
		cfg.AuditLog = os.DirFS(c.Audit.Dir)
	}
	return cfg
}
