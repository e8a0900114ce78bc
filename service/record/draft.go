package record

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
)

// draft is a record that is being made. Only the goroutine that serves the request, event or
// command uses it.
type draft struct {
	auditor Auditor
	record  audit.Record
	written bool
	before  []func(context.Context) error // see BeforeEffect
}

type draftKey struct{}

func draftOf(ctx context.Context) *draft {
	d, _ := ctx.Value(draftKey{}).(*draft)
	return d
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
	if err == nil {
		err = d.runBefore(ctx)
	}
	panicked = false
	return out, err
}

// runBefore runs what has to be done before the first effect, once.
func (d *draft) runBefore(ctx context.Context) error {
	for len(d.before) > 0 {
		f := d.before[0]
		d.before = d.before[1:]
		if err := f(ctx); err != nil {
			return err
		}
	}
	return nil
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
func (d *draft) run(ctx context.Context, do func(context.Context) error) error {
	ctx = context.WithValue(ctx, draftKey{}, d)
	err := do(ctx)
	if err == nil {
		err = d.runBefore(ctx)
	}
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
	if outcome != nil {
		d.fail(outcome)
	}
	// A client that goes away must not keep its request out of the log.
	return d.auditor.Append(context.WithoutCancel(ctx), &d.record)
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
	d.record.RecipientAccountID = account
	if slices.ContainsFunc(d.record.Resources, func(r audit.Resource) bool { return r.ARN == keyARN }) {
		return
	}
	key := audit.Resource{ARN: keyARN, AccountID: account, Type: "AWS::KMS::Key"}
	d.record.Resources = append(d.record.Resources, key)
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
		d.record.AdditionalEventData = make(audit.Object, 0, 2) // as many as most operations add
	}
	d.record.AdditionalEventData = append(d.record.AdditionalEventData, audit.Member{Name: name, Value: value})
}
