package hsm

import (
	"context"
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
	lib    *library
	slot   uint
	info   pkcs11.TokenInfo
	keeper pkcs11.SessionHandle
	dead   atomic.Bool

	places     chan struct{} // one for every session that may be in use
	generators chan struct{} // one for every session that may be generating a key pair: a quarter of places

	mu   sync.Mutex
	idle []pkcs11.SessionHandle // guarded by mu
	open int                    // guarded by mu: sessions opened and not closed, idle ones included

	index  // handles by CKA_ID
	probes // of the token
}

// session is a PKCS#11 session in use by one call of run.
type session struct {
	*conn
	handle pkcs11.SessionHandle
	broken bool // must not be used again
}

func newConn(lib *library, slot uint, info pkcs11.TokenInfo, keeper pkcs11.SessionHandle, limit int) *conn {
	return &conn{lib: lib, slot: slot, info: info, keeper: keeper,
		places: make(chan struct{}, limit), generators: make(chan struct{}, max(1, limit/4)),
		index: index{handles: map[ObjectID]pkcs11.ObjectHandle{}, complete: make(chan struct{})}}
}

func (c *conn) usage() (open, busy int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open, c.open - len(c.idle)
}

// session takes an idle session or opens one. The caller holds a place.
func (c *conn) session() (*session, error) {
	c.mu.Lock()
	if n := len(c.idle); n > 0 {
		h := c.idle[n-1]
		c.idle = c.idle[:n-1]
		c.mu.Unlock()
		return &session{conn: c, handle: h}, nil
	}
	c.open++
	c.mu.Unlock()
	h, err := c.lib.ctx.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		c.mu.Lock()
		c.open--
		c.mu.Unlock()
		return nil, failed("C_OpenSession", err)
	}
	return &session{conn: c, handle: h}, nil
}

// put gives a session back, or closes it when it is broken or its connection is dead.
func (s *session) put() {
	s.mu.Lock()
	if !s.broken && !s.dead.Load() {
		s.idle = append(s.idle, s.handle)
		s.mu.Unlock()
		return
	}
	s.open--
	s.mu.Unlock()
	// A session that can't be closed is already gone.
	_ = s.lib.ctx.CloseSession(s.handle)
}

// close ends the connection's sessions but leaves those of others on the same token alone.
func (c *conn) close() {
	c.dead.Store(true)
	c.mu.Lock()
	idle := c.idle
	c.idle, c.open = nil, c.open-len(c.idle)
	c.mu.Unlock()
	for _, h := range append(idle, c.keeper) {
		_ = c.lib.ctx.CloseSession(h)
	}
}

// Who decides the fate of a call that reaches its deadline.
const (
	callRunning int32 = iota
	callFinished
	callAbandoned
)

// run gives f a session and waits for it until the deadline. C calls can't be cancelled: past the deadline the
// caller gets ErrTimeout, while the goroutine inside the module keeps the session to itself until it comes back,
// and wipes the result that nobody takes. So f must share no memory with its caller that either writes later.
//
// A caller that goes away (ctx) stops waiting for a session, but not for a call under way.
func run[T any](ctx context.Context, t *Token, f func(s *session) (T, error)) (T, error) {
	return runSecret(ctx, t, nil, f)
}

// runSecret is run for an f that reads a secret, which is cleared when f has ended or will never begin.
func runSecret[T any](ctx context.Context, t *Token, secret []byte, f func(s *session) (T, error)) (T, error) {
	return runBounded(ctx, t, bounds{timeout: t.cfg.CallTimeout}, secret, f)
}

// runGenerate is run for an f that generates a key pair.
func runGenerate[T any](ctx context.Context, t *Token, f func(s *session) (T, error)) (T, error) {
	return runBounded(ctx, t, bounds{timeout: t.cfg.GenerateTimeout, generates: true}, nil, f)
}

// bounds are the deadline of a call, and whether it needs a place among the generators too.
type bounds struct {
	timeout   time.Duration
	generates bool
}

// lanes are where a call needs a place, in the order of taking.
func (b bounds) lanes(c *conn) []chan struct{} {
	if b.generates {
		return []chan struct{}{c.generators, c.places}
	}
	return []chan struct{}{c.places}
}

func leave(lanes []chan struct{}) {
	for _, lane := range lanes {
		<-lane
	}
}

