package record

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/span"
)

// draft is a record that is being made, and the context of what it tells of, in which it is found. Only
// the goroutine that serves the request, event or command uses it.
type draft struct {
	context.Context // that the request, event or command came with
	auditor         Auditor
	record          audit.Record
	written         bool
	before          []func(context.Context) error // see BeforeEffect
	refused         error                         // by one of them: from then on there is no effect

	// Room for what most records have, so that a record is one allocation.
	parameters [4]audit.Member
	data       [3]audit.Member
	resources  [1]audit.Resource
}

type draftKey struct{}

// Value implements context.Context.
func (d *draft) Value(key any) any {
	if key == (draftKey{}) {
		return d
	}
	return d.Context.Value(key)
}

// lasting is the context of a draft without its end: a client that goes away must not keep its request
// out of the log.
type lasting draft

func (*lasting) Deadline() (at time.Time, ok bool) { return at, false }
func (*lasting) Done() <-chan struct{}             { return nil }
func (*lasting) Err() error                        { return nil }

func draftOf(ctx context.Context) *draft {
	d, _ := ctx.Value(draftKey{}).(*draft)
	return d
}

// serve serves a request. One that panics gets its record before the panic goes on.
func (d *draft) serve(serve func(context.Context) (any, error)) (out any, err error) {
	panicked := true
	defer func() {
		if panicked {
			_ = d.finish(errPanicked) // there is no answer in any case
		}
	}()
	out, err = serve(d)
	if err == nil {
		err = d.runBefore(d.Context)
	}
	panicked = false
	return out, err
}

// runBefore runs what has to be done before the first effect, once. When that fails, it fails for good: an operation
// that goes on has no effect later, either.
func (d *draft) runBefore(ctx context.Context) error {
	for len(d.before) > 0 && d.refused == nil {
		f := d.before[0]
		d.before = d.before[1:]
		d.refused = f(ctx)
	}
	return d.refused
}

// BeforeEffect has f run before the first change that is made, or before the answer if nothing is changed. Without f
// there is neither. If there is no record that is being made, f runs at once. It does not run when what is served
// fails before it has changed anything. f changes the store by methods that have no record of their own.
func BeforeEffect(ctx context.Context, f func(context.Context) error) error {
	d := draftOf(ctx)
	if d == nil || d.written {
		return f(ctx)
	}
	d.before = append(d.before, f)
	return nil
}

var errPanicked = errors.New("the operation panicked")

// run runs an event or a command, which no request asks for. Its record is written before its first
// change, or when it fails.
func (d *draft) run(do func(context.Context) error) error {
	err := do(d)
	if err == nil {
		err = d.runBefore(d.Context)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, d.finish(err))
}

// finish writes what has not been written yet.
func (d *draft) finish(outcome error) error {
	if d.written && outcome == nil {
		return nil
	}
	if outcome != nil {
		d.fail(outcome)
	}
	return d.append()
}

// append puts the record into the log.
func (d *draft) append() error {
	ctx, s := span.Start((*lasting)(d), "audit append")
	err := d.auditor.Append(ctx, &d.record)
	if err != nil {
		s.End(span.Other)
		return err
	}
	s.End("")
	return nil
}

// fail makes the draft the record of a failure. One that corrects a record that was written before
// is a record of its own.
func (d *draft) fail(outcome error) {
	r := d.record
	r.ErrorCode, r.ErrorMessage = string(apierror.Internal), apierror.MessageInternal
	if r.EventType == commandType { // its operator may know the cause
		r.ErrorMessage = outcome.Error()
	}
	if e := new(apierror.Error); errors.As(outcome, &e) {
		r.ErrorCode, r.ErrorMessage = string(e.Code), e.Message
	}
	if d.written {
		corrects := audit.Member{Name: "corrects", Value: r.EventID}
		r.AdditionalEventData = append(slices.Clone(r.AdditionalEventData), corrects)
		r.EventID += "-failed"
	}
	d.record = r
}

// BeforeChange writes the record of a change that is about to be made, unless an earlier change
// has. Without the record the change must not be made. A change that belongs to no record passes.
func BeforeChange(ctx context.Context) error {
	d := draftOf(ctx)
	if d == nil || d.written {
		return nil
	}
	if err := d.runBefore(ctx); err != nil {
		return err
	}
	if err := d.append(); err != nil {
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
	d.record.RecipientAccountID = account
	if slices.ContainsFunc(d.record.Resources, func(r audit.Resource) bool { return r.ARN == keyARN }) {
		return
	}
	key := audit.Resource{ARN: keyARN, AccountID: account, Type: "AWS::KMS::Key"}
	if d.record.Resources == nil {
		d.record.Resources = d.resources[:0]
	}
	d.record.Resources = append(d.record.Resources, key)
}

// Set adds a member to the additionalEventData of the record, or replaces it.
func Set(ctx context.Context, name string, value any) {
	if d := draftOf(ctx); d != nil {
		i := slices.IndexFunc(d.record.AdditionalEventData, func(m audit.Member) bool { return m.Name == name })
		if i >= 0 {
			d.record.AdditionalEventData[i].Value = value
			return
		}
	}
	Add(ctx, name, value)
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
	if d.record.AdditionalEventData == nil {
		d.record.AdditionalEventData = d.data[:0]
	}
	d.record.AdditionalEventData = append(d.record.AdditionalEventData, audit.Member{Name: name, Value: value})
}
