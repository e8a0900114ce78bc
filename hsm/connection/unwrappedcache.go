package connection

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// unwrappedCache has the session objects that wrapped keys are used through, as many as
// Config.HeldKeys; the one that was not used for the longest time goes first. They belong to the
// keeper's session, so that they last as long as the connection, and are seen from all others
// (PKCS#11 v2.40 section 2.4). None is destroyed while a call uses it: a token may give its handle
// to another object.
type unwrappedCache struct {
	mu      sync.Mutex
	keys    *simplelru.LRU[keyobject.ID, *unwrappedKey] // guarded by mu
	evicted []*unwrappedKey                             // guarded by mu: by the change under way
}

type unwrappedKey struct {
	ready  chan struct{} // closed once handle or err is set
	handle pkcs11.ObjectHandle
	err    error

	users int  // guarded by unwrappedCache.mu
	gone  bool // guarded by unwrappedCache.mu: to be destroyed by its last user
}

func newUnwrappedCache(size int) *unwrappedCache {
	c := &unwrappedCache{}
	// It fails only for a size of 0.
	c.keys, _ = simplelru.NewLRU(max(size, 1),
		func(_ keyobject.ID, k *unwrappedKey) { c.evicted = append(c.evicted, k) })
	return c
}

// take gives a key, whose users now include the caller, and the objects to destroy. If isNew, the
// caller has to unwrap the key.
func (c *unwrappedCache) take(name keyobject.ID) (k *unwrappedKey, isNew bool, destroy []pkcs11.ObjectHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.keys.Get(name)
	if !ok {
		k = &unwrappedKey{ready: make(chan struct{})}
		c.keys.Add(name, k)
	}
	k.users++
	return k, !ok, c.unused()
}

// unused gives the evicted keys that no call uses; the others are destroyed with their last use.
// The caller holds mu.
func (c *unwrappedCache) unused() (destroy []pkcs11.ObjectHandle) {
	for _, k := range c.evicted {
		if k.gone = true; k.users == 0 && k.err == nil {
			destroy = append(destroy, k.handle)
		}
	}
	c.evicted = c.evicted[:0]
	return destroy
}

// forget removes a key.
func (c *unwrappedCache) forget(name keyobject.ID) (destroy []pkcs11.ObjectHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys.Remove(name)
	return c.unused()
}

// fail is for a key that could not be unwrapped: calls that wait for it fail too, and the next call
// tries again.
func (c *unwrappedCache) fail(name keyobject.ID, k *unwrappedKey, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k.err = err
	close(k.ready)
	if now, ok := c.keys.Peek(name); ok && now == k {
		c.keys.Remove(name)
	}
	c.unused()
}

// leave ends a call's use of keys.
func (c *unwrappedCache) leave(keys []*unwrappedKey) (destroy []pkcs11.ObjectHandle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if k.users--; k.users == 0 && k.gone && k.err == nil {
			destroy = append(destroy, k.handle)
		}
	}
	return destroy
}

func (c *unwrappedCache) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.keys.Len()
}

// Hold gives the handle of a wrapped key, unwrapping the key if it is not in the cache. The handle
// stays valid until release.
func (s *Session) Hold(k WrappedKey) (pkcs11.ObjectHandle, error) {
	key, isNew, destroy := s.gen.unwrapped.take(k.Name)
	s.uses = append(s.uses, key)
	if isNew {
		err := s.DestroyAll(destroy)
		if err == nil {
			key.handle, err = s.unwrapHeld(k)
		}
		if err != nil {
			s.gen.unwrapped.fail(k.Name, key, err)
			return 0, err
		}
		close(key.ready)
		return key.handle, nil
	}
	select {
	case <-key.ready:
		return key.handle, key.err
	case <-s.Gone():
		return 0, session.ErrLost
	}
}

// unwrapHeld makes the session object of a key in the keeper's session.
func (s *Session) unwrapHeld(k WrappedKey) (h pkcs11.ObjectHandle, err error) {
	wrapping, err := s.LookupObject(k.Under)
	if err != nil {
		return 0, err
	}
	template, err := k.Template()
	if err != nil {
		return 0, err
	}
	mechanisms, err := s.UnwrapMechanisms(k.Mechanism)
	if err != nil {
		return 0, err
	}
	template = append(template, pkcs11.NewAttribute(pkcs11.CKA_ID, k.Name[:]))
	template = append(template, keyobject.SessionObject()...)
	err = s.InKeeper(func(keeper *session.Session) (err error) {
		h, err = keeper.UnwrapAny(mechanisms, wrapping, k.Wrapped, template)
		if ckr.Has(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED,
			pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_CANCELED) {
			// These do not say that nothing was made; if it fails, the object goes with the connection.
			_ = s.DestroyUnreported(k.Name)
		}
		return err
	})
	if err != nil {
		return 0, k.UnwrapError(err)
	}
	return h, nil
}

// release ends the call's use of cached keys.
func (s *Session) release() {
	if len(s.uses) == 0 {
		return
	}
	// The session is closed when it fails; the object goes with the connection.
	_ = s.DestroyAll(s.gen.unwrapped.leave(s.uses))
	clear(s.uses)
	s.uses = s.uses[:0]
}

// Evict destroys the session object of a wrapped key.
func (s *Session) Evict(name keyobject.ID) error { return s.DestroyAll(s.gen.unwrapped.forget(name)) }