func runBounded[T any](ctx context.Context, t *Token, b bounds, secret []byte, f func(s *session) (T, error)) (T, error) {
	var none T
	c, timer, err := t.begin(ctx, b)
	if err != nil {
		clear(secret)
		return none, err
	}
	defer timer.Stop()

	type outcome struct {
		v   T
		err error
	}
	var state atomic.Int32
	result := make(chan outcome, 1)
	go func() {
		defer t.done.Done()
		defer leave(b.lanes(c))
		v, err := inSession(t, c, f)
		clear(secret)
		if state.CompareAndSwap(callRunning, callFinished) {
			result <- outcome{v, err}
			return
		}
		t.stuck.Add(-1)
		wipe(v)
	}()

	select {
	case o := <-result:
		return o.v, o.err
	case <-timer.C:
	}
	t.stuck.Add(1)
	if !state.CompareAndSwap(callRunning, callAbandoned) { // it came back at the last moment
		t.stuck.Add(-1)
		o := <-result
		return o.v, o.err
	}
	t.stats.timeouts.Add(1)
	return none, fmt.Errorf("%w: %v", ErrTimeout, b.timeout)
}

// begin lets a call in: it has a connection, a place in it, and a running deadline, or an error. After it succeeds
// the caller owes a t.done.Done and the places.
func (t *Token) begin(ctx context.Context, b bounds) (*conn, *time.Timer, error) {
	if n := t.stuck.Load(); int(n) >= t.cfg.MaxStuck {
		t.stats.failures.Add(1)
		return nil, nil, fmt.Errorf("%w: %d calls are stuck in it", ErrUnavailable, n)
	}
	c, err := t.connected()
	if err != nil {
		return nil, nil, err
	}
	timer := time.NewTimer(b.timeout)
	lanes := b.lanes(c)
	for i, lane := range lanes {
		if err := t.enter(ctx, lane, timer.C); err != nil {
			leave(lanes[:i])
			timer.Stop()
			return nil, nil, err
		}
	}
	if !t.join() {
		leave(lanes)
		timer.Stop()
		return nil, nil, errClosed
	}
	return c, timer, nil
}

// enter waits for a place.
func (t *Token) enter(ctx context.Context, lane chan<- struct{}, deadline <-chan time.Time) error {
	select {
	case lane <- struct{}{}:
		return nil
	default:
	}
	t.stats.waits.Add(1)
	select {
	case lane <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: wait for a session: %w", ErrTimeout, ctx.Err())
	case <-deadline:
		t.stats.timeouts.Add(1)
		return fmt.Errorf("%w: no session became free in time", ErrTimeout)
	}
}

// inSession runs f and keeps the session only when it is surely in order.
func inSession[T any](t *Token, c *conn, f func(s *session) (T, error)) (v T, err error) {
	s, err := c.session()
	if err == nil {
		v, err = f(s)
		s.broken = s.broken || (err != nil && !harmless(err))
		s.put()
	}
	if err != nil && !errors.Is(err, ErrAuthentication) && !errors.Is(err, ErrMaterial) {
		t.stats.failures.Add(1)
	}
	if lost(err) {
		t.report(c, err)
	}
	return v, err
}

// harmless tells of errors that leave the session as good as before.
func harmless(err error) bool {
	return errors.Is(err, ErrAuthentication) || errors.Is(err, ErrMaterial) || errors.Is(err, ErrNoObject)
}

// wipe clears a result that nobody takes.
func wipe(v any) {
	switch v := v.(type) {
	case []byte:
		clear(v)
	case Sealed:
		clear(v.Plaintext)
	case exportedPair:
		clear(v.private)
	}
}

// report tells the supervisor that a connection is lost. Only the first report of a connection counts.
func (t *Token) report(c *conn, err error) {
	if !c.dead.CompareAndSwap(false, true) {
		return
	}
	t.setReason(err)
	t.current.CompareAndSwap(c, nil)
	t.lost <- c
}

// supervise makes a new connection whenever one is lost, with growing pauses. A refused PIN ends it: the PIN is
// tried once, since tokens lock.
func (t *Token) supervise(ctx context.Context) {
	defer t.done.Done()
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-t.lost:
			t.mu.Lock()
			reason := t.reason
			t.mu.Unlock()
			t.cfg.OnChange(reason)
			c.close()
		}
		if !t.reconnect(ctx) {
			return
		}
	}
}

func (t *Token) reconnect(ctx context.Context) bool {
	for pause := t.cfg.RetryMin; ; pause = min(2*pause, t.cfg.RetryMax) {
		c, err := t.connect()
		if err == nil {
			t.install(c)
			return true
		}
		t.setReason(err)
		if errors.Is(err, ErrPIN) {
			t.cfg.OnChange(err)
			return false
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-timer.C:
		}
	}
}
