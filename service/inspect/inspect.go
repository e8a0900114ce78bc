// Package inspect has Verenc's own operations: what AWS's API has none for, and people who look
// after a service want to see. Who are the users and roles, who may use a key and why, what does
// the token say of a key, what has been done with it, and how is the server.
//
// They are called like those of AWS KMS, by the target Verenc.NAME. They change nothing but approval
// requests, which people approve of and reject. Who may call them is decided by policies with actions
// verenc:NAME; see service.AuthoriseOwn. Each request has its record in the audit log.
//
// What it protects: no answer has a secret, a plaintext, a ciphertext, a sealed value or the text
// of one. An account sees its own users, roles, keys and audit records only; the numbers of the whole
// server are for the account that operates it. The work of a request is bounded: a part of the audit
// log, so many keys, a report once a minute.
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
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/history"
	"github.com/verenc/kms/service/iam"
)

// Config is what an Inspector is made of.
type Config struct {
	Service *service.Service // required
	// Account is that of those who operate the server. Its principals see what concerns the whole
	// server, and records of the audit log that name no account.
	Account string
	// AuditLog is the folder of the audit log; nil: none is kept.
	AuditLog fs.FS
	// Examiner makes reports and, with Signer, attestations. Without them there are none.
	Examiner *evidence.Examiner
	// Signer returns the key of the audit log that is in force, and the log's origin.
	Signer func(context.Context) (origin string, _ audit.Signer, err error)
	// History has the numbers of this server; nil: reports have none.
	History *history.History
	Now     func() time.Time // default time.Now
}

// Inspector serves the operations. Its methods may be called concurrently.
type Inspector struct {
	service  *service.Service
	account  string
	auditLog fs.FS
	examiner *evidence.Examiner
	signer   func(context.Context) (string, audit.Signer, error)
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
	return &Inspector{service: cfg.Service, account: cfg.Account, auditLog: cfg.AuditLog, examiner: cfg.Examiner,
		signer: cfg.Signer, reports: newReports(cfg)}, nil
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
	for _, o := range slices.Concat(principalOperations(), accessOperations(), attestationOperations(),
		auditOperations(), reportOperations(), approvalOperations()) {
		operations[o.Name] = &o
		names = append(names, o.Name)
	}
	slices.Sort(names)
}

// OperationNames are the names of all operations, in order.
func OperationNames() []string { return slices.Clone(names) }

// Actions are those that callers of the operations need, with their prefix.
func Actions() (all []string) {
	for _, name := range names {
		all = append(all, operations[name].Permissions...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

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

// ofKey completes the entry of an operation that concerns a key, which keyID takes from the request.
// Its method is called when the caller may call it.
func ofKey[Req, Resp any](o service.Operation, keyID func(*Req) string,
	method func(*Inspector, context.Context, *iam.Caller, *service.Key, *Req) (*Resp, error)) service.Operation {
	o = complete(o, service.OnKey)
	o.Key, o.Errors = anyKey, slices.Concat(keyErrors, o.Errors)
	o.Handler = service.Handle(func(i *Inspector, ctx context.Context, c *iam.Caller, in *Req) (*Resp, error) {
		k, err := i.service.KeyForOwn(ctx, c, o.Permissions[0], keyID(in))
		if err != nil {
			return nil, err
		}
		return method(i, ctx, c, k, in)
	})
	return o
}

// ofCaller completes the entry of an operation whose answer is about the caller alone.
func ofCaller[Req, Resp any](o service.Operation,
	method func(*Inspector, context.Context, *iam.Caller, *Req) (*Resp, error)) service.Operation {
	o = complete(o, service.OnCaller)
	o.Permissions = nil
	o.Handler = service.Handle(method)
	return o
}

// anyKey is what operations need of a key: nothing.
var anyKey = &service.KeyRule{ByAlias: true}

// keyErrors are the errors of operations on a key.
var keyErrors = service.ErrorCodes{apierror.NotFound, apierror.InvalidArn}

func complete(o service.Operation, on service.Resource) service.Operation {
	o.Family, o.Source, o.Resource = Family, eventSource, on
	o.Callers, o.Effect = service.OwnAccount, service.ReadsOnly
	o.Permissions = []string{"verenc:" + o.Name}
	return o
}
