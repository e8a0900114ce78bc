package connection

import (
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// index maps CKA_IDs to the handles of one connection. C_FindObjects takes time linear in the
// number of objects, so it runs once for each connection, in the background, and never for a
// request.
type index struct {
	mu       sync.RWMutex
	handles  map[keyobject.ID]pkcs11.ObjectHandle // guarded by mu
	named    map[NamedKey]named                   // guarded by mu
	complete chan struct{}                        // closed once handles has all objects of the connection's start
}

func (x *index) find(id keyobject.ID) (pkcs11.ObjectHandle, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	h, ok := x.handles[id]
	return h, ok
}

func (x *index) remember(id keyobject.ID, h pkcs11.ObjectHandle) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.handles[id] = h
}

func (x *index) forget(id keyobject.ID) {
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

// LookupObject gives the handle of a token object. It says ErrNoObject only of a connection that lives
// and whose objects are all known; until then errIndexing, for which run waits.
func (s *Session) LookupObject(id keyobject.ID) (pkcs11.ObjectHandle, error) {
	if h, ok := s.gen.find(id); ok {
		return h, nil
	}
	if s.Lost() {
		return 0, session.ErrLost
	}
	if !s.gen.indexed() {
		return 0, errIndexing
	}
	if h, ok := s.gen.find(id); ok {
		return h, nil
	}
	return 0, fmt.Errorf("%w: CKA_ID %s", ckr.ErrNoObject, id)
}

// Remember makes a new token object known. When the connection was lost meanwhile, the next one's
// index may have missed it.
func (s *Session) Remember(id keyobject.ID, h pkcs11.ObjectHandle) error {
	s.gen.remember(id, h)
	if s.Lost() {
		return session.ErrLost
	}
	return nil
}

// AwaitIndex fails with errIndexing, for which run waits, until all objects are known.
func (s *Session) AwaitIndex() error {
	if !s.gen.indexed() {
		return errIndexing
	}
	return nil
}

// Forget makes an object unknown that is about to be destroyed.
func (s *Session) Forget(id keyobject.ID) { s.gen.forget(id) }
