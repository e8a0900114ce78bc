package hsm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// conn is one generation of the connection: a login, its sessions and its object handles. All of them die
// together; after a loss a new conn is made and nothing of the old one is used again.
type conn struct {
	lib  *library
	slot uint
	// generation is the module's when the connection began: handles mean nothing to another one.
	generation uint64
	info       pkcs11.TokenInfo
	keeper     pkcs11.SessionHandle
	profile    *profile

	searchAlone time.Duration // a search keeps creations waiting so long
	searchCall  time.Duration // a call of the index that takes longer means a loss

	freeMemory, totalMemory atomic.Uint64 // of CK_TOKEN_INFO, 0 for unknown

	doubts atomic.Int32 // errors in a row that may have meant the connection, see mostDoubts

	dead atomic.Bool
	gone chan struct{} // closed once dead is set

	places     chan struct{} // one for every session that may be in use
	generators chan struct{} // one for every session that may be generating a key pair: a quarter of places

	mu       sync.Mutex
	idle     []pkcs11.SessionHandle // guarded by mu
	open     int                    // guarded by mu: sessions opened and not closed, idle ones included
	users    int                    // guarded by mu: who is in a session now, or opening one
	withheld int                    // guarded by mu: places taken away, since the token has no more sessions
	returned int                    // guarded by mu: sessions given back since the last change of withheld
	unused   chan struct{}          // closed once dead is set and users is 0
	closed   bool                   // guarded by mu: close was called

	index        // handles by CKA_ID
	probes       // of the token
	held   *held // session objects of wrapped keys
}

// session is a PKCS#11 session in use by one call of run.
type session struct {
	*conn
	handle   pkcs11.SessionHandle
	idled    bool        // it was idle before
	steps    int         // C calls made
	broken   bool        // must not be used again
	uses     []*heldKey  // until release
	watchdog *time.Timer // of the index, reset by every step
}

// Why a call must begin again: it has done nothing yet.
var (
	errCrowded  = errors.New("the token has no session left")
	errIndexing = errors.New("the token's objects are not all known yet")
	errIdleGone = errors.New("the token has closed an idle session")
)

// errLost is for calls of a connection that was lost under them.
var errLost = fmt.Errorf("%w: the connection was lost", ErrUnavailable)

func newConn(lib *library, slot uint, info pkcs11.TokenInfo, p *profile, limit int) *conn {
	return &conn{lib: lib, slot: slot, generation: lib.module.Generation(), info: info, profile: p, gone: make(chan struct{}), unused: make(chan struct{}),
		places: make(chan struct{}, limit), generators: make(chan struct{}, max(1, limit/4)),
		index: index{handles: map[ObjectID]pkcs11.ObjectHandle{}, complete: make(chan struct{})}}
}

func (c *conn) usage() (open, busy int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.open - len(c.idle)
}

// end makes the connection a lost one. It tells whether it was none before.
func (c *conn) end() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead.Load() {
		return false
	}
	c.dead.Store(true)
	c.lib.left(c)
	close(c.gone)
	if c.users == 0 {
		close(c.unused)
	}
	return true
}

// leave counts a user out. The caller holds mu.
func (c *conn) leave() {
	c.users--
	if c.users == 0 && c.dead.Load() {
		close(c.unused)
	}
}

// session takes an idle session or opens one. The caller holds a place.
func (c *conn) session() (*session, error) {
	c.mu.Lock()
	if c.dead.Load() {
		c.mu.Unlock()
		return nil, errLost
	}
	c.users++
	if n := len(c.idle); n > 0 {
		h := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return &session{conn: c, handle: h, idled: true}, nil
	}
	c.open++
	c.mu.Unlock()
	h, err := c.lib.openSession(c)
	if err == nil {
		return &session{conn: c, handle: h}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.leave()
	if hasCode(err, pkcs11.CKR_SESSION_COUNT) && c.open > 0 {
		err = errCrowded
	}
	return nil, err
}

// put gives a session back, or closes it when it is broken. The sessions of a lost connection are left to close, and after
// it are strays.
func (s *session) put() {
	s.mu.Lock()
	stray, broken := s.closed, s.broken && !s.dead.Load()
	if !stray && !broken {
		s.idle = append(s.idle, s.handle)
		s.restore()
		s.leave()
		s.mu.Unlock()
		return
	}
	s.open--
	s.mu.Unlock()
	if stray {
		s.lib.strays.add(s.handle, s.conn)
		s.lib.sweep()
	} else {
		s.lib.closeSession(s.handle)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave()
}

// restore gives a withheld place back now and then. The caller holds mu.
func (c *conn) restore() {
	if c.withheld == 0 {
		return
	}
	if c.returned++; c.returned >= restoreAfter {
		c.withheld, c.returned = c.withheld-1, 0
		<-c.places
	}
}

// restoreAfter is how many sessions are given back before the token is asked again for one more than it has allowed.
const restoreAfter = 1000

// withhold takes the caller's place away for good, or until the token is asked again. One place is left in any case.
func (c *conn) withhold() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.withheld+1 >= cap(c.places) {
		return false
	}
	c.withheld, c.returned = c.withheld+1, 0
	return true
}

// well tells whether the connection lives apart from one session: its login is there, and the token itself answers.
func (c *conn) well() bool {
	keeper := session{conn: c, handle: c.keeper}
	if !keeper.loggedIn() {
		return false
	}
	_, err := keeper.random(1)
	return err == nil
}

// close ends a lost connection's sessions but leaves those of others on the same token alone. Users that are still inside the
// module have been given the time to come back.
func (c *conn) close() {
	c.end()
	c.mu.Lock()
	handles := append(c.idle, c.keeper)
	c.idle, c.open, c.closed = nil, c.open-len(c.idle), true
	c.mu.Unlock()
	for _, h := range handles {
		c.lib.strays.add(h, c)
	}
	c.lib.sweep()
}
