package main

import (
	"context"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/inspect"
	"github.com/verenc/kms/service/quota"
)

// isQuotaClass reports whether requests can be counted as a class: those of Verenc's own operations by
// their names.
func isQuotaClass(class quota.Class) bool {
	return service.IsQuotaClass(class) || inspect.OperationNamed(string(class)) != nil
}

// newInspector returns what serves Verenc's own operations. Without an audit log it makes no
// attestations.
func newInspector(c *Config, p *components, past *history.History) (*inspect.Inspector, error) {
	cfg := inspect.Config{Service: p.service, Account: c.Account, Examiner: p.examiner(c), History: past}
	if p.audit != nil {
		cfg.AuditLog = os.DirFS(c.Audit.Dir)
		cfg.Signer = func(ctx context.Context) (string, audit.Signer, error) { return currentSigner(ctx, c, p) }
	}
	return inspect.New(cfg)
}

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

// currentSigner returns the audit log's origin and its key that is in force. It does not open the log.
func currentSigner(ctx context.Context, c *Config, p *components) (string, audit.Signer, error) {
	signers, err := auditKeys(p).Signers(ctx)
	if err != nil {
		return "", nil, err
	}
	return audit.Current(os.DirFS(c.Audit.Dir), signers)
}
