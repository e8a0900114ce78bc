package iam_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

// backdated is a store whose openings look over.
type backdated struct{ *store.DB }

func (b backdated) BreakGlassOpening(ctx context.Context, id string) (*iam.BreakGlassOpening, error) {
	o, err := b.DB.BreakGlassOpening(ctx, id)
	if err == nil {
		o.Until = t0
	}
	return o, err
}

// crowded is a store with many openings.
type crowded struct{ *store.DB }

func (crowded) UnclosedBreakGlassOpenings(_ context.Context, _ time.Time, limit int) ([]*iam.BreakGlassOpening, error) {
	return make([]*iam.BreakGlassOpening, limit), nil
}

// TestHiddenOpening: whoever can write to the database can end an opening, and not hide one that can be used.
func TestHiddenOpening(t *testing.T) {
	sealer, now := &clearSealer{}, func() time.Time { return t0 }
	dir, db := openDirectory(t, sealer, now)
	k, shares, err := breakglass.Split(3, 2, t0)
	if err != nil {
		t.Fatal(err)
	}
	if err := dir.PutBreakGlass(t.Context(), k, func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	private, err := k.Combine(shares[:2])
	if err != nil {
		t.Fatal(err)
	}
	o, err := dir.NewOpening(account, time.Hour, "a test", "ann")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := o.Sign(t.Context(), private)
	if err != nil {
		t.Fatal(err)
	}
	c, err := dir.OpenBreakGlass(t.Context(), signed)
	if err != nil {
		t.Fatal(err)
	}
	scope := scopeOf(&c.Credential)
	scope.SessionToken = c.SessionToken
	if _, _, err := dir.Credentials(t.Context(), scope, sha256.Sum256); err != nil {
		t.Error(err)
	}
	with := func(s iam.Store) *iam.Directory {
		d, err := iam.New(iam.Config{Store: s, Sealer: sealer, Now: now, Rand: rand.Reader,
			Records: record.New(record.Config{Auditor: record.NoAudit, Now: now})})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	_, _, err = with(backdated{db}).Credentials(t.Context(), scope, sha256.Sum256)
	if !errors.Is(err, iam.ErrUnknownCredential) {
		t.Errorf("an opening that looks over: %v", err)
	}
	if _, err := with(crowded{db}).OpeningsInForce(t.Context()); !errors.Is(err, iam.ErrManyOpenings) {
		t.Errorf("many openings: %v", err)
	}
}
