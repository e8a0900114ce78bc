// Package record makes the audit record of a request, an event or a command while that is being
// served.
//
// What it protects: the completeness of the audit log. The record of a change is written before the
// first change that it tells of (BeforeChange), everything else before its answer is given; without
// a record there is neither. Members of requests that are secrets, plaintexts or ciphertexts never
// enter a record (Parameters).
//
// What it trusts: the Auditor to have made a record durable when it says so, and the store of the
// service to call BeforeChange before each change.
package record

import (
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
)

// Auditor keeps records; *audit.Log is one. Append returns when the record is durable, or fails.
type Auditor interface {
	Append(ctx context.Context, r *audit.Record) error
}

// NoAudit is the Auditor of a service that keeps no records.
var NoAudit Auditor = noAudit{}

type noAudit struct{}

func (noAudit) Append(context.Context, *audit.Record) error { return nil }

// Config is what a Recorder is made of. Members are required unless they say otherwise.
type Config struct {
	Auditor Auditor
	// Operator runs the command that records are kept of; nil in a server.
	Operator *Operator
	Now      func() time.Time
	NewID    func() (string, error) // draws an event id
}

// Recorder keeps the records of a service. Its methods may be called concurrently.
type Recorder struct {
	auditor  Auditor
	operator *Operator
	now      func() time.Time
	newID    func() (string, error)
}

// New returns a Recorder.
func New(cfg Config) *Recorder {
	return &Recorder{auditor: cfg.Auditor, operator: cfg.Operator, now: cfg.Now, newID: cfg.NewID}
}

// Enabled reports whether records are kept at all.
func (r *Recorder) Enabled() bool { return r.auditor != NoAudit }

// NewEventID draws the id of a record.
func (r *Recorder) NewEventID() (string, error) { return r.newID() }

// draft is a record that is being made. Only the goroutine that serves the request, event or
// command uses it.
type draft struct {
	auditor Auditor
	record  audit.Record
	written bool
}

type draftKey struct{}

func draftOf(ctx context.Context) *draft {
	d, _ := ctx.Value(draftKey{}).(*draft)
	return d
}

// Request is what is known of a request before it is served.
type Request struct {
	EventID   string
	User      audit.UserIdentity
	Account   string // of the caller
	Source    string // e.g. kms.amazonaws.com
	Operation string
	ReadOnly  bool
	Input     any // the decoded request: see Parameters

	Region    string
	RequestID string
	SourceIP  string
	UserAgent string
	Host      string               // as the client named the server
	TLS       *tls.ConnectionState // nil without TLS
}

// Request serves a request and keeps one record of it, whatever its outcome. A change is recorded
// before it is made, everything else before its answer is given. A change that fails after its
// record was written gets a second record, which corrects the first.
//
// A request whose sender is unknown has no record, as in CloudTrail: nothing that it says of itself
// is proven, and anybody could fill the log with such requests. It has a line in the server's log.
func (r *Recorder) Request(ctx context.Context, q *Request, serve func(context.Context) (any, error)) (any, error) {
	d := &draft{auditor: r.auditor, record: r.ofRequest(q)}
	out, err := d.serve(ctx, serve)
	if failed := d.finish(ctx, err); failed != nil {
		if secret, ok := out.(interface{ Wipe() }); ok {
			secret.Wipe()
		}
		return nil, apierror.InternalError(failed)
	}
	return out, err
}

func (r *Recorder) ofRequest(q *Request) audit.Record {
	rec := audit.Record{
		UserIdentity: q.User, EventTime: r.now(), EventSource: q.Source, EventName: q.Operation, AWSRegion: q.Region,
		SourceIPAddress: q.SourceIP, UserAgent: q.UserAgent, RequestParameters: Parameters(q.Input),
		RequestID: q.RequestID, EventID: q.EventID, ReadOnly: q.ReadOnly, ManagementEvent: true,
		RecipientAccountID: q.Account,
	}
	if q.TLS != nil {
		rec.TLSDetails = &audit.TLSDetails{TLSVersion: tls.VersionName(q.TLS.Version),
			CipherSuite: tls.CipherSuiteName(q.TLS.CipherSuite), ClientProvidedHostHeader: q.Host}
	}
	return rec
}

// serve serves a request. One that panics gets its record before the panic goes on.
func (d *draft) serve(ctx context.Context, serve func(context.Context) (any, error)) (out any, err error) {
	panicked := true
	defer func() {
		if panicked {
			_ = d.finish(ctx, errPanicked) // there is no answer in any case
		}
	}()
	out, err = serve(context.WithValue(ctx, draftKey{}, d))
	panicked = false
	return out, err
}

var errPanicked = errors.New("the operation panicked")

// run runs an event or a command, which no request asks for. Its record is written before its first
// change, or when it fails.
func (d *draft) run(ctx context.Context, do func(context.Context) error) error {
	ctx = context.WithValue(ctx, draftKey{}, d)
	err := do(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(err, d.finish(ctx, err))
}

// finish writes what has not been written yet.
func (d *draft) finish(ctx context.Context, outcome error) error {
	if d.written && outcome == nil {
		return nil
	}
	r := d.record
	if e := new(apierror.Error); outcome != nil {
		r.ErrorCode, r.ErrorMessage = string(apierror.Internal), apierror.MessageInternal
		if r.EventType == commandType { // its operator may know the cause
			r.ErrorMessage = outcome.Error()
		}
		if errors.As(outcome, &e) {
			r.ErrorCode, r.ErrorMessage = string(e.Code), e.Message
		}
	}
	if d.written {
		corrects := audit.Member{Name: "corrects", Value: r.EventID}
		r.AdditionalEventData = append(slices.Clone(r.AdditionalEventData), corrects)
		r.EventID += "-failed"
	}
	// A client that goes away must not keep its request out of the log.
	return d.auditor.Append(context.WithoutCancel(ctx), &r)
}

// BeforeChange writes the record of a change that is about to be made, unless an earlier change
// has. Without the record the change must not be made. A change that belongs to no record passes.
func BeforeChange(ctx context.Context) error {
	d := draftOf(ctx)
	if d == nil || d.written {
		return nil
	}
	if err := d.auditor.Append(context.WithoutCancel(ctx), &d.record); err != nil {
		return apierror.InternalError(err)
	}
	d.written = true
	return nil
}

// AddKey adds a key to the resources of the record.
func AddKey(ctx context.Context, keyARN, account string) {
	d := draftOf(ctx)
	if d == nil {
		return
	}
	if slices.ContainsFunc(d.record.Resources, func(r audit.Resource) bool { return r.ARN == keyARN }) {
		return
	}
	key := audit.Resource{ARN: keyARN, AccountID: account, Type: "AWS::KMS::Key"}
	d.record.Resources = append(d.record.Resources, key)
	d.record.RecipientAccountID = account
}

// Add adds a member to the additionalEventData of the record. Only ReEncrypt adds one twice: for
// its source, then for its destination.
func Add(ctx context.Context, name string, value any) {
	d := draftOf(ctx)
	if d == nil {
		return
	}
	for i := range d.record.AdditionalEventData {
		if m := &d.record.AdditionalEventData[i]; m.Name == name {
			suffix := strings.ToUpper(name[:1]) + name[1:]
			m.Name, name = "source"+suffix, "destination"+suffix
		}
	}
	d.record.AdditionalEventData = append(d.record.AdditionalEventData, audit.Member{Name: name, Value: value})
}
