package record

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/span"
)

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
	if outcome != nil {
		d.fail(outcome)
	}
	return d.append(ctx)
}

// append puts the record into the log. A client that goes away must not keep its request out of it.
func (d *draft) append(ctx context.Context) error {
	ctx, s := span.Start(ctx, "audit append")
	err := d.auditor.Append(context.WithoutCancel(ctx), &d.record)
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
	if err := d.append(ctx); err != nil {
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
	if d.record.AdditionalEventData == nil {
		d.record.AdditionalEventData = make(audit.Object, 0, 2) // as many as most operations add
	}
	d.record.AdditionalEventData = append(d.record.AdditionalEventData, audit.Member{Name: name, Value: value})
}
