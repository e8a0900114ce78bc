// Package hsm holds the keys: everything that touches the PKCS#11 token is here, and nothing else is.
//
// What it protects: KMS keys are generated in the token, CKA_SENSITIVE and never CKA_EXTRACTABLE, so neither
// this process nor whoever takes it over can read them, only use them while connected. A data key made by
// GenerateWrapped is also born in the token and leaves it wrapped only.
//
// From whom: from readers of disks, backups, memory dumps and the network. Somebody who can call the token
// with its PIN can use the keys; that is what the PIN file's mode and the service's authorisation are for.
//
// What it trusts: the PKCS#11 module it loads into the process, the token behind it, and crypto/rand for
// initialisation vectors. Arguments are opaque bytes: hsm knows nothing of AWS, HTTP or databases.
package hsm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"
)

// Config says which token to use and how hard.
type Config struct {
	Module string // absolute path of the PKCS#11 module
	Label  string // CKA_LABEL of the token; Label or Serial is required
	Serial string // serial number of the token; tells tokens of one label apart
	PIN    string // user PIN; tried once

	Sessions    int           // sessions at most, default 64; a token's own lower limit wins
	CallTimeout time.Duration // for one request's calls, the wait for a session included; default 5 s
	// GenerateTimeout is CallTimeout for the generation of key pairs, default 30 s. A quarter of the sessions may
	// generate at once; the others are left for everything else.
	GenerateTimeout time.Duration

	MaxStuck int           // calls past their deadline, still inside the module, before new ones are refused; default 16
	RetryMin time.Duration // first pause before reconnecting, doubled up to RetryMax; default 100 ms
	RetryMax time.Duration // default 2 s

	Rand io.Reader // for initialisation vectors; default crypto/rand.Reader

	// OnChange, if set, is told of every loss (err is why) and every connection (err is nil). It must not block.
	OnChange func(err error)
}

// Token is a connection to one token, kept up until Close. Its methods may be called concurrently; each is
// bounded by Config.CallTimeout and returns errors of the kinds in this package.
type Token struct {
	cfg     Config
	lib     *library
	current atomic.Pointer[conn] // nil while there is no connection
	stuck   atomic.Int32         // calls past their deadline, still inside the module
	stats   counters

	lost chan *conn // to the supervisor
	stop context.CancelFunc
	done sync.WaitGroup // the supervisor, and every goroutine inside a C call

	mu     sync.RWMutex
	reason error // guarded by mu: why there is no connection
	closed bool  // guarded by mu: nothing may join done any more
}

var errClosed = fmt.Errorf("%w: closed", ErrUnavailable)

// Open loads the module, logs in and starts to look after the connection.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if cfg.Label == "" && cfg.Serial == "" {
		return nil, errors.New("open token: give the token's label or serial number")
	}
	setDefault(&cfg.Sessions, 64)
	setDefault(&cfg.CallTimeout, 5*time.Second)
	setDefault(&cfg.GenerateTimeout, 30*time.Second)
	setDefault(&cfg.MaxStuck, 16)
	setDefault(&cfg.RetryMin, 100*time.Millisecond)
	setDefault(&cfg.RetryMax, 2*time.Second)
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(error) {}
	}

	lib, err := loadLibrary(cfg.Module)
	if err != nil {
		return nil, err
	}
	t := &Token{cfg: cfg, lib: lib, lost: make(chan *conn, 1)}
	c, err := t.connect()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open token: %w", err), lib.release(false))
	}
	supervised, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.stop = stop
	t.done.Add(1)
	t.install(c)
	go t.supervise(supervised)
	return t, nil
}

// install makes c the connection, unless it is lost already.
func (t *Token) install(c *conn) {
	t.current.Store(c)
	if c.dead.Load() {
		t.current.CompareAndSwap(c, nil)
		return
	}
	t.cfg.OnChange(nil)
}

