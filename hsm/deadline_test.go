package hsm

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/softhsm/faults"
)

// occupy keeps sessions in use until they are released.
func occupy(t *testing.T, token *Token, sessions int) (release func()) {
	t.Helper()
	hold := make(chan struct{})
	var holders sync.WaitGroup
	for range sessions {
		held := make(chan struct{})
		holders.Go(func() {
			if _, err := connection.Run(context.Background(), token.link,
				func(*connection.Session) (int, error) { close(held); <-hold; return 0, nil }); err != nil {
				t.Error(err)
			}
		})
		<-held
	}
	return func() {
		close(hold)
		holders.Wait()
	}
}

func TestManyAtOnceOnFewSessions(t *testing.T) {
	token := connect(t, func(c *Config) { c.Sessions = 3 })
	p := newPair(t, token)
	var all sync.WaitGroup
	release := occupy(t, token, 3) // so that the others have to wait, however fast the calls are
	for i := range 16 {
		all.Go(func() {
			for range 20 {
				aad := []byte{byte(i)}
				box, err := token.GenerateWrapped(context.Background(), p, 32, aad)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := token.DecryptWrapped(context.Background(), p, box, 32, aad); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for token.Stats().Waits == 0 {
		runtime.Gosched()
	}
	release()
	all.Wait()
	if s := token.Stats(); s.Sessions > 3 || s.Busy != 0 || s.Failures != 0 || s.Waits == 0 {
		t.Errorf("%+v", s)
	}
}

func TestWaitForSessionEndsWithItsCaller(t *testing.T) {
	token := connect(t, func(c *Config) { c.Sessions = 1 })
	release := occupy(t, token, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := token.Random(ctx, 1); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
}

// TestStuckCalls has calls that stay inside the module past their deadline: their callers get away,
// their results are wiped, and beyond MaxStuck nobody is let in. Time passes only while all wait.
func TestStuckCalls(t *testing.T) { synctest.Test(t, stuckCalls) }

func stuckCalls(t *testing.T) {
	token := connect(t, func(c *Config) { c.CallTimeout, c.MaxStuck, c.Sessions = time.Second, 2, 8 })
	release := make(chan struct{})
	secret := bytes.Repeat([]byte{1}, 32)
	for range 2 {
		_, err := connection.Run(
			t.Context(), token.link,
			func(*connection.Session) ([]byte, error) { <-release; return secret, nil },
		)
		if !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
	}
	if _, err := token.Random(t.Context(), 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with 2 stuck calls: %v", err)
	}
	if s := token.Stats(); s.Stuck != 2 || s.Timeouts != 2 || s.Busy != 2 {
		t.Errorf("%+v", s)
	}
	close(release)
	if err := token.Close(); err != nil { // waits for both
		t.Fatal(err)
	}
	if !bytes.Equal(secret, make([]byte, 32)) {
		t.Error("a result that nobody took was not wiped")
	}
	if s := token.Stats(); s.Stuck != 0 {
		t.Errorf("%+v", s)
	}
}

// TestGeneratorsLeaveRoom: key pairs under generation take a quarter of the sessions, and hold up
// nothing but searches and each other.
func TestGeneratorsLeaveRoom(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {}, func(c *Config) { c.Sessions = 4 })
	p := newPair(t, token)
	m.Hang("C_GenerateKeyPair", faults.Times(1))
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := token.GenerateKeyPair(context.Background(),
			KeyPair{ID: newID(t), Type: P256, Purpose: SignPair}); err != nil {
			t.Error(err)
		}
	})
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	all.Go(func() {
		if _, err := token.Objects(context.Background(), ""); err != nil { // waits for the generator
			t.Error(err)
		}
	})
	for range 10 {
		if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); err != nil {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := token.GenerateKeyPair(ctx,
		KeyPair{ID: newID(t), Type: P256, Purpose: SignPair}); !errors.Is(err, ErrTimeout) {
		t.Errorf("a second generator: %v", err)
	}
	m.Release()
	all.Wait()
	if s := token.Stats(); s.Busy != 0 {
		t.Errorf("%+v", s)
	}
	newKeyPair(t, token, P256, SignPair) // no place was lost
}

// TestStuckCallKeepsNobody: in a token whose calls take turns, a call that stays inside the module does not
// keep the others, nor a key pair under generation.
func TestStuckCallKeepsNobody(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {}, func(c *Config) { c.Turns = 1 })
	p := newPair(t, token)
	encrypt := func() error { _, err := token.Encrypt(t.Context(), p.Seal, []byte("plaintext"), nil); return err }
	for range 200 { // the token turns out to be near
		if err := encrypt(); err != nil {
			t.Fatal(err)
		}
	}
	m.Hang("C_EncryptInit", faults.Times(2))
	var stuck, all sync.WaitGroup
	for range 2 {
		stuck.Go(func() {
			if err := encrypt(); err != nil {
				t.Error(err)
			}
		})
	}
	if err := m.WaitHanging(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		all.Go(func() {
			for range 10 {
				if err := encrypt(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	newKeyPair(t, token, P256, SignPair)
	m.Release()
	stuck.Wait()
	if s := token.Stats(); s.Busy != 0 || s.Timeouts != 0 {
		t.Errorf("%+v", s)
	}
}

func TestGenerateTimeout(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {}, func(c *Config) { c.GenerateTimeout = time.Second })
	var err error
	for !errors.Is(err, ErrNoObject) { // that is known after the first search, which has the same time
		_, err = token.Encrypt(t.Context(), newID(t), nil, nil)
	}
	m.Hang("C_GenerateKeyPair", faults.Times(1))
	if _, err := token.GenerateKeyPair(t.Context(),
		KeyPair{ID: newID(t), Type: RSA2048, Purpose: SignPair}); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}
