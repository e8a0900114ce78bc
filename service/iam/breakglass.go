package iam

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/iam/breakglass"
	"github.com/verenc/kms/service/record"
)

// BreakGlassOpening is an opening of the sealed credential. Signed decides; the other members are for lists.
type BreakGlassOpening struct {
	ID       string
	OpenedAt time.Time
	Until    time.Time
	ClosedAt time.Time // before Until; zero: it was not closed
	UsedAt   time.Time // of the first request; zero: there was none
	Signed   []byte    // see breakglass.Opening
}

// Verify returns what was signed for an opening; nil unless the credential k has signed it, for this opening.
func (b *BreakGlassOpening) Verify(k *breakglass.Key) *breakglass.Opening {
	o, err := k.Verify(b.Signed)
	if err != nil || o.ID != b.ID {
		return nil
	}
	return o
}

// InForce returns what was signed for an opening, and whether it is in force at a time: the credential in force, k,
// has signed it, with the end that its row has, it was not closed, and its time has not passed.
func (b *BreakGlassOpening) InForce(k *breakglass.Key, now time.Time) (o *breakglass.Opening, inForce bool) {
	o = b.Verify(k)
	return o, o != nil && b.ClosedAt.IsZero() && now.Before(o.Until) && b.Until.Equal(o.Until)
}

// BreakGlassARN is the ARN of the principal of an opening. It is neither a user nor a role: no policy is attached to
// it, and none can be.
func BreakGlassARN(account, id string) string {
	return "arn:aws:iam::" + account + ":break-glass/" + id
}

// breakGlass counts what a directory sees of break-glass.
type breakGlass struct {
	requests atomic.Uint64 // of openings, since the start
}

// BreakGlassRequests is how many requests openings have made since the start.
func (d *Directory) BreakGlassRequests() uint64 { return d.breakGlass.requests.Load() }

// PutBreakGlass makes a credential the one in force, after handOut has given its shares to their holders, if the
// command may be run. Openings of the credential before it end. When handOut fails, that one stays in force.
func (d *Directory) PutBreakGlass(ctx context.Context, k *breakglass.Key, handOut func(context.Context) error) error {
	replaced := ""
	switch old, err := d.store.BreakGlassKey(ctx); {
	case err == nil:
		replaced = old.ID()
	case !errors.Is(err, ErrNoRow):
		return fmt.Errorf("find the break-glass credential: %w", err)
	}
	parameters := audit.Object{{Name: "credential", Value: k.ID()}, {Name: "threshold", Value: k.Threshold},
		{Name: "shares", Value: k.Shares}, {Name: "replaces", Value: replaced}}
	// It opens every account, so that the guard of each is asked.
	command := &record.Command{Name: "InitBreakGlass", Everywhere: true, Parameters: parameters,
		Drawn: []string{"credential"}}
	return d.records.Run(ctx, command, func(ctx context.Context) error {
		if err := handOut(ctx); err != nil {
			return err
		}
		return d.store.InsertBreakGlassKey(ctx, k)
	})
}

// BreakGlassKey returns the credential in force; ErrNoRow when there is none.
func (d *Directory) BreakGlassKey(ctx context.Context) (*breakglass.Key, error) {
	return d.store.BreakGlassKey(ctx)
}

// BreakGlassOpenings returns the newest openings, the newest first.
func (d *Directory) BreakGlassOpenings(ctx context.Context, limit int) ([]*BreakGlassOpening, error) {
	return d.store.BreakGlassOpenings(ctx, limit)
}

// NewOpening returns an opening that begins now, and is still to be signed.
func (d *Directory) NewOpening(account string, lasts time.Duration, reason, operator string) (
	*breakglass.Opening, error) {
	var id [16]byte
	if _, err := io.ReadFull(d.rand, id[:]); err != nil {
		return nil, fmt.Errorf("draw an id: %w", err)
	}
	now := d.now().UTC()
	return &breakglass.Opening{ID: hex.EncodeToString(id[:]), Account: account, OpenedAt: now, Until: now.Add(lasts),
		Reason: reason, Operator: operator}, nil
}

// OpenBreakGlass gives credentials to a signed opening, which end with it. The record is the alarm.
func (d *Directory) OpenBreakGlass(ctx context.Context, signed []byte) (*TemporaryCredential, error) {
	k, err := d.store.BreakGlassKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("find the break-glass credential: %w", err)
	}
	o, err := k.Verify(signed)
	if err != nil {
		return nil, err
	}
	created, err := d.newCredential("ASIA")
	if err != nil {
		return nil, err
	}
	parameters := audit.Object{{Name: "opening", Value: o.ID}, {Name: "credential", Value: k.ID()},
		{Name: "until", Value: o.Until.Format(time.RFC3339)}, {Name: "reason", Value: o.Reason},
		{Name: "shares", Value: o.Shares}}
	err = d.records.Command(ctx, "OpenBreakGlass", nil, parameters, func(ctx context.Context) error {
		return d.store.InsertBreakGlassOpening(ctx, &BreakGlassOpening{ID: o.ID, OpenedAt: o.OpenedAt, Until: o.Until,
			Signed: signed})
	})
	if err != nil {
		return nil, err
	}
	token, err := d.sealSession(ctx, &sealedSession{Session: Session{Opening: o.ID, Name: o.ID,
		AccessKeyID: created.AccessKeyID, IssuedAt: o.OpenedAt, ExpiresAt: o.Until}, Secret: created.SecretAccessKey})
	if err != nil {
		return nil, err
	}
	return &TemporaryCredential{Credential: *created, SessionToken: token, Expiration: o.Until}, nil
}

