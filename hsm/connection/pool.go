package connection

import (
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/session"
)

// Session is a session of the pool, in use by one call of Run.
type Session struct {
	session.Session
	gen  *generation
	uses []*unwrappedKey // until release
}

// use makes a new Session of an opened session.
func (g *generation) use(h pkcs11.SessionHandle) *Session {
	return &Session{Session: session.Session{Shared: g.Shared, Module: g.Module, Handle: h}, gen: g}
}

// session takes an idle session or opens one. The caller holds a place.
func (g *generation) session() (*Session, error) {
	g.mu.Lock()
	if g.Lost() {
		g.mu.Unlock()
		return nil, session.ErrLost
	}
	g.users++
	if n := len(g.idle); n > 0 {
		s := g.idle[n-1]
		g.idle = g.idle[:n-1]
		g.mu.Unlock()
		s.Idled, s.Steps = true, 0
		return s, nil
	}
	g.open++
	g.mu.Unlock()
	h, err := g.lib.openSession(g)
	if err == nil {
		return g.use(h), nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
	g.leave()
	if ckr.Has(err, pkcs11.CKR_SESSION_COUNT) && g.open > 0 {
		err = errCrowded
	}
	return nil, err
}

// put returns a session to the pool, or closes it when it is broken. The sessions of a lost
// connection are closed by its close; those that come back later are stale.
func (s *Session) put() {
	g := s.gen
	g.mu.Lock()
	stale, broken := g.closed, s.Broken && !g.Lost()
	if !stale && !broken {
		g.idle = append(g.idle, s)
		g.restore()
		g.leave()
		g.mu.Unlock()
		return
	}
	g.open--
	g.mu.Unlock()
	if stale {
		g.lib.staleSessions.add(s.Handle, g)
		g.lib.sweep()
	} else {
		g.lib.closeSession(s.Handle)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave()
}

// restore gives a withheld place back now and then. The caller holds mu.
func (g *generation) restore() {
	if g.withheld == 0 {
		return
	}
	if g.returned++; g.returned >= restoreAfter {
		g.withheld, g.returned = g.withheld-1, 0
		<-g.places
	}
}

// restoreAfter is how many sessions are given back before the token is asked again for one more
// than it has allowed.
const restoreAfter = 1000

// withhold takes the caller's place away for good, or until the token is asked again. One place is
// left in any case.
func (g *generation) withhold() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.withheld+1 >= cap(g.places) {
		return false
	}
	g.withheld, g.returned = g.withheld+1, 0
	return true
}

// leave ends a call's use of a session. The caller holds mu.
func (g *generation) leave() {
	g.users--
	if g.users == 0 && g.Lost() {
		close(g.unused)
	}
}
