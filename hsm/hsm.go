// Package hsm holds the keys: everything that is done with the PKCS#11 token is here, and nothing else is. The calls
// themselves are made by hsm/cryptoki.
//
// What it protects: KMS keys are generated in the token, CKA_SENSITIVE and never CKA_EXTRACTABLE, so neither
// this process nor whoever takes it over can read them, only use them while connected. A WrappedKey is kept outside of the token;
// it was extractable in the moment between its generation and its wrapping, and whoever has it, and the PIN, can use it
// but not read it, since the token unwraps it into nothing that can be read. A data key made by
// GenerateWrapped, and a private key made by GenerateWrappedPair, is also born in the token and leaves it wrapped only.
// Imported keys were outside before; Import tells which of them are in this process's memory once more.
//
// From whom: from readers of disks, backups, memory dumps and the network. Somebody who can call the token
// with its PIN can use the keys; that is what the PIN file's mode and the service's authorisation are for.
//
// What it trusts: the code of the PKCS#11 module it loads into the process (Config.ModuleCommand gives it a process of its
// own), the token behind it, and crypto/rand for initialisation vectors. What a token says it can do is tried by SelfTest,
// since some do another algorithm under the name.
// Arguments are opaque bytes: hsm knows nothing of AWS, HTTP or databases.
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
	// InitArguments is C_INITIALIZE_ARGS.pReserved, which some modules want: NSS softokn its configdir
	// string, for one. Empty for NULL.
	InitArguments string
	// ModuleCommand runs the module in a process of its own: a program and its arguments, which calls HostModule. When the
	// module crashes there, or a call is stuck past its deadline, that process ends and another begins. Empty: this process.
	ModuleCommand []string

	Label  string // CKA_LABEL of the token; Label or Serial is required
	Serial string // serial number of the token; tells tokens of one label apart
	PIN    string // user PIN; tried once
	// ForcePIN tries the PIN although the token says that one more wrong one locks it.
	ForcePIN bool

	Profile string // one of Profiles; default by what the token says of its make

	Sessions    int           // sessions at most, default 64; a token's own lower limit wins
	CallTimeout time.Duration // for one request's calls, the wait for a session included; default 5 s
	// GenerateTimeout is CallTimeout for the generation of key pairs, default 30 s. A quarter of the sessions may
	// generate at once; the others are left for everything else.
	GenerateTimeout time.Duration

	// AllowUnavailable lets Open succeed with a token that is not available: it is connected when it is back, as after a loss.
	AllowUnavailable bool

	ConnectTimeout time.Duration // for Open, and for each attempt to connect again; default 10 s

	HeldKeys int // wrapped keys whose session objects are held, default 5,000; SoftHSM takes 9 KB for each

	MaxStuck int           // calls past their deadline, still inside the module, before new ones are refused; default 16
	RetryMin time.Duration // first pause before reconnecting, doubled up to RetryMax; default 100 ms
	RetryMax time.Duration // default 1 s

	// GiveUpAfter is how long calls may keep the module from being initialised anew, with no connection, until OnGiveUp is
	// told: nothing but another process helps then. 0: never.
	GiveUpAfter time.Duration
	OnGiveUp    func(error) // of ErrGivenUp; required with GiveUpAfter

	KeepAlive time.Duration // an idle connection is used so often; default 30 s

	Rand io.Reader // for initialisation vectors; default crypto/rand.Reader

	// OnNotice, if set, is told what an operator should know of the token: that a few more wrong PINs lock it, that the
	// module was initialised anew. It must not block.
	OnNotice func(notice string)

	// OnChange, if set, is told of every loss (err is why) and every connection (err is nil). It must not block.
	OnChange func(err error)
}

// Token is a connection to one token, kept up until Close. Its methods may be called concurrently; each is
// bounded by Config.CallTimeout and returns errors of the kinds in this package.
type Token struct {
	cfg     Config
	lib     *library
	profile *profile // nil: what the token says
	pin     pin
	current atomic.Pointer[conn] // nil while there is no connection
	stuck   atomic.Int32         // calls past their deadline, still inside the module
	stats   counters

	lost    chan *conn  // to the supervisor
	workers chan func() // to a goroutine that waits for work: see apart
	stop    context.CancelFunc
	closing <-chan struct{} // closed by stop
	done    sync.WaitGroup  // the supervisor, and every goroutine inside a C call

	mu     sync.RWMutex
	reason error // guarded by mu: why there is no connection
	closed bool  // guarded by mu: nothing may join done any more
}

