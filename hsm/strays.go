package hsm

import (
	"sync"
	"time"

	"github.com/miekg/pkcs11"
)

// strays are sessions of lost connections that are still to be closed. After a loss a module may give their numbers to new
// sessions, so what is closed must be known to be the old one: no session may be opening meanwhile.
type strays struct {
	mu      sync.Mutex
	owners  map[pkcs11.SessionHandle]*conn // guarded by mu: of all sessions that this process has opened
	waiting []stray                        // guarded by mu
	opening int                            // guarded by mu
	closing chan struct{}                  // guarded by mu: closed when the closing of a stray is over; nil when there is none
}

type stray struct {
	handle pkcs11.SessionHandle
	conn   *conn
}

// closeWait is how long the closing of a stray keeps new sessions waiting: after that it is inside the module for certain.
const closeWait = 100 * time.Millisecond

func (x *strays) add(h pkcs11.SessionHandle, c *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.waiting = append(x.waiting, stray{h, c})
}

// beginOpening waits for a stray that is being closed.
func (x *strays) beginOpening() {
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

func (x *strays) closed(closing chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.closing == closing {
		x.closing = nil
	}
}

func (x *strays) endOpening(h pkcs11.SessionHandle, owner *conn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.opening--
	if owner != nil {
		x.owners[h] = owner
	}
}

// next gives a stray to close. Whoever gets one closes the channel, too.
func (x *strays) next() (h pkcs11.SessionHandle, closing chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for x.opening == 0 && x.closing == nil && len(x.waiting) > 0 {
		s := x.waiting[len(x.waiting)-1]
		x.waiting = x.waiting[:len(x.waiting)-1]
		if s.conn.generation != s.conn.lib.module.Generation() {
			continue // it ended when the module was finalised
		}
		if x.owners[s.handle] == s.conn { // or the number is another session's now
			delete(x.owners, s.handle)
			x.closing = make(chan struct{})
			return s.handle, x.closing
		}
	}
	return 0, nil
}

// sweep closes the strays, unless others are opening or closing sessions: they will.
func (l *library) sweep() {
	for {
		h, closing := l.strays.next()
		if closing == nil {
			return
		}
		_ = l.module.CloseSession(h) // one that can't be closed is already gone
		close(closing)
		l.strays.closed(closing)
	}
}

func (l *library) openSession(c *conn) (pkcs11.SessionHandle, error) {
	l.strays.beginOpening()
	h, err := l.module.OpenSession(c.slot)
	if err != nil {
		l.strays.endOpening(0, nil)
	} else {
		l.strays.endOpening(h, c)
	}
	l.sweep()
	return h, failed("C_OpenSession", err)
}

// closeSession closes a session of a connection that lives.
func (l *library) closeSession(h pkcs11.SessionHandle) {
	l.strays.mu.Lock()
	delete(l.strays.owners, h)
	l.strays.mu.Unlock()
	_ = l.module.CloseSession(h) // one that can't be closed is already gone
}
