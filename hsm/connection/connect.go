package connection

import (
	"context"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/profile"
	"github.com/verenc/kms/hsm/session"
)

// attempt is connect, which must not keep the supervisor.
func (l *Link) attempt(ctx context.Context) (*generation, error) {
	if n := l.stuck.Load(); int(n) >= l.cfg.MaxStuck {
		return nil, stuckError(n)
	}
	g, err := bounded(l, l.cfg.ConnectTimeout, ctx.Done(), l.connect, func(g *generation) {
		if g != nil {
			g.close()
		}
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return g, nil
}

// connect finds the token and logs in.
func (l *Link) connect() (*generation, error) {
	l.renewPIN()
	if err := l.pin.usable(); err != nil {
		return nil, err
	}
	slot, info, err := l.lib.findSlot(l.cfg.Label, l.cfg.Serial)
	if err != nil {
		return nil, err
	}
	notice, err := checkPINFlags(info, l.cfg.ForcePIN && l.stats.connections.Load() == 0)
	if err != nil {
		return nil, err
	}
	if notice != "" {
		l.cfg.OnNotice(notice)
	}
	limit := l.cfg.Sessions
	// The number is the token's word: 0 and CK_UNAVAILABLE_INFORMATION mean that it says nothing.
	if most := info.MaxRwSessionCount; most > 1 && most <= uint(limit) {
		limit = int(most) - 1
	}
	p := l.profile
	if p == nil {
		p = profile.Of(info)
	}
	shared := session.NewShared(l.lib.module, l.lib.locks)
	shared.Slot, shared.Profile, shared.Rand, shared.SearchAlone = slot, p, l.cfg.Rand, l.cfg.CallTimeout/2
	shared.Proved = &l.proved
	g := newGeneration(l.lib, shared, info, limit)
	g.recordMemory(info)
	g.searchCall = l.cfg.GenerateTimeout
	g.unwrapped = newUnwrappedCache(l.cfg.HeldKeys)
	// The first session carries the login, which lasts as long as any session does; it is used for
	// nothing else.
	if g.Keeper, err = l.lib.openSession(g); err != nil {
		return nil, err
	}
	if err := l.logIn(g); err != nil {
		g.close()
		return nil, explainLogin(err, l.cfg.PINOrigin)
	}
	l.stats.connections.Add(1)
	return g, nil
}

func (l *Link) logIn(g *generation) error {
	pin, err := l.pin.begin()
	if err != nil {
		return err
	}
	err = ckr.Failed("C_Login", l.lib.module.Login(g.Keeper, pin))
	if ckr.Has(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		err = nil
	}
	l.pin.end(pin, err)
	return err
}

// install makes g the connection and has its objects indexed, unless it is lost already.
func (l *Link) install(g *generation) {
	l.lib.joined(g)
	l.current.Store(g)
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		l.buildIndex(g)
	}()
	l.cfg.OnChange(nil)
}

// buildIndex has the connection's objects known, or else reports it lost.
func (l *Link) buildIndex(g *generation) {
	watchdog := time.AfterFunc(
		g.searchCall, func() { l.report(g, fmt.Errorf("index the token's objects: %w", ckr.ErrTimeout)) },
	)
	defer watchdog.Stop()
	s, err := g.session()
	if err == nil {
		s.SetWatch(&session.Watch{Timer: watchdog, Limit: g.searchCall, Wait: drain})
		err = s.Visit(func(h pkcs11.ObjectHandle, o session.Object) { g.remember(o.ID, h) })
		s.SetWatch(nil)
		s.Broken = err != nil
		if err == nil {
			close(g.complete)
		}
		s.put()
	}
	if err != nil {
		l.report(g, fmt.Errorf("index the token's objects: %w", err))
	}
}

// AwaitConnection waits for the next connection, no longer than Config.ConnectTimeout.
func (l *Link) AwaitConnection(ctx context.Context) {
	deadline := time.NewTimer(l.cfg.ConnectTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !l.IsConnected() {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-poll.C:
		}
	}
}