var errClosed = fmt.Errorf("%w: closed", ErrUnavailable)

// Open loads the module, logs in and starts to look after the connection. It takes Config.ConnectTimeout at most.
func Open(ctx context.Context, cfg Config) (*Token, error) {
	if cfg.Label == "" && cfg.Serial == "" {
		return nil, errors.New("open token: give the token's label or serial number")
	}
	setDefault(&cfg.Sessions, 64)
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

	profile, err := profileNamed(cfg.Profile)
	if err == nil {
		err = checkPIN(cfg.PIN)
	}
	if err != nil {
		return nil, fmt.Errorf("open token: %w", err)
	}
	supervised, stop := context.WithCancel(context.WithoutCancel(ctx))
	t := &Token{cfg: cfg, profile: profile, lost: make(chan *conn, 1), workers: make(chan func()), stop: stop, closing: supervised.Done()}
	c, err := bounded(t, cfg.ConnectTimeout, ctx.Done(), t.open, func(c *conn) {
		if c != nil {
			c.close()
			_ = t.lib.release()
		}
	})
	if err != nil {
		stop()
		return nil, fmt.Errorf("open token: %w", err)
	}
	t.done.Add(1)
	if c != nil {
		t.install(c)
	}
	go t.supervise(supervised, c == nil)
	return t, nil
}

// open loads the module and connects. It gives no connection, and no error, when that is left for later.
func (t *Token) open() (c *conn, err error) {
	if t.lib, err = loadLibrary(t.cfg.Module, t.cfg.InitArguments, t.cfg.ModuleCommand); err != nil {
		return nil, err
	}
	c, err = t.connect()
	switch {
	case err == nil:
		return c, nil
	case t.cfg.AllowUnavailable && errors.Is(err, ErrUnavailable):
		t.setReason(err)
		return nil, nil
	}
	return nil, errors.Join(err, t.lib.release())
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

// Close ends the connection. Calls under way are waited for up to Config.CallTimeout; while one stays stuck the
// module is left loaded.
func (t *Token) Close() error {
	t.mu.Lock()
	again := t.closed
	t.closed, t.reason = true, nil
	t.mu.Unlock()
	if again {
		return nil
	}
	t.stop()
	ended := make(chan error, 1)
	go func() { // it ends with the last call inside the module
		t.done.Wait()
		if c := t.current.Swap(nil); c != nil {
			c.close()
		}
		ended <- t.lib.release()
	}()
	timer := time.NewTimer(t.cfg.CallTimeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return nil
	}
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

// Stats are counters since Open, and gauges.
type Stats struct {
	Sessions int // open now
	Busy     int // in use now
	Held     int // wrapped keys with a session object now
	Objects  int // token objects with a CKA_ID like ours
	// FreeMemory and TotalMemory are the token's own word of its room for private objects in bytes, 0 when it does not say.
	FreeMemory, TotalMemory uint64
	Stuck                   int    // calls past their deadline, still inside the module
	Waits                   uint64 // calls that had to wait for a session
	Timeouts                uint64
	Failures                uint64 // calls that ended in an error other than ErrAuthentication, ErrMaterial and ErrUnsupported
	Connections             uint64
	// Reinitializations are those of the module: C_Finalize and C_Initialize, or a new process.
	Reinitializations uint64
	Connected         bool
	Refusing          bool // new calls are refused at once, since MaxStuck are stuck
}

type counters struct {
	waits, timeouts, failures, connections, reinitializations atomic.Uint64
}

// Stats returns the counters.
func (t *Token) Stats() Stats {
	s := Stats{Stuck: int(t.stuck.Load()), Waits: t.stats.waits.Load(), Timeouts: t.stats.timeouts.Load(),
		Failures: t.stats.failures.Load(), Connections: t.stats.connections.Load(),
		Reinitializations: t.stats.reinitializations.Load()}
	s.Refusing = s.Stuck >= t.cfg.MaxStuck
	if c := t.current.Load(); c != nil {
		s.Connected = true
		s.Sessions, s.Busy = c.usage()
		s.Held, s.Objects = c.held.count(), c.count()
		s.FreeMemory, s.TotalMemory = c.freeMemory.Load(), c.totalMemory.Load()
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
