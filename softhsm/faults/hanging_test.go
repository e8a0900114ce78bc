package faults_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// The timeouts of calls that hang.
const (
	attemptTimeout = time.Second     // of an attempt to connect; another one follows, however slow the machine is
	hangTimeout    = 6 * time.Second // where calls that do not hang must end within it, on a busy machine too
)

func TestOpenHasADeadline(t *testing.T) {
	for _, function := range []string{"C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_Login"} {
		soft := softhsm.New(t)
		m := faults.New(t, soft)
		m.Hang(function)
		cfg := hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, ConnectTimeout: time.Millisecond}
		if _, err := hsm.Open(t.Context(), cfg); !errors.Is(err, hsm.ErrTimeout) {
			t.Errorf("%s: %v", function, err)
		}
		cfg.ConnectTimeout = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			if m.WaitHanging(t.Context(), 2) == nil {
				cancel()
			}
		}()
		if _, err := hsm.Open(ctx, cfg); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", function, err)
		}
		m.Release()
	}
}

// TestSupervisorOutlivesAHungCall: one call of the supervisor does not return until the token works
// again.
func TestSupervisorOutlivesAHungCall(t *testing.T) {
	for _, function := range []string{"C_CloseSession", "C_GetSlotList", "C_GetTokenInfo", "C_OpenSession", "C_Login",
		"C_FindObjects"} {
		token, m, changes := observed(t, func(c *hsm.Config) {
			c.ConnectTimeout = attemptTimeout
			if function == "C_FindObjects" {
				c.GenerateTimeout = hangTimeout
			}
		})
		p := newPair(t, token)
		known(t, token)
		if function == "C_CloseSession" {
			m.Hang(function, faults.Times(1))
			m.LogOut()
			if err := token.GenerateSecretKey(t.Context(),
				hsm.SecretKey{ID: newID(t), Purpose: hsm.Seal}); !errors.Is(err, hsm.ErrUnavailable) {
				t.Error(err)
			}
			next(t, changes, true)
		} else {
			lose(t, token, m, changes)
			m.Hang(function, faults.Times(1))
			m.Plug()
		}
		next(t, changes, false)
		if err := m.WaitHanging(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		if function == "C_FindObjects" { // the search counts as a loss
			next(t, changes, true)
			next(t, changes, false)
		}
		if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
			t.Errorf("%s: %v", function, err)
		}
		m.Release()
	}
}

// TestHungSearch uses more unknown keys than calls may be stuck, while a search for the objects
// hangs.
func TestHungSearch(t *testing.T) {
	token, m, changes := observed(t, func(c *hsm.Config) {
		c.CallTimeout, c.MaxStuck, c.Sessions = hangTimeout, 4, 4
	})
	known(t, token)
	lose(t, token, m, changes)
	m.Hang("C_FindObjects", faults.Times(1))
	m.Plug()
	next(t, changes, false)
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := token.Destroy(t.Context(), newID(t)); !errors.Is(err, hsm.ErrTimeout) {
				t.Errorf("an unknown key: %v", err)
			}
		})
	}
	all.Wait()
	if err := token.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	p := newPair(t, token) // creations wait for the search, but not for ever
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
		t.Error(err)
	}
	if s := token.Stats(); s.Stuck != 0 || s.Refusing {
		t.Errorf("%+v", s)
	}
	m.Release()
	known(t, token)
}

// TestCircuit: calls hang until further ones are refused, and then return.
func TestCircuit(t *testing.T) {
	token, m := connect(t, func(c *hsm.Config) { c.CallTimeout, c.MaxStuck = hangTimeout, 3 })
	known(t, token)
	m.Hang("C_GenerateRandom")
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			if err := token.Ping(t.Context()); !errors.Is(err, hsm.ErrTimeout) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := token.Ping(t.Context()); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("with 3 stuck calls: %v", err)
	}
	if s := token.Stats(); !s.Refusing || s.Stuck != 3 || m.Hanging() != 3 {
		t.Errorf("%+v, %d hang", s, m.Hanging())
	}
	m.Release()
	for token.Stats().Refusing {
		runtime.Gosched()
	}
	if err := token.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPINThatHangs: logins hang, each of which may turn out to be a refusal.
func TestPINThatHangs(t *testing.T) {
	token, m, changes := observed(t, func(c *hsm.Config) { c.ConnectTimeout = attemptTimeout })
	known(t, token)
	lose(t, token, m, changes)
	m.ResetCounts()
	m.Hang("C_Login")
	m.Fail("C_Login", pkcs11.CKR_PIN_INCORRECT)
	m.Plug()
	if err := m.WaitHanging(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	before := m.Calls("C_OpenSession")
	for m.Calls("C_OpenSession") < before+3 { // it goes on without logging in
		runtime.Gosched()
	}
	m.Release()
	if err := next(t, changes, true); !errors.Is(err, hsm.ErrPIN) {
		t.Errorf("%v", err)
	}
	if n := m.Calls("C_Login"); n != 2 {
		t.Errorf("%d logins", n)
	}
}
