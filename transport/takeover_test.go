package transport_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service"
)

// pausedStore stops before one of the changes of keys, as if its server were paused there.
type pausedStore struct {
	service.Store
	meanwhile func() error // what happens then; nil: nothing any more
	changes   int          // before it

	certificate func() error // what happens before the next certificate is kept; nil: nothing
}

func (p *pausedStore) InsertDestruction(ctx context.Context, c *service.DestructionCertificate) error {
	if f := p.certificate; f != nil {
		p.certificate = nil
		if err := f(); err != nil {
			return err
		}
	}
	return p.Store.InsertDestruction(ctx, c)
}

func (p *pausedStore) UpdateKey(ctx context.Context, region, id string, change func(*service.Key) error) error {
	if f := p.meanwhile; f != nil {
		if p.changes--; p.changes < 0 {
			p.meanwhile = nil
			if err := f(); err != nil {
				return err
			}
		}
	}
	return p.Store.UpdateKey(ctx, region, id, change)
}

// TestPausedServer: a server that is paused in the middle of background work, and wakes up when
// another one has done it, does nothing twice and leaves no object behind.
func TestPausedServer(t *testing.T) {
	paused := &pausedStore{}
	s := newServer(t, options{service: func(c *service.Config) { paused.Store, c.Store = c.Store, paused }})
	id, _ := s.newKey(t)
	ok(s.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: &id}))(t)
	holds := func(materials int) {
		t.Helper()
		if n := len(s.objectsOf(t, id)); n != 2*materials {
			t.Errorf("%d objects for %d materials", n, materials)
		}
		if n := len(rotationsOf(t, s.Client, &id)); n != materials {
			t.Errorf("%d materials, want %d", n, materials)
		}
	}
	holds(1)
	s.age(366 * 24 * time.Hour)

	// Its lease is gone when the new material is to become current, and so is the row that named the
	// material's objects.
	paused.changes, paused.meanwhile = 1, func() error {
		err := paused.Store.UpdateKey(t.Context(), region, id, func(k *service.Key) error {
			k.Materials = k.Materials[:1]
			return nil
		})
		return errors.Join(err, service.ErrTakenOver)
	}
	if err := s.Service.Reconcile(t.Context()); !errors.Is(err, service.ErrTakenOver) {
		t.Errorf("got %v", err)
	}
	holds(1)

	// Another server has rotated, without a lease, since the material was used up.
	paused.changes, paused.meanwhile = 1, func() error { return s.Service.Reconcile(t.Context()) }
	if err := s.Service.Reconcile(t.Context()); err == nil {
		t.Error("it rotated, too")
	}
	holds(2)
	s.reconcile(t)
	holds(2)

	// Another server has destroyed the key.
	ok(s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}))(t)
	s.age(31 * 24 * time.Hour)
	paused.changes, paused.meanwhile = 0, func() error { return s.Service.Reconcile(t.Context()) }
	s.reconcile(t)
	if n := len(s.objectsOf(t, id)); n != 0 {
		t.Errorf("%d objects of a key that was destroyed", n)
	}
}

// TestPausedCreation: a CreateKey that wakes up when others have taken its row for what a crash has
// left makes no key.
func TestPausedCreation(t *testing.T) {
	paused := &pausedStore{}
	s := newServer(t, options{service: func(c *service.Config) { paused.Store, c.Store = c.Store, paused }})
	before := len(ok(s.Token.Objects(t.Context(), "verenc/"))(t))
	paused.meanwhile = func() error {
		keys, err := paused.Store.EveryKey(t.Context(), "", "", 10)
		for _, k := range keys {
			err = errors.Join(err, paused.Store.RemoveKey(t.Context(), k.Region, k.ID))
		}
		return err
	}
	if _, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{}); err == nil {
		t.Error("a key was made whose row is gone")
	}
	if after := len(ok(s.Token.Objects(t.Context(), "verenc/"))(t)); after != before {
		t.Errorf("%d objects are left", after-before)
	}
}
