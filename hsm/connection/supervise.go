package connection

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
)

// report tells the supervisor that a connection is lost. Only the first report of a connection counts.
func (l *Link) report(g *generation, err error) {
	if !g.end() {
		return
	}
	l.setReason(err)
	l.current.CompareAndSwap(g, nil)
	l.lost <- g
}

// supervise makes a new connection whenever one is lost, with growing pauses. A refused PIN is not
// tried again, since tokens lock: without Config.RenewedPIN it ends the supervision. In between it
// uses the connection now and then, so that the token does not close it. If absent, there is no
// connection yet.
func (l *Link) supervise(ctx context.Context, absent bool) {
	defer l.done.Done()
	if absent && !l.reconnect(ctx) {
		return
	}
	tick := time.NewTicker(l.cfg.KeepAlive)
	defer tick.Stop()
	var rest time.Duration // before the next attempt
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if g := l.current.Load(); g != nil {
				l.touch(g)
			}
		case g := <-l.lost:
			l.mu.RLock()
			reason := l.reason
			l.mu.RUnlock()
			l.cfg.OnChange(reason)
			l.retire(ctx, g)
			if rest = l.longer(rest); g.indexed() {
				rest = 0 // or the token could be asked for logins without end that lead to nothing
			}
			if !pause(ctx, rest) || !l.reconnect(ctx) {
				return
			}
		}
	}
}

// drain is how long the calls of a lost connection have to come back. What stays longer is inside
// the module for certain: its handles are not to be used by a call again that meets new handles of
// the same numbers.
const drain = 500 * time.Millisecond

// retire waits for the calls of a lost connection and closes its sessions, neither for long: the
// next connection waits.
func (l *Link) retire(ctx context.Context, g *generation) {
	timer := time.NewTimer(min(drain, l.cfg.CallTimeout))
	defer timer.Stop()
	select {
	case <-g.unused:
	case <-timer.C:
	case <-ctx.Done():
	}
	_, _ = bounded(l, drain, ctx.Done(), func() (struct{}, error) { g.close(); return struct{}{}, nil }, ignore)
}

// touch uses the keeper's session: some tokens close idle sessions, and a loss should be noticed
// before a request meets it.
func (l *Link) touch(g *generation) {
	_, err := bounded(l, l.cfg.CallTimeout, g.Gone(), func() (struct{}, error) {
		_, err := g.KeeperSession().Random(1)
		if err == nil {
			var info pkcs11.TokenInfo
			if info, err = l.lib.module.TokenInfo(g.Slot); err == nil {
				g.recordMemory(info)
			}
			err = ckr.Failed("C_GetTokenInfo", err)
		}
		return struct{}{}, err
	}, ignore)
	if ckr.Lost(err) {
		l.report(g, err)
	}
}

// reconnect tries until there is a connection, the PIN is refused and never renewed, or ctx ends. An attempt that
// hangs is left behind; there are no more than MaxStuck of them. After an attempt that failed the
// module is initialised anew: many modules of network HSMs reconnect in no other way.
func (l *Link) reconnect(ctx context.Context) bool {
	var trusted time.Time // when the module could last be initialised, or need not be
	for rest := l.cfg.RetryMin; ; rest = l.longer(rest) {
		seen := l.lib.module.Generation()
		g, err := l.attempt(ctx)
		if err == nil {
			l.install(g)
			return true
		}
		refused := l.pin.usable() // maybe by a login of an earlier attempt, which came back late
		if refused != nil && !errors.Is(err, ckr.ErrPIN) {
			err = fmt.Errorf("connect: %w", explainLogin(refused, l.cfg.PINOrigin))
		}
		l.setReason(err)
		if refused != nil { // what the token only says of its PINs may change, and costs no try
			l.cfg.OnChange(err)
			if !l.awaitPIN(ctx) {
				return false
			}
			continue
		}
		if err := l.restart(ctx, seen, err); err == nil || trusted.IsZero() {
			trusted = time.Now()
		} else if l.cfg.GiveUpAfter > 0 && time.Since(trusted) >= l.cfg.GiveUpAfter {
			l.cfg.OnGiveUp(fmt.Errorf("%w: %w", ErrGivenUp, err))
			trusted = time.Now()
		}
		if !pause(ctx, rest) {
			return false
		}
	}
}

// awaitPIN waits for another PIN than the one that was refused. It reports false when there will be
// none, or ctx ends.
func (l *Link) awaitPIN(ctx context.Context) bool {
	if l.cfg.RenewedPIN == nil {
		return false
	}
	for !l.renewPIN() {
		if !pause(ctx, l.cfg.RetryMax) {
			return false
		}
	}
	return true
}

// restartWait is how long restart waits for calls inside the module: retire has waited for them
// already.
const restartWait = 20 * time.Millisecond

// restart initialises the module anew, unless other tokens of it are connected and it says that it
// is initialised. Its error means that the module can't be brought back within this process.
func (l *Link) restart(ctx context.Context, seen uint64, why error) error {
	if !l.lib.unused() && !ckr.Has(why, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) && !l.lib.module.Gone() {
		return nil
	}
	if n := l.stuck.Load(); int(n) >= l.cfg.MaxStuck && !l.lib.module.Abort() {
		return stuckError(n)
	}
	_, err := bounded(l, l.cfg.ConnectTimeout, ctx.Done(), func() (struct{}, error) {
		return struct{}{}, l.lib.module.Restart(seen, restartWait)
	}, ignore)
	switch {
	case err == nil:
		l.stats.reinitializations.Add(1)
		l.cfg.OnNotice("the PKCS#11 module was initialised anew")
	case errors.Is(err, cryptoki.ErrShared):
		err = nil
	case errors.Is(err, cryptoki.ErrBusy), errors.Is(err, ckr.ErrTimeout):
		l.cfg.OnNotice("the PKCS#11 module can't be initialised anew: " + err.Error())
	default: // it may work the next time
		l.cfg.OnNotice(err.Error())
		err = nil
	}
	return err
}

// longer gives the length of the next pause.
func (l *Link) longer(rest time.Duration) time.Duration {
	return min(max(2*rest, l.cfg.RetryMin), l.cfg.RetryMax)
}

// pause reports whether it ended before ctx did.
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

// ErrGivenUp: the module can't be brought back within this process.
var ErrGivenUp = errors.New("the PKCS#11 module can't be used any more in this process")
