package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// report tells the supervisor that a connection is lost. Only the first report of a connection counts.
func (t *Token) report(c *conn, err error) {
	if !c.end() {
		return
	}
	t.setReason(err)
	t.current.CompareAndSwap(c, nil)
	t.lost <- c
}

// supervise makes a new connection whenever one is lost, with growing pauses. A refused PIN ends it: the PIN is
// tried once, since tokens lock. In between it keeps the connection from falling asleep. absent tells that there is none yet.
func (t *Token) supervise(ctx context.Context, absent bool) {
	defer t.done.Done()
	if absent && !t.reconnect(ctx) {
		return
	}
	tick := time.NewTicker(t.cfg.KeepAlive)
	defer tick.Stop()
	var rest time.Duration // before the next attempt
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if c := t.current.Load(); c != nil {
				t.touch(c)
			}
		case c := <-t.lost:
			t.mu.RLock()
			reason := t.reason
			t.mu.RUnlock()
			t.cfg.OnChange(reason)
			t.bury(ctx, c)
			if rest = t.longer(rest); c.indexed() {
				rest = 0 // or the token could be asked for logins without end that lead to nothing
			}
			if !pause(ctx, rest) || !t.reconnect(ctx) {
				return
			}
		}
	}
}

// drain is how long the calls of a lost connection have to come back. What stays longer is inside the module for certain: its
// handles are not to be used by a call again that meets new handles of the same numbers.
const drain = 500 * time.Millisecond

// bury waits for the users of a lost connection and closes its sessions. Neither keeps the next connection waiting for long.
func (t *Token) bury(ctx context.Context, c *conn) {
	timer := time.NewTimer(min(drain, t.cfg.CallTimeout))
	defer timer.Stop()
	select {
	case <-c.unused:
	case <-timer.C:
	case <-ctx.Done():
	}
	_, _ = bounded(t, drain, ctx.Done(), func() (struct{}, error) { c.close(); return struct{}{}, nil }, ignore)
}

func ignore[T any](T) {}

// bounded does the supervisor's work.
func bounded[T any](t *Token, timeout time.Duration, cancel <-chan struct{}, work func() (T, error), discard func(T)) (v T, err error) {
	t.done.Add(1)
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	return await(t, timer.C, cancel, work, discard)
}

// touch uses the keeper, since some tokens close what is idle, and a loss is better known before there is a request.
func (t *Token) touch(c *conn) {
	_, err := bounded(t, t.cfg.CallTimeout, c.gone, func() (struct{}, error) {
		keeper := session{conn: c, handle: c.keeper}
		_, err := keeper.random(1)
		if err == nil {
			var info pkcs11.TokenInfo
			if info, err = t.lib.module.TokenInfo(c.slot); err == nil {
				c.noteMemory(info)
			}
			err = failed("C_GetTokenInfo", err)
		}
		return struct{}{}, err
	}, ignore)
	if lost(err) {
		t.report(c, err)
	}
}

// reconnect tries until there is a connection, the PIN is refused, or ctx ends. An attempt that hangs is left behind; there
// are no more than MaxStuck of them. After an attempt that failed the module is initialised anew: many modules of network
// HSMs find back to them in no other way.
func (t *Token) reconnect(ctx context.Context) bool {
	var trusted time.Time // when the module could last be initialised, or need not be
	for rest := t.cfg.RetryMin; ; rest = t.longer(rest) {
		seen := t.lib.module.Generation()
		c, err := t.attempt(ctx)
		if err == nil {
			t.install(c)
			return true
		}
		refused := t.pin.usable() // maybe by a login of an earlier attempt, which came back late
		if refused != nil && !errors.Is(err, ErrPIN) {
			err = fmt.Errorf("connect: %w", explainLogin(refused))
		}
		t.setReason(err)
		if refused != nil { // what the token only says of its PINs may change, and costs no try
			t.cfg.OnChange(err)
			return false
		}
		if err := t.restart(ctx, seen, err); err == nil || trusted.IsZero() {
			trusted = time.Now()
		} else if t.cfg.GiveUpAfter > 0 && time.Since(trusted) >= t.cfg.GiveUpAfter {
			t.cfg.OnGiveUp(fmt.Errorf("%w: %w", ErrGivenUp, err))
			trusted = time.Now()
		}
		if !pause(ctx, rest) {
			return false
		}
	}
}

// restartWait is how long restart waits for calls inside the module: bury has waited for them already.
const restartWait = 20 * time.Millisecond

