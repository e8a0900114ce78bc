package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// run gives f a session and waits for it until the deadline. C calls can't be cancelled: past the deadline the
// caller gets ErrTimeout, while the goroutine inside the module keeps the session to itself until it comes back,
// and wipes the result that nobody takes. So f must share no memory with its caller that either writes later. f is begun
// again when it has done nothing yet for want of a session, or of the index.
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

// leave gives the places back, but not the one that the token has no session for.
func (b bounds) leave(c *conn, err error) {
	lanes := b.lanes(c)
	if err == errCrowded {
		lanes = lanes[:len(lanes)-1]
	}
	leave(lanes)
}

func leave(lanes []chan struct{}) {
	for _, lane := range lanes {
		<-lane
	}
}

func runBounded[T any](ctx context.Context, t *Token, b bounds, secret []byte, f func(s *session) (T, error)) (v T, err error) {
	timer := time.NewTimer(b.timeout)
	defer timer.Stop()
	for {
		c, err := t.begin(ctx, b, timer.C)
		if err != nil {
			clear(secret)
			return v, t.counted(err)
		}
		v, err = await(t, timer.C, nil, func() (T, error) {
			v, err := inSession(t, c, f)
			if !again(err) {
				clear(secret)
			}
			b.leave(c, err)
			return v, err
		}, func(v T) { clear(secret); wipe(v) })
		if !again(err) {
			return v, t.counted(err)
		}
		if err := t.prepare(ctx, c, err, timer.C); err != nil {
			clear(secret)
			return v, t.counted(err)
		}
	}
}

// again tells of calls that have done nothing and may begin again.
func again(err error) bool { return err == errCrowded || err == errIndexing || err == errIdleGone }

// prepare does what a call needs that is to begin again.
func (t *Token) prepare(ctx context.Context, c *conn, why error, deadline <-chan time.Time) error {
	switch why {
	case errIndexing:
		select {
		case <-c.complete:
		case <-c.gone:
			return errLost
		case <-ctx.Done():
			return fmt.Errorf("%w: %w: %w", ErrTimeout, errIndexing, ctx.Err())
		case <-deadline:
			t.stats.timeouts.Add(1)
			return fmt.Errorf("%w: %w", ErrTimeout, errIndexing)
		}
	}
	return nil
}

// counted counts a failure that is the token's.
func (t *Token) counted(err error) error {
	if err != nil && !errors.Is(err, ErrAuthentication) && !errors.Is(err, ErrMaterial) && !errors.Is(err, ErrUnsupported) {
		t.stats.failures.Add(1)
	}
	return err
}

// Who decides the fate of work that reaches its deadline.
const (
	working int32 = iota
	finished
	abandoned
)

// apart runs work in another goroutine: one that waits for work, whose stack has the size that calls need, or a new one.
// They end with the Token.
func (t *Token) apart(work func()) {
	select {
	case t.workers <- work:
		return
	default:
	}
	go func() {
		for {
			work()
			select {
			case work = <-t.workers:
			case <-t.closing:
				return
			}
		}
	}()
}

// await does work in another goroutine and waits for it until the deadline or cancel. Work that comes back later
// counts as stuck until then, and its result is discarded. The caller has joined for it.
func await[T any](t *Token, deadline <-chan time.Time, cancel <-chan struct{}, work func() (T, error), discard func(T)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	var state atomic.Int32
	result := make(chan outcome, 1)
	t.apart(func() {
		defer t.done.Done()
		v, err := work()
		if state.CompareAndSwap(working, finished) {
			result <- outcome{v, err}
			return
		}
		discard(v)
		state.Store(finished)
		t.stuck.Add(-1)
	})
	err := ErrTimeout
	select {
	case o := <-result:
		return o.v, o.err
	case <-deadline:
	case <-cancel:
		err = fmt.Errorf("%w: %w", ErrTimeout, context.Canceled)
	}
	t.stuck.Add(1)
	if err == ErrTimeout && len(t.cfg.ModuleCommand) > 0 {
		time.AfterFunc(drain, func() { // a call in a process of its own need not stay stuck
			if state.Load() == abandoned {
				t.lib.module.Abort()
			}
		})
	}
	if !state.CompareAndSwap(working, abandoned) { // it came back at the last moment
		t.stuck.Add(-1)
		o := <-result
		return o.v, o.err
	}
	t.stats.timeouts.Add(1)
	var none T
	return none, err
}

// begin lets a call in: it has a connection and a place in it, or an error. After it succeeds the caller owes a t.done.Done
// and the places.
func (t *Token) begin(ctx context.Context, b bounds, deadline <-chan time.Time) (*conn, error) {
	if n := t.stuck.Load(); int(n) >= t.cfg.MaxStuck {
		return nil, stuckError(n)
	}
	c, err := t.connected()
	if err != nil {
		return nil, err
	}
	lanes := b.lanes(c)
	for i, lane := range lanes {
		if err := t.take(ctx, lane, c.gone, deadline); err != nil {
			leave(lanes[:i])
			return nil, err
		}
	}
	if !t.join() {
		leave(lanes)
		return nil, errClosed
	}
	return c, nil
}

func stuckError(n int32) error { return fmt.Errorf("%w: %d calls are stuck in it", ErrUnavailable, n) }

// take waits for a place.
func (t *Token) take(ctx context.Context, lane chan<- struct{}, gone <-chan struct{}, deadline <-chan time.Time) error {
	select {
	case lane <- struct{}{}:
		return nil
	default:
	}
	t.stats.waits.Add(1)
	select {
	case lane <- struct{}{}:
		return nil
	case <-gone:
		return errLost
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
	if err == errCrowded && !c.withhold() {
		err = &callError{call: "C_OpenSession", rv: pkcs11.CKR_SESSION_COUNT, kind: ErrUnavailable}
	}
	if err != nil {
		if lost(err) {
			t.report(c, err)
		}
		return v, err
	}
	v, err = f(s)
	s.release()
	s.broken = s.broken || (err != nil && !harmless(err))
	switch {
	case err == nil:
		c.doubts.Store(0)
	case !lost(err):
	case !oneSession(err) || !c.well() || c.doubts.Add(1) >= mostDoubts:
		t.report(c, err)
	case s.idled && s.steps == 1 && hasCode(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED):
		err = errIdleGone // the token has closed it meanwhile
	}
	s.put()
	return v, err
}

// harmless tells of errors that leave the session as good as before.
func harmless(err error) bool {
	return errors.Is(err, ErrAuthentication) || errors.Is(err, ErrMaterial) || errors.Is(err, ErrNoObject) || again(err)
}

// oneSession tells of errors that may mean one session, or one call, and not the whole connection: a token may answer
// CKR_DEVICE_ERROR for a mechanism that it does not like.
func oneSession(err error) bool {
	return hasCode(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_ERROR)
}

// mostDoubts is how many such errors in a row, without a success, mean the connection nevertheless.
const mostDoubts = 8

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