// join counts a goroutine into done, unless the token is closed.
func (t *Token) join() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.closed {
		t.done.Add(1)
	}
	return !t.closed
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Close ends the connection. Calls under way are waited for up to Config.CallTimeout; when one stays stuck the
// module is left loaded.
func (t *Token) Close() error {
	t.mu.Lock()
	t.closed, t.reason = true, nil
	t.mu.Unlock()
	t.stop()
	ended := make(chan struct{})
	go func() {
		t.done.Wait()
		close(ended)
	}()
	stuck := false
	timer := time.NewTimer(t.cfg.CallTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		stuck = true
	}
	c := t.current.Swap(nil)
	if c != nil && !stuck {
		c.close()
	}
	return t.lib.release(stuck)
}

// Info describes the token (CK_TOKEN_INFO) for people.
type Info struct {
	Label, Manufacturer, Model, Serial, Firmware string
}

// Info tells which token is connected.
func (t *Token) Info() (Info, error) {
	c, err := t.connected()
	if err != nil {
		return Info{}, err
	}
	return infoOf(c.info), nil
}

func version(v pkcs11.Version) string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// Ping asks the token for one random byte.
func (t *Token) Ping(ctx context.Context) error {
	_, err := t.Random(ctx, 1)
	return err
}

// Random returns n bytes of the token's random number generator (C_GenerateRandom).
func (t *Token) Random(ctx context.Context, n int) ([]byte, error) {
	return run(ctx, t, func(s *session) ([]byte, error) { return s.random(n) })
}

func (s *session) random(n int) ([]byte, error) { return s.lib.random(s.handle, n) }

// Stats are counters since Open, and gauges.
type Stats struct {
	Sessions    int    // open now
	Busy        int    // in use now
	Stuck       int    // calls past their deadline, still inside the module
	Waits       uint64 // calls that had to wait for a session
	Timeouts    uint64
	Failures    uint64 // calls that ended in an error other than ErrAuthentication and ErrMaterial
	Connections uint64
	Connected   bool
}

type counters struct {
	waits, timeouts, failures, connections atomic.Uint64
}

// Stats returns the counters.
func (t *Token) Stats() Stats {
	s := Stats{Stuck: int(t.stuck.Load()), Waits: t.stats.waits.Load(), Timeouts: t.stats.timeouts.Load(),
		Failures: t.stats.failures.Load(), Connections: t.stats.connections.Load()}
	if c := t.current.Load(); c != nil {
		s.Connected = true
		s.Sessions, s.Busy = c.usage()
	}
	return s
}

// connected gives the connection, or an ErrUnavailable that says why there is none.
func (t *Token) connected() (*conn, error) {
	if c := t.current.Load(); c != nil {
		return c, nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.reason != nil && !t.closed {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, t.reason)
	}
	return nil, errClosed
}

func (t *Token) setReason(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reason = err
}

// connect finds the token, logs in and starts the index of its objects.
func (t *Token) connect() (*conn, error) {
	slot, info, err := t.lib.findSlot(t.cfg.Label, t.cfg.Serial)
	if err != nil {
		return nil, err
	}
	// The first session carries the login, which lasts as long as any session does; it is used for nothing else.
	keeper, err := t.lib.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, failed("C_OpenSession", err)
	}
	err = failed("C_Login", t.lib.ctx.Login(keeper, pkcs11.CKU_USER, t.cfg.PIN))
	if err != nil && !hasCode(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		_ = t.lib.ctx.CloseSession(keeper)
		return nil, fmt.Errorf("log in: %w", err)
	}
	limit := t.cfg.Sessions
	if most := info.MaxRwSessionCount; most > 1 && most != pkcs11.CK_UNAVAILABLE_INFORMATION && int(most)-1 < limit {
		limit = int(most) - 1
	}
	t.stats.connections.Add(1)
	c := newConn(t.lib, slot, info, keeper, limit)
	if !t.join() {
		c.close()
		return nil, errClosed
	}
	go func() {
		defer t.done.Done()
		if err := c.buildIndex(); err != nil {
			t.report(c, fmt.Errorf("index the token's objects: %w", err))
		}
	}()
	return c, nil
}
