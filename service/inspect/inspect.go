// Package inspect has Verenc's own operations: what AWS's API has none for, and people who look
// after a service want to see. Who are the users and roles, who may use a key and why, what does
// the token say of a key.
//
// They are called like those of AWS KMS, by the target Verenc.NAME, and change nothing. Who may
// call them is decided by policies with actions verenc:NAME; see service.AuthoriseOwn. Each request
// has its record in the audit log.
//
// What it protects: no answer has a secret, a plaintext, a ciphertext, a sealed value or the text
// of one. An account sees its own users, roles and keys only.
//
// What it trusts: package transport to have verified who calls, and that requests are well formed.
package inspect

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/iam"
)

// Config is what an Inspector is made of.
type Config struct {
	Service *service.Service // required

	// Account is that of those who operate the server. Its principals see what concerns the whole
	// server, and records of the audit log that name no account.
	Account  string
	AuditLog fs.FS              // folder of the audit log; nil: none is kept
	Examiner *evidence.Examiner // nil: there is no report
	History  *history.History   // nil: the report has no numbers of the server
	Now      func() time.Time   // default time.Now
}

// Inspector serves the operations. Its methods may be called concurrently.
type Inspector struct {
	service  *service.Service
	account  string
	auditLog fs.FS
	reports  *reports
}

// New returns an Inspector.
func New(cfg Config) (*Inspector, error) {
	if cfg.Service == nil {
		return nil, errors.New("new inspector: Service is required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Inspector{service: cfg.Service, account: cfg.Account, auditLog: cfg.AuditLog, reports: newReports(cfg)}, nil
}

// operates tells whether a caller is one of those who operate the server.
func (i *Inspector) operates(c *iam.Caller) bool { return i.account != "" && c.Account == i.account }

// Audited implements service.Host.
func (i *Inspector) Audited(ctx context.Context, c *iam.Caller, source, op string, in any,
	do func(context.Context) (any, error)) (any, error) {
	return i.service.Audited(ctx, c, source, op, in, do)
}

// Family is the family of the operations.
const Family service.Family = "Verenc's own operations"

// eventSource is the service in the records of the operations, as in those of the commands.
const eventSource = "verenc"

// The table, which is filled by init, since the methods in it use it.
var (
	operations = map[string]*service.Operation{} // by name
	names      []string                          // in order
)

func init() {
	for _, o := range slices.Concat(principalOperations(), auditOperations(), reportOperations()) {
		operations[o.Name] = &o
		names = append(names, o.Name)
	}
	slices.Sort(names)
}

// OperationNames are the names of all operations, in order.
func OperationNames() []string { return slices.Clone(names) }

// OperationNamed returns the entry of an operation, or nil. It is shared, and must not be modified.
func OperationNamed(name string) *service.Operation { return operations[name] }

// ofAccount completes the entry of an operation that concerns the caller's account. Its method is
// called when the caller may call it.
func ofAccount[Req, Resp any](o service.Operation,
	method func(*Inspector, context.Context, *iam.Caller, *Req) (*Resp, error)) service.Operation {
	o = complete(o, service.OnAccount)
	o.Handler = service.Handle(func(i *Inspector, ctx context.Context, c *iam.Caller, in *Req) (*Resp, error) {
		if err := i.service.AuthoriseOwn(ctx, c, o.Permissions[0]); err != nil {
			return nil, err
		}
		return method(i, ctx, c, in)
	})
	return o
}

func complete(o service.Operation, on service.Resource) service.Operation {
	o.Family, o.Source, o.Resource = Family, eventSource, on
	o.Callers, o.Effect = service.OwnAccount, service.ReadsOnly
	o.Permissions = []string{"verenc:" + o.Name}
	return o
}
