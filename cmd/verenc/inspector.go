package main

import (
	"context"
	"os"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
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
func newInspector(c *Config, p *components) (*inspect.Inspector, error) {
	cfg := inspect.Config{Service: p.service}
	if p.audit != nil {
		cfg.Examiner = p.examiner(c)
		cfg.Signer = func(ctx context.Context) (string, audit.Signer, error) { return currentSigner(ctx, c, p) }
	}
	return inspect.New(cfg)
}

// currentSigner returns the audit log's origin and its key that is in force. It does not open the log.
func currentSigner(ctx context.Context, c *Config, p *components) (string, audit.Signer, error) {
	signers, err := auditKeys(p).Signers(ctx)
	if err != nil {
		return "", nil, err
	}
	return audit.Current(os.DirFS(c.Audit.Dir), signers)
}