// RefusedOpening records an attempt to open that has failed.
func (d *Directory) RefusedOpening(ctx context.Context, why error) error {
	return d.records.WriteCommand(ctx, "RefuseBreakGlass", audit.Object{{Name: "reason", Value: why.Error()}})
}

// CloseBreakGlass ends an opening before its time.
func (d *Directory) CloseBreakGlass(ctx context.Context, id string) error {
	about := audit.Object{{Name: "opening", Value: id}}
	return d.records.Command(ctx, "CloseBreakGlass", nil, about, func(ctx context.Context) error {
		return d.store.UpdateBreakGlassOpening(ctx, id, func(o *BreakGlassOpening) error {
			if o.ClosedAt.IsZero() {
				o.ClosedAt = d.now()
			}
			return nil
		})
	})
}

// ErrManyOpenings is returned when there are more openings in the database than anybody has made.
var ErrManyOpenings = errors.New("the database has too many openings of break-glass")

// OpeningsInForce returns the openings that are in force now. It looks at all that the database has for such, whenever
// they were opened, so that made-up rows hide none: ErrManyOpenings when there are too many of them.
func (d *Directory) OpeningsInForce(ctx context.Context) (open []*breakglass.Opening, err error) {
	openings, err := d.store.UnclosedBreakGlassOpenings(ctx, d.now(), maxUnclosed)
	switch {
	case err != nil || len(openings) == 0:
		return nil, err
	case len(openings) == maxUnclosed:
		return nil, ErrManyOpenings
	}
	k, err := d.store.BreakGlassKey(ctx)
	if err != nil {
		return nil, err
	}
	for _, row := range openings {
		if o, inForce := row.InForce(k, d.now()); inForce {
			open = append(open, o)
		}
	}
	return open, nil
}

// MaxOpenings is how many of the newest openings are reported.
const MaxOpenings = 100

// maxUnclosed is from how many openings on, whose time is not over, they are taken for made up.
const maxUnclosed = 10_000

// opening returns an opening that is in force. It asks the database each time, since it is rare.
func (d *Directory) opening(ctx context.Context, id string) (*breakglass.Opening, error) {
	row, err := d.store.BreakGlassOpening(ctx, id)
	if errors.Is(err, ErrNoRow) {
		return nil, ErrUnknownCredential
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	k, err := d.store.BreakGlassKey(ctx)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	o, inForce := row.InForce(k, d.now())
	if !inForce {
		return nil, ErrUnknownCredential
	}
	return o, nil
}

// UseBreakGlass is called for each request whose signature was verified. The first one of an opening has an alarm
// of its own in the audit log, without which it is not served.
func (d *Directory) UseBreakGlass(ctx context.Context, who *Identity) error {
	if who.BreakGlass == "" {
		return nil
	}
	d.breakGlass.requests.Add(1)
	row, err := d.store.BreakGlassOpening(ctx, who.BreakGlass)
	if err != nil {
		return apierror.FromStore(err)
	}
	if !row.UsedAt.IsZero() {
		return nil
	}
	// Two servers that are used at the same time both record it: better twice than never.
	err = d.records.ServerEvent(ctx, "BreakGlassUsed", audit.Object{{Name: "opening", Value: row.ID},
		{Name: "principal", Value: who.Principal}, {Name: "until", Value: row.Until.UTC().Format(time.RFC3339)}})
	if err != nil {
		return apierror.InternalError(err)
	}
	err = d.store.UpdateBreakGlassOpening(ctx, row.ID, func(o *BreakGlassOpening) error {
		if o.UsedAt.IsZero() {
			o.UsedAt = d.now()
		}
		return nil
	})
	return apierror.FromStore(err)
}

// breakGlassIdentity is the identity of a session of an opening.
func (d *Directory) breakGlassIdentity(ctx context.Context, session *Session) (who Identity, err error) {
	o, err := d.opening(ctx, session.Opening)
	if err != nil {
		return who, err
	}
	return Identity{Principal: BreakGlassARN(o.Account, o.ID), Account: o.Account, AccessKeyID: session.AccessKeyID,
		IssuedAt: o.OpenedAt, ExpiresAt: o.Until, BreakGlass: o.ID}, nil
}
