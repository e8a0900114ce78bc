package session

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

// Locks keep C_FindObjects apart from calls that make or destroy objects in a module: on SoftHSM
// before 2.7.0 they disturb each other. A call that makes or destroys an object acquires one of a
// lock, a search acquires all of both.
type Locks struct {
	objects *semaphore.Weighted
	// alone makes a call that makes or destroys an object acquire all of objects.
	alone atomic.Bool
	// generators is held by C_GenerateKeyPair too, and is taken before objects: a search that waits
	// for an RSA key of some seconds would, waiting for objects, hold up every short creation too.
	generators *semaphore.Weighted
}

// NewLocks gives the locks of a module.
func NewLocks() *Locks {
	return &Locks{objects: semaphore.NewWeighted(whole), generators: semaphore.NewWeighted(whole)}
}

// OneAtATime has the module's objects made and destroyed one at a time from now on: some modules fail
// when several callers do it (SoftHSM with SQLite).
func (l *Locks) OneAtATime() { l.alone.Store(true) }

// blockSearches keeps searches from running until release is called.
func (l *Locks) blockSearches() share {
	n := int64(1)
	if l.alone.Load() {
		n = whole
	}
	return acquire(l.objects, n)
}

// share is what a caller holds of a lock.
type share struct {
	lock *semaphore.Weighted
	n    int64
}

func acquire(lock *semaphore.Weighted, n int64) share {
	_ = lock.Acquire(context.Background(), n) // it has no end that could fail it
	return share{lock, n}
}

func (s share) release() { s.lock.Release(s.n) }

// whole is all of a lock.
const whole = math.MaxInt32

// Visit calls f for every private token object with a 16-byte CKA_ID. It takes time linear in their
// number.
func (s *Session) Visit(f func(pkcs11.ObjectHandle, Object)) error {
	handles, err := s.Search([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
	})
	if err != nil {
		return err
	}
	for _, h := range handles {
		values, err := s.attributesIfAny(h, pkcs11.CKA_ID, pkcs11.CKA_LABEL) // not all objects are ours
		switch {
		case ckr.Has(err, pkcs11.CKR_OBJECT_HANDLE_INVALID):
			continue // one just destroyed
		case err != nil:
			return err
		case len(values[0]) == len(keyobject.ID{}):
			f(h, Object{ID: keyobject.ID(values[0]), Label: string(values[1])})
		}
	}
	return s.CheckLogin()
}

// CheckLogin comes after a search: without a login, C_FindObjects finds no private object and gives
// no error.
func (s *Session) CheckLogin() error {
	if !s.LoggedIn() {
		return ckr.Failed("C_FindObjects", pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN))
	}
	return nil
}

// Locate asks the token for the object with an id.
func (s *Session) Locate(id keyobject.ID) (pkcs11.ObjectHandle, error) {
	handles, err := s.Search([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
	})
	switch {
	case err != nil:
		return 0, err
	case len(handles) > 0:
		return handles[0], nil
	}
	if err := s.CheckLogin(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%w: CKA_ID %s", ckr.ErrNoObject, id)
}

// blockCreations keeps calls that make objects waiting until release is called. Neither such a call
// nor a search that hangs may stop the other for ever: each waits no longer than SearchAlone, or
// until the connection is lost. The search of the index, without which a connection is of no use,
// waits no longer than Watch.Wait.
func (s *Session) blockCreations() (release func()) {
	var held []*semaphore.Weighted
	wait := s.SearchAlone
	if s.watch != nil {
		wait = min(wait, s.watch.Wait)
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	for _, lock := range []*semaphore.Weighted{s.Locks.generators, s.Locks.objects} {
		if lock.Acquire(ctx, whole) == nil {
			held = append(held, lock)
		}
	}
	cancel()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(s.SearchAlone)
		defer timer.Stop()
		select {
		case <-over:
		case <-s.Gone():
		case <-timer.C:
		}
		for _, lock := range held {
			lock.Release(whole)
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// maxObjects is far more than tokens have room for: a search that goes on is one that never ends.
const maxObjects = 1 << 22

// Search is C_FindObjects.
func (s *Session) Search(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if s.Profile.SearchAlone {
		defer s.blockCreations()()
	}
	if err := s.findInit(template); err != nil {
		return nil, err
	}
	var all []pkcs11.ObjectHandle
	seen := map[pkcs11.ObjectHandle]bool{}
	for {
		some, err := s.findNext()
		if err != nil {
			return nil, err
		}
		if len(some) == 0 {
			return all, s.findFinal()
		}
		for _, h := range some {
			if seen[h] {
				return nil, fmt.Errorf("C_FindObjects: the token lists object %d twice", h)
			}
			seen[h] = true
		}
		if all = append(all, some...); len(all) > maxObjects {
			return nil, fmt.Errorf("C_FindObjects: the token lists more than %d objects", maxObjects)
		}
	}
}

// Object is a token object in a list.
type Object struct {
	ID    keyobject.ID
	Label string
}

// DestroyUnreported destroys the session objects of a key which the token has made although the
// call failed.
func (s *Session) DestroyUnreported(name keyobject.ID) error { return s.destroyFound(name, false) }

// DestroyTokenObjects destroys the token objects with this CKA_ID, if there are any.
func (s *Session) DestroyTokenObjects(id keyobject.ID) error { return s.destroyFound(id, true) }

func (s *Session) destroyFound(name keyobject.ID, ofToken bool) error {
	handles, err := s.Search([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, ofToken),
		pkcs11.NewAttribute(pkcs11.CKA_ID, name[:]),
	})
	if err != nil {
		return err
	}
	return s.DestroyAll(handles)
}
