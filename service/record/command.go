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

// Command is what an operator wants to do.
type Command struct {
	Name       string
	Account    string           // that it concerns; empty: none
	Everywhere bool             // it concerns all accounts
	About      []audit.Resource // of its record
	Parameters audit.Object
	// Drawn names the members of Parameters that differ each time, such as random ids. Whoever allows the command
	// allows any.
	Drawn []string
}

// Command runs a command on what belongs to an account; see Run.
func (r *Recorder) Command(ctx context.Context, name string, about []audit.Resource, parameters audit.Object,
	do func(context.Context) error) error {
	c := &Command{Name: name, About: about, Parameters: parameters}
	if len(about) > 0 {
		c.Account = about[0].AccountID
	}
	return r.Run(ctx, c, do)
}

// Run runs a command, if it may be run, and keeps a record of it, which is written before its first change.
func (r *Recorder) Run(ctx context.Context, c *Command, do func(context.Context) error) error {
	if r.operator == nil {
		return do(ctx)
	}
	if allowed := do; r.authorise != nil {
		do = func(ctx context.Context) error {
			if err := r.authorise(ctx, c); err != nil {
				return err
			}
			return allowed(ctx)
		}
	}
	if !r.Enabled() {
		return (&draft{Context: ctx, auditor: NoAudit}).run(do)
	}
	rec, err := r.NewCommand(c.Name, c.Parameters)
	if err != nil {
		return err
	}
	rec.Resources = c.About
	return (&draft{Context: ctx, auditor: r.auditor, record: rec}).run(do)
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
