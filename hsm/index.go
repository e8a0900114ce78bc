package hsm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"
)

// index maps CKA_IDs to the handles of one connection. C_FindObjects takes time linear in the number of
// objects, so it runs once a connection, in the background, and never for a request.
type index struct {
	mu       sync.RWMutex
	handles  map[ObjectID]pkcs11.ObjectHandle // guarded by mu
	complete chan struct{}                    // closed once handles has all objects there were at the connection's start
}

func (x *index) find(id ObjectID) (pkcs11.ObjectHandle, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h, ok := x.handles[id]
	return h, ok
}

func (x *index) remember(id ObjectID, h pkcs11.ObjectHandle) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handles[id] = h
}

func (x *index) forget(id ObjectID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.handles, id)
}

func (x *index) count() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.handles)
}

func (x *index) indexed() bool {
	select {
	case <-x.complete:
		return true
	default:
		return false
	}
}

// lookup gives the handle of a key, which stays valid until release. An operation looks up all it needs before it does anything.
func (s *session) lookup(k Key) (pkcs11.ObjectHandle, error) { return k.find(s) }

// lookupObject gives the handle of an object. It says ErrNoObject only of a connection that lives and whose objects are all
// known; until then errIndexing, for which run waits.
func (s *session) lookupObject(id ObjectID) (pkcs11.ObjectHandle, error) {
	if h, ok := s.find(id); ok {
		return h, nil
	}
	if s.dead.Load() {
		return 0, errLost
	}
	if !s.indexed() {
		return 0, errIndexing
	}
	if h, ok := s.find(id); ok {
		return h, nil
	}
	return 0, fmt.Errorf("%w: CKA_ID %s", ErrNoObject, id)
}

// lookupPair gives the handles of both keys.
func (s *session) lookupPair(keys SealingKeys) (seal, wrap pkcs11.ObjectHandle, err error) {
	if seal, err = s.lookup(keys.Seal); err == nil {
		wrap, err = s.lookup(keys.Wrap)
	}
	return seal, wrap, err
}

// visit calls f for every private token object with a 16-byte CKA_ID. It takes time linear in their number.
func (s *session) visit(f func(pkcs11.ObjectHandle, Object)) error {
	handles, err := s.search([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
	})
	if err != nil {
		return err
	}
	for _, h := range handles {
		values, err := s.attributesIfAny(h, pkcs11.CKA_ID, pkcs11.CKA_LABEL) // not all objects are ours
		switch {
		case hasCode(err, pkcs11.CKR_OBJECT_HANDLE_INVALID):
			continue // one just destroyed
		case err != nil:
			return err
		case len(values[0]) == len(ObjectID{}):
			f(h, Object{ID: ObjectID(values[0]), Label: string(values[1])})
		}
	}
	return s.searched()
}

// searched stands after a search: without a login no private object is found, and that is no error.
func (s *session) searched() error {
	if !s.loggedIn() {
		return failed("C_FindObjects", pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN))
	}
	return nil
}

// locate has the token itself say which object has an id.
func (s *session) locate(id ObjectID) (pkcs11.ObjectHandle, error) {
	handles, err := s.search([]*pkcs11.Attribute{
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
	if err := s.searched(); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("%w: CKA_ID %s", ErrNoObject, id)
}

// created makes a new token object known. When the connection was lost meanwhile, the next one's index may have missed it.
func (s *session) created(id ObjectID, h pkcs11.ObjectHandle) error {
	s.remember(id, h)
	if s.dead.Load() {
		return errLost
	}
	return nil
}

// alone keeps creations waiting while a search is under way. Neither a creation nor a search that hangs may stop the other
// kind for ever: each waits for the other no longer than searchAlone, or until the connection is lost. The index, without which
// a connection is of no use, waits no longer than for the calls of the last one.
func (s *session) alone() (release func()) {
	var held []*semaphore.Weighted
	wait := s.searchAlone
	if s.watchdog != nil {
		wait = min(wait, drain)
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	for _, lock := range []*semaphore.Weighted{s.lib.generators, s.lib.objects} {
		if lock.Acquire(ctx, everyone) == nil {
			held = append(held, lock)
		}
	}
	cancel()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		timer := time.NewTimer(s.searchAlone)
		defer timer.Stop()
		select {
		case <-over:
		case <-s.gone:
		case <-timer.C:
		}
		for _, lock := range held {
			lock.Release(everyone)
		}
	}()
	return func() {
		close(over)
		<-ended
	}
}

// mostObjects is far more than tokens have room for: a search that goes on is one that never ends.
const mostObjects = 1 << 22

// search is C_FindObjects.
func (s *session) search(template []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if s.profile.searchAlone {
		defer s.alone()()
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
		if all = append(all, some...); len(all) > mostObjects {
			return nil, fmt.Errorf("C_FindObjects: the token lists more than %d objects", mostObjects)
		}
	}
}

// Missing gives those of some objects that the token does not have. The token itself is asked for each, since another
// connection may have destroyed one that this one still knows. That takes time linear in the number of the token's objects,
// so it is not for requests.
func (t *Token) Missing(ctx context.Context, ids ...ObjectID) (missing []ObjectID, err error) {
	for _, id := range ids {
		_, err := run(ctx, t, func(s *session) (struct{}, error) {
			_, err := s.locate(id)
			return struct{}{}, err
		})
		switch {
		case errors.Is(err, ErrNoObject):
			missing = append(missing, id)
		case err != nil:
			return nil, fmt.Errorf("look for object %s: %w", id, err)
		}
	}
	return missing, nil
}

// Object is a token object as a reconciler or a doctor sees it.
type Object struct {
	ID    ObjectID
	Label string
}

// Objects lists the private token objects with a 16-byte CKA_ID whose label begins with prefix. It takes time linear in their
// number and is for inspection, not for requests: Config.GenerateTimeout is its deadline.
func (t *Token) Objects(ctx context.Context, prefix string) ([]Object, error) {
	return runBounded(ctx, t, bounds{timeout: t.cfg.GenerateTimeout}, nil, func(s *session) ([]Object, error) {
		var objects []Object
		err := s.visit(func(_ pkcs11.ObjectHandle, o Object) {
			if strings.HasPrefix(o.Label, prefix) {
				objects = append(objects, o)
			}
		})
		return objects, err
	})
}
