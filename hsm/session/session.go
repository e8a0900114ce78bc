// Package session does the steps of cryptography in one PKCS#11 session: the C calls with their
// templates and parameters, and what is made of their answers. It is given handles of objects, and
// knows neither how they were found nor where a session comes from; that is for package connection.
//
// What it protects: what a call has made in the token before it fails is destroyed. Lengths and
// public keys that the token returns are checked, and that a new key can't leave the token. Callers
// clear the plaintexts and keys that they are given.
package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/profile"
)

// Shared is what all sessions of one connection share: its login, and what is known of the token.
// After a loss the next connection has another Shared.
type Shared struct {
	Module  cryptoki.Module
	Locks   *Locks // of the module
	Slot    uint
	Profile *profile.Profile
	Rand    io.Reader // for initialisation vectors
	Proved  *Proved   // over all connections to the token
	// Keeper is the session that holds the login. Objects that live as long as the connection are
	// made in it.
	Keeper pkcs11.SessionHandle
	// SearchAlone is how long a search may keep calls waiting that make objects.
	SearchAlone time.Duration

	keeping sync.Mutex // held while an object is made or destroyed in the keeper's session
	capabilities

	dead atomic.Bool
	gone chan struct{} // closed once dead is set
}

// NewShared gives the Shared of a new connection, whose other fields are to be set before its first
// session.
func NewShared(module cryptoki.Module, locks *Locks) *Shared {
	return &Shared{Module: module, Locks: locks, gone: make(chan struct{})}
}

// Lost reports whether the connection is lost.
func (c *Shared) Lost() bool { return c.dead.Load() }

// Gone is closed when the connection is lost.
func (c *Shared) Gone() <-chan struct{} { return c.gone }

// End marks the connection as lost. It is called once.
func (c *Shared) End() {
	c.dead.Store(true)
	close(c.gone)
}

// KeeperSession is the session that holds the login.
func (c *Shared) KeeperSession() *Session {
	return &Session{Shared: c, Module: c.Module, Handle: c.Keeper}
}

// InKeeper calls f with the session that holds the login, one f at a time: its objects last as long
// as the connection, and all other sessions see them (PKCS#11 v2.40 section 2.4).
func (c *Shared) InKeeper(f func(keeper *Session) error) error {
	c.keeping.Lock()
	defer c.keeping.Unlock()
	return f(c.KeeperSession())
}

// InKeeper is Shared's. Who observes the calls of s observes those of f, too.
func (s *Session) InKeeper(f func(keeper *Session) error) error {
	return s.Shared.InKeeper(func(keeper *Session) error {
		keeper.Module = s.Module
		return f(keeper)
	})
}

// Session is a PKCS#11 session, used by one goroutine at a time. Its methods make C calls in it.
type Session struct {
	*Shared
	Module cryptoki.Module // that of Shared, or one that tells of its calls: see Observe
	Handle pkcs11.SessionHandle
	Idled  bool // it was in the pool before, so the token may have closed it
	Steps  int  // C calls made
	Broken bool // must not be used again

	iv    [IVSize]byte // of the GCM call under way: C is given its address, so it can't be on a stack
	watch *Watch
}

// Watch guards a long search.
type Watch struct {
	Timer *time.Timer
	Limit time.Duration // every C call sets the timer to it
	Wait  time.Duration // a search waits no longer than this for objects that are being made
}

// SetWatch sets what watches the session's calls, nil for nothing.
func (s *Session) SetWatch(w *Watch) { s.watch = w }

// ErrLost is the error of calls whose connection was lost before or meanwhile.
var ErrLost = fmt.Errorf("%w: the connection was lost", ckr.ErrUnavailable)

// step comes before every C call in a session: no handle of a lost connection is used.
func (s *Session) step() error {
	if s.dead.Load() {
		return ErrLost
	}
	s.Steps++
	if s.watch != nil {
		s.watch.Timer.Reset(s.watch.Limit)
	}
	return nil
}

// LoggedIn reports whether the session is open and its user logged in.
func (s *Session) LoggedIn() bool {
	if s.step() != nil {
		return false
	}
	state, err := s.Module.SessionState(s.Handle)
	return err == nil && state == pkcs11.CKS_RW_USER_FUNCTIONS &&
		!s.dead.Load() // or it may be the next connection's login
}

// Alive reports whether the connection works, whatever happened in one session: the user is logged
// in, and the token answers.
func (c *Shared) Alive() bool {
	keeper := c.KeeperSession()
	if !keeper.LoggedIn() {
		return false
	}
	_, err := keeper.Random(1)
	return err == nil
}

// DestroyIfExtractable is CheckNotExtractable, and destroys a key that does not pass.
func (s *Session) DestroyIfExtractable(h pkcs11.ObjectHandle) error {
	if err := s.CheckNotExtractable(h); err != nil {
		return errors.Join(err, s.Destroy(h))
	}
	return nil
}

// CheckNotExtractable checks that a key is sensitive and not extractable, as the template asked:
// some tokens ignore that.
func (s *Session) CheckNotExtractable(h pkcs11.ObjectHandle) error {
	values, err := s.Attributes(h, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE)
	if err == nil && (!bytes.Equal(values[0], []byte{1}) || !bytes.Equal(values[1], []byte{0})) {
		err = ckr.OfKind(ckr.ErrUnsupported, "the token made a key that can leave it")
	}
	return err
}

// DestroyAll destroys objects, up to the first that can't be destroyed.
func (s *Session) DestroyAll(objects []pkcs11.ObjectHandle) error {
	for _, h := range objects {
		if err := s.Destroy(h); err != nil {
			return err
		}
	}
	return nil
}
