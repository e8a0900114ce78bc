package hsm

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/miekg/pkcs11"
)

// held are the session objects that wrapped keys are used through, as many as Config.HeldKeys; the one that was not used for
// the longest time goes first. They belong to the keeper's session, so that they last as long as the connection, and are seen from
// all others (PKCS#11 v2.40 section 2.4). None is destroyed while a call uses it: a token may give its handle to another object.
type held struct {
	mu      sync.Mutex
	keys    *simplelru.LRU[ObjectID, *heldKey] // guarded by mu
	evicted []*heldKey                         // guarded by mu: by the change under way

	unwrapping sync.Mutex // one C_UnwrapKey at a time in the keeper's session
}

type heldKey struct {
	ready  chan struct{} // closed once handle or err is set
	handle pkcs11.ObjectHandle
	err    error

	users int  // guarded by held.mu
	gone  bool // guarded by held.mu: to be destroyed by its last user
}

func newHeld(size int) *held {
	h := &held{}
	h.keys, _ = simplelru.NewLRU(max(size, 1), func(_ ObjectID, k *heldKey) { h.evicted = append(h.evicted, k) }) // fails for no size only
	return h
}

// take gives the held key with its user counted in, and those to destroy. isNew tells that it is the caller's to make ready.
func (h *held) take(name ObjectID) (k *heldKey, isNew bool, destroy []pkcs11.ObjectHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k, ok := h.keys.Get(name)
	if !ok {
		k = &heldKey{ready: make(chan struct{})}
		h.keys.Add(name, k)
	}
	k.users++
	return k, !ok, h.unused()
}

// unused are the evicted keys that nobody uses; the others go with their last user. The caller holds mu.
func (h *held) unused() (destroy []pkcs11.ObjectHandle) {
	for _, k := range h.evicted {
		if k.gone = true; k.users == 0 && k.err == nil {
			destroy = append(destroy, k.handle)
		}
	}
	h.evicted = h.evicted[:0]
	return destroy
}

// forget lets a key go.
func (h *held) forget(name ObjectID) (destroy []pkcs11.ObjectHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keys.Remove(name)
	return h.unused()
}

// fail makes a key ready that could not be unwrapped: who waits for it fails too, and the next call tries again.
func (h *held) fail(name ObjectID, k *heldKey, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.err = err
	close(k.ready)
	if now, ok := h.keys.Peek(name); ok && now == k {
		h.keys.Remove(name)
	}
	h.unused()
}

// leave counts users out.
func (h *held) leave(keys []*heldKey) (destroy []pkcs11.ObjectHandle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range keys {
		if k.users--; k.users == 0 && k.gone && k.err == nil {
			destroy = append(destroy, k.handle)
		}
	}
	return destroy
}

func (h *held) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.keys.Len()
}

// hold gives the handle of a wrapped key, unwrapping it if it is not held. It stays valid until release.
func (s *session) hold(k WrappedKey) (pkcs11.ObjectHandle, error) {
	key, isNew, destroy := s.held.take(k.Name)
	s.uses = append(s.uses, key)
	if isNew {
		err := s.destroyAll(destroy)
		if err == nil {
			key.handle, err = s.unwrapHeld(k)
		}
		if err != nil {
			s.held.fail(k.Name, key, err)
			return 0, err
		}
		close(key.ready)
		return key.handle, nil
	}
	select {
	case <-key.ready:
		return key.handle, key.err
	case <-s.gone:
		return 0, errLost
	}
}

// unwrapHeld makes the session object of a key in the keeper's session.
func (s *session) unwrapHeld(k WrappedKey) (pkcs11.ObjectHandle, error) {
	wrapping, err := s.lookupObject(k.Under)
	if err != nil {
		return 0, err
	}
	template, err := k.template()
	if err != nil {
		return 0, err
	}
	mechanisms, err := s.unwrapMechanisms(k.Mechanism)
	if err != nil {
		return 0, err
	}
	s.held.unwrapping.Lock()
	defer s.held.unwrapping.Unlock()
	keeper := session{conn: s.conn, handle: s.keeper}
	named := append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, k.Name[:]))
	h, err := keeper.unwrapAny(mechanisms, wrapping, k.Wrapped, append(named, sessionObject()...))
	if err != nil {
		if hasCode(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_CANCELED) {
			_ = s.destroyUntold(k.Name) // these do not say that nothing was made; if it fails, the object goes with the connection
		}
		return 0, k.spoilt(err)
	}
	return h, nil
}

// destroyUntold ends the session objects of a key that the token has made without telling so.
func (s *session) destroyUntold(name ObjectID) error {
	handles, err := s.search([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_ID, name[:]),
	})
	if err != nil {
		return err
	}
	return s.destroyAll(handles)
}

// release ends the uses of held keys.
func (s *session) release() {
	if len(s.uses) == 0 {
		return
	}
	_ = s.destroyAll(s.held.leave(s.uses)) // the session is closed when it fails; the object goes with the connection
	s.uses = nil
}

func (s *session) destroyAll(objects []pkcs11.ObjectHandle) error {
	for _, h := range objects {
		if err := s.destroy(h); err != nil {
			return err
		}
	}
	return nil
}
