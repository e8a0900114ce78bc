// Package connection keeps up the connection to one token: it loads the module, logs in, hands out
// sessions to calls with a deadline each, and makes a new connection when one is lost. It finds the
// objects of keys: token objects by their id in an index, wrapped keys in a cache of session
// objects.
//
// What it protects: the PIN is tried once, since tokens lock after a few wrong ones. Nothing of a
// lost connection is used in the next one, since a module may give old numbers to new handles.
package connection

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/profile"
	"github.com/verenc/kms/hsm/session"
)

// Link is a connection to one token, kept up until Close. Run and its variants make calls through it.
type Link struct {
	cfg     Config
	lib     *library
	profile *profile.Profile // nil: that of the token's manufacturer and model
	pin     pin
	current atomic.Pointer[generation] // nil while there is no connection
	stuck   atomic.Int32               // calls past their deadline, still inside the module
	stats   counters
	proved  session.Proved

	lost    chan *generation // to the supervisor
	workers chan work        // to a goroutine that waits for work: see onWorker
	waiters sync.Pool        // of *waiter
	turns   *turns
	stop    context.CancelFunc
	closing <-chan struct{} // closed by stop
	done    sync.WaitGroup  // the supervisor, and every goroutine inside a C call

	mu     sync.RWMutex
	reason error // guarded by mu: why there is no connection
	closed bool  // guarded by mu: nothing may join done any more
}

// Open loads the module, logs in and begins to keep the connection up. It takes
// Config.ConnectTimeout at most.
func Open(ctx context.Context, cfg Config) (*Link, error) {
	if cfg.Label == "" && cfg.Serial == "" {
		return nil, errors.New("open token: give the token's label or serial number")
	}
	setDefault(&cfg.Sessions, 64)
	setDefault(&cfg.Turns, max(1, runtime.GOMAXPROCS(0)/2))
	setDefault(&cfg.CallTimeout, 5*time.Second)
	setDefault(&cfg.GenerateTimeout, 30*time.Second)
	setDefault(&cfg.ConnectTimeout, 10*time.Second)
	setDefault(&cfg.HeldKeys, 5_000)
	setDefault(&cfg.MaxStuck, 16)
	setDefault(&cfg.RetryMin, 100*time.Millisecond)
	setDefault(&cfg.RetryMax, time.Second)
	setDefault(&cfg.KeepAlive, 30*time.Second)
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.OnNotice == nil {
		cfg.OnNotice = func(string) {}
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(error) {}
	}

	named, err := profile.Named(cfg.Profile)
	if err == nil {
		err = checkPIN(cfg.PIN, cfg.PINOrigin)
	}
	if err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	supervised, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &Link{
		cfg: cfg, profile: named, lost: make(chan *generation, 1), workers: make(chan work),
		stop: stop, closing: supervised.Done(),
	}
	l.pin.text = cfg.PIN
	l.turns = newTurns(cfg.Turns, l.onWorker)
	g, err := bounded(l, cfg.ConnectTimeout, ctx.Done(), l.open, func(g *generation) {
		if g != nil {
			g.close()
			_ = l.lib.release()
		}
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("open token: %w", err)
	}
	l.done.Add(1)
	if g != nil {
		l.install(g)
	}
	go l.supervise(supervised, g == nil)
	return l, nil
}

// open loads the module and connects. It returns neither a connection nor an error when Config
// allows to connect later.
func (l *Link) open() (g *generation, err error) {
	if l.lib, err = loadLibrary(l.cfg.Module, l.cfg.InitArguments, l.cfg.ModuleCommand); err != nil {
		return nil, err
	}
	g, err = l.connect()
	switch {
	case err == nil:
		return g, nil
	case l.cfg.AllowUnavailable && errors.Is(err, ckr.ErrUnavailable):
		l.setReason(err)
		return nil, nil
	}
	return nil, errors.Join(err, l.lib.release())
}

// join adds a goroutine to done, unless the link is closed.
func (l *Link) join() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if !l.closed {
		l.done.Add(1)
	}
	return !l.closed
}

// Close ends the connection. Calls under way are waited for up to Config.CallTimeout; while one
// stays stuck the module is left loaded.
func (l *Link) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed, l.reason = true, nil
	l.mu.Unlock()
	if again {
		return nil
	}
	l.stop()
	ended := make(chan error, 1)
	go func() { // it ends with the last call inside the module
		l.done.Wait()
		if g := l.current.Swap(nil); g != nil {
			g.close()
		}
		ended <- l.lib.release()
	}()
	timer := time.NewTimer(l.cfg.CallTimeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return nil
	}
}

var errClosed = fmt.Errorf("%w: closed", ckr.ErrUnavailable)

// connected gives the connection, or an ErrUnavailable that says why there is none.
func (l *Link) connected() (*generation, error) {
	if g := l.current.Load(); g != nil {
		return g, nil
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.reason != nil && !l.closed {
		return nil, fmt.Errorf("%w: %w", ckr.ErrUnavailable, l.reason)
	}
	return nil, errClosed
}

// Shared gives what the sessions share, nil while there is no connection.
func (l *Link) Shared() *session.Shared {
	if g := l.current.Load(); g != nil {
		return g.Shared
	}
	return nil
}

// IsConnected reports whether there is a connection.
func (l *Link) IsConnected() bool { return l.current.Load() != nil }

// Info tells which token is connected.
func (l *Link) Info() (Info, error) {
	g, err := l.connected()
	if err != nil {
		return Info{}, err
	}
	return infoOf(g.info), nil
}

func (l *Link) setReason(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reason = err
}

// Notice tells Config.OnNotice.
func (l *Link) Notice(text string) { l.cfg.OnNotice(text) }