// restart initialises the module anew, unless other tokens of it are connected and it says that it is initialised. Its
// error means that the module can't be brought back within this process.
func (t *Token) restart(ctx context.Context, seen uint64, why error) error {
	if !t.lib.unused() && !hasCode(why, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) && !t.lib.module.Gone() {
		return nil
	}
	if n := t.stuck.Load(); int(n) >= t.cfg.MaxStuck && !t.lib.module.Abort() {
		return stuckError(n)
	}
	_, err := bounded(t, t.cfg.ConnectTimeout, ctx.Done(), func() (struct{}, error) {
		return struct{}{}, t.lib.module.Restart(seen, restartWait)
	}, ignore)
	switch {
	case err == nil:
		t.stats.reinitializations.Add(1)
		t.cfg.OnNotice("the PKCS#11 module was initialised anew")
	case errors.Is(err, cryptoki.ErrShared):
		err = nil
	case errors.Is(err, cryptoki.ErrBusy), errors.Is(err, ErrTimeout):
		t.cfg.OnNotice("the PKCS#11 module can't be initialised anew: " + err.Error())
	default: // it may work the next time
		t.cfg.OnNotice(err.Error())
		err = nil
	}
	return err
}

// longer is the pause after a pause.
func (t *Token) longer(rest time.Duration) time.Duration {
	return min(max(2*rest, t.cfg.RetryMin), t.cfg.RetryMax)
}

// pause tells whether it came to its end before ctx did.
func pause(ctx context.Context, rest time.Duration) bool {
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// attempt is connect, which must not keep the supervisor.
func (t *Token) attempt(ctx context.Context) (*conn, error) {
	if n := t.stuck.Load(); int(n) >= t.cfg.MaxStuck {
		return nil, stuckError(n)
	}
	c, err := bounded(t, t.cfg.ConnectTimeout, ctx.Done(), t.connect, func(c *conn) {
		if c != nil {
			c.close()
		}
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// connect finds the token and logs in.
func (t *Token) connect() (*conn, error) {
	if err := t.pin.usable(); err != nil {
		return nil, err
	}
	slot, info, err := t.lib.findSlot(t.cfg.Label, t.cfg.Serial)
	if err != nil {
		return nil, err
	}
	notice, err := checkPINFlags(info, t.cfg.ForcePIN && t.stats.connections.Load() == 0)
	if err != nil {
		return nil, err
	}
	if notice != "" {
		t.cfg.OnNotice(notice)
	}
	limit := t.cfg.Sessions
	// The number is the token's word: 0 and CK_UNAVAILABLE_INFORMATION mean that it says nothing.
	if most := info.MaxRwSessionCount; most > 1 && most <= uint(limit) {
		limit = int(most) - 1
	}
	p := t.profile
	if p == nil {
		p = profileOf(info)
	}
	c := newConn(t.lib, slot, info, p, limit)
	c.noteMemory(info)
	c.searchAlone, c.searchCall = t.cfg.CallTimeout/2, t.cfg.GenerateTimeout
	c.held = newHeld(t.cfg.HeldKeys)
	// The first session carries the login, which lasts as long as any session does; it is used for nothing else.
	if c.keeper, err = t.lib.openSession(c); err != nil {
		return nil, err
	}
	if err := t.logIn(c); err != nil {
		c.close()
		return nil, explainLogin(err)
	}
	t.stats.connections.Add(1)
	return c, nil
}

// noteMemory keeps what the token says of its room.
func (c *conn) noteMemory(info pkcs11.TokenInfo) {
	for to, said := range map[*atomic.Uint64]uint{&c.freeMemory: info.FreePrivateMemory, &c.totalMemory: info.TotalPrivateMemory} {
		if said == pkcs11.CK_UNAVAILABLE_INFORMATION {
			said = 0
		}
		to.Store(uint64(said))
	}
}

func (t *Token) logIn(c *conn) error {
	if err := t.pin.begin(); err != nil {
		return err
	}
	err := failed("C_Login", t.lib.module.Login(c.keeper, t.cfg.PIN))
	if hasCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		err = nil
	}
	t.pin.end(err)
	return err
}

// install makes c the connection and has its objects indexed, unless it is lost already.
func (t *Token) install(c *conn) {
	t.lib.joined(c)
	t.current.Store(c)
	t.done.Add(1)
	go func() {
		defer t.done.Done()
		t.buildIndex(c)
	}()
	t.cfg.OnChange(nil)
}

// buildIndex has the connection's objects known, or else reports it lost.
func (t *Token) buildIndex(c *conn) {
	watchdog := time.AfterFunc(c.searchCall, func() { t.report(c, fmt.Errorf("index the token's objects: %w", ErrTimeout)) })
	defer watchdog.Stop()
	s, err := c.session()
	if err == nil {
		s.watchdog = watchdog
		err = s.visit(func(h pkcs11.ObjectHandle, o Object) { c.remember(o.ID, h) })
		s.watchdog = nil
		s.broken = err != nil
		if err == nil {
			close(c.complete)
		}
		s.put()
	}
	if err != nil {
		t.report(c, fmt.Errorf("index the token's objects: %w", err))
	}
}
