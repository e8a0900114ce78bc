package connection

import (
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// staleSessions are sessions of lost connections that are still to be closed. After a loss a module
// may give their numbers to new sessions, so a session may be closed only while its number is known
// to be still its own: no session may be opening meanwhile.
type staleSessions struct {
	mu      sync.Mutex
	owners  map[pkcs11.SessionHandle]*generation // guarded by mu: of all sessions that this process has opened
	waiting []staleSession                       // guarded by mu
	opening int                                  // guarded by mu
	closing chan struct{}                        // guarded by mu: closed when a stale session has been closed; else nil
}

type staleSession struct {
	handle pkcs11.SessionHandle
	of     *generation
}

// closeWait is how long the closing of a stale session keeps new sessions waiting: after that it is
// inside the module for certain.
const closeWait = 100 * time.Millisecond

func (x *staleSessions) add(h pkcs11.SessionHandle, g *generation) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = append(x.waiting, staleSession{h, g})
}

// beginOpening waits for a stale session that is being closed.
func (x *staleSessions) beginOpening() {
	x.mu.Lock()
	x.opening++
	closing := x.closing
	x.mu.Unlock()
	if closing == nil {
		return
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-closing:
	case <-timer.C:
		x.closed(closing)
	}
}

func (x *staleSessions) closed(closing chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing == closing {
		x.closing = nil
	}
}

func (x *staleSessions) endOpening(h pkcs11.SessionHandle, owner *generation) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.opening--
	if owner != nil {
		x.owners[h] = owner
	}
}

// next gives a stale session to close. The caller closes the channel after it.
func (x *staleSessions) next() (h pkcs11.SessionHandle, closing chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.opening == 0 && x.closing == nil && len(x.waiting) > 0 {
		s := x.waiting[len(x.waiting)-1]
		x.waiting = x.waiting[:len(x.waiting)-1]
		if s.of.ofModule != s.of.lib.module.Generation() {
			continue // it ended when the module was finalised
		}
		if x.owners[s.handle] == s.of { // or the number is another session's now
			delete(x.owners, s.handle)
			x.closing = make(chan struct{})
			return s.handle, x.closing
		}
	}
	return 0, nil
}

// sweep closes the stale sessions, unless others are opening or closing sessions: they will.
func (l *library) sweep() {
	for {
		h, closing := l.staleSessions.next()
		if closing == nil {
			return
		}
		_ = l.module.CloseSession(h) // one that can't be closed is already gone
		close(closing)
		l.staleSessions.closed(closing)
	}
}

func (l *library) openSession(g *generation) (pkcs11.SessionHandle, error) {
	l.staleSessions.beginOpening()
	h, err := l.module.OpenSession(g.Slot)
	if err != nil {
		l.staleSessions.endOpening(0, nil)
	} else {
		l.staleSessions.endOpening(h, g)
	}
	l.sweep()
	return h, ckr.Failed("C_OpenSession", err)
}

// closeSession closes a session of a connection that lives.
func (l *library) closeSession(h pkcs11.SessionHandle) {
	l.staleSessions.mu.Lock()
	delete(l.staleSessions.owners, h)
	l.staleSessions.mu.Unlock()
	_ = l.module.CloseSession(h) // one that can't be closed is already gone
}
