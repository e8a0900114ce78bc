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
	"time"

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
	// Authorise decides on a command before it runs; nil: every command is allowed.
	Authorise func(context.Context, *Command) error
}

// Recorder keeps the records of a service. Its methods may be called concurrently.
type Recorder struct {
	auditor  Auditor
	operator *Operator
	now      func() time.Time
	newID    func() (string, error)

	authorise func(context.Context, *Command) error
}

// New returns a Recorder.
func New(cfg Config) *Recorder {
	return &Recorder{auditor: cfg.Auditor, operator: cfg.Operator, now: cfg.Now, newID: cfg.NewID,
		authorise: cfg.Authorise}
}

// Enabled reports whether records are kept at all.
func (r *Recorder) Enabled() bool { return r.auditor != NoAudit }

// NewEventID draws the id of a record.
func (r *Recorder) NewEventID() (string, error) { return r.newID() }
