package record

import (
	"context"

	"github.com/verenc/kms/service/audit"
)

// Operator is the user of the operating system who runs a command. What a command changes is
// recorded as its operator's.
type Operator struct {
	Name   string // of the user
	UserID string
	Host   string
}

// CloudTrail has no type of identity or event for commands; these are ours.
const (
	commandSource = "verenc"
	commandType   = "VerencCommand"
	operatorType  = "OperatingSystemUser"
)

// Command runs a command and keeps a record of it, which is written before its first change.
func (r *Recorder) Command(ctx context.Context, name string, about []audit.Resource, parameters audit.Object,
	do func(context.Context) error) error {
	if r.operator == nil || !r.Enabled() {
		return do(ctx)
	}
	rec, err := r.NewCommand(name, parameters)
	if err != nil {
		return err
	}
	rec.Resources = about
	d := &draft{Context: ctx, auditor: r.auditor, record: rec}
	return d.run(do)
}

// WriteCommand writes the record of a command that changes nothing in the database.
func (r *Recorder) WriteCommand(ctx context.Context, name string, parameters audit.Object) error {
	if r.operator == nil || !r.Enabled() {
		return nil
	}
	rec, err := r.NewCommand(name, parameters)
	if err != nil {
		return err
	}
	return r.auditor.Append(ctx, &rec)
}

// NewCommand returns the record of a command whose caller writes it. There must be an operator.
func (r *Recorder) NewCommand(name string, parameters audit.Object) (audit.Record, error) {
	id, err := r.newID()
	o := r.operator
	return audit.Record{
		UserIdentity: audit.UserIdentity{Type: operatorType, PrincipalID: o.UserID, UserName: o.Name},
		EventTime:    r.now(), EventSource: commandSource, EventName: name, EventType: commandType,
		SourceIPAddress: o.Host, UserAgent: commandSource, RequestParameters: parameters, EventID: id,
		ManagementEvent: true,
	}, err
}
