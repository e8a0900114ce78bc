package connection

import (
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/session"
)

// leave counts a user out. The caller holds mu.
func (g *generation) leave() {
	g.users--
	if g.users == 0 && g.Lost() {
		close(g.unused)
	}
}

// Session is a session of the pool, in use by one call of run.
type Session struct {
	session.Session
	gen  *generation
	uses []*unwrappedKey // until release
}

func (g *generation) use(h pkcs11.SessionHandle, idled bool) *Session {
	return &Session{Session: session.Session{Shared: g.Shared, Handle: h, Idled: idled}, gen: g}
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
		h := g.idle[n-1]
		g.idle = g.idle[:n-1]
		g.mu.Unlock()
		return g.use(h, true), nil
	}
	g.open++
	g.mu.Unlock()
	h, err := g.lib.openSession(g)
	if err == nil {
		return g.use(h, false), nil
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

// put gives a session back, or closes it when it is broken. The sessions of a lost connection are
// left to close, and after it they are stale.
func (s *Session) put() {
	g := s.gen
	g.mu.Lock()
	stale, broken := g.closed, s.Broken && !g.Lost()
	if !stale && !broken {
		g.idle = append(g.idle, s.Handle)
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

// inSession runs f and keeps the session only when it is surely in order.
func inSession[T any](l *Link, g *generation, f func(s *Session) (T, error)) (v T, err error) {
	s, err := g.session()
	if err == errCrowded && !g.withhold() {
		err = &ckr.Error{Call: "C_OpenSession", RV: pkcs11.CKR_SESSION_COUNT, Kind: ckr.ErrUnavailable}
	}
	if err != nil {
		if ckr.Lost(err) {
			l.report(g, err)
		}
		return v, err
	}
	v, err = f(s)
	s.release()
	s.Broken = s.Broken || (err != nil && !harmless(err))
	switch {
	case err == nil:
		g.doubts.Store(0)
	case !ckr.Lost(err):
	case !oneSession(err) || !g.Well() || g.doubts.Add(1) >= mostDoubts:
		l.report(g, err)
	case s.Idled && s.Steps == 1 && ckr.Has(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED):
		err = errIdleGone // the token has closed it meanwhile
	}
	s.put()
	return v, err
}

// harmless tells of errors that leave the session as good as before.
func harmless(err error) bool {
	return errors.Is(err, ckr.ErrAuthentication) || errors.Is(err, ckr.ErrMaterial) ||
		errors.Is(err, ckr.ErrNoObject) || safeToRestart(err)
}

// oneSession tells of errors that may mean one session, or one call, and not the whole connection:
// a token may answer CKR_DEVICE_ERROR for a mechanism that it does not like.
func oneSession(err error) bool {
	return ckr.Has(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_ERROR)
}

// mostDoubts is how many such errors in a row, without a success, mean the connection nevertheless.
const mostDoubts = 8
