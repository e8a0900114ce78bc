package hsm

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// TestGeneratorsLeaveRoom: key pairs under generation take a quarter of the sessions, and hold up nothing but searches and
// each other.
func TestGeneratorsLeaveRoom(t *testing.T) {
	token := connect(t, func(c *Config) { c.Sessions = 4 })
	p := newPair(t, token)
	hold, held := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		_, err := runGenerate(context.Background(), token, func(s *session) (int, error) {
			defer keepOut(s.lib.generators)() // as C_GenerateKeyPair does
			close(held)
			<-hold
			return 0, nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
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
	if _, err := token.GenerateKeyPair(ctx, KeyPair{ID: newID(t), Type: P256, Purpose: SignPair}); !errors.Is(err, ErrTimeout) {
		t.Errorf("a second generator: %v", err)
	}
	close(hold)
	all.Wait()
	if s := token.Stats(); s.Busy != 0 {
		t.Errorf("%+v", s)
	}
	newKeyPair(t, token, P256, SignPair) // no place was lost
}

func TestGenerateTimeout(t *testing.T) {
	token := connect(t, func(c *Config) { c.GenerateTimeout = time.Nanosecond })
	if _, err := token.GenerateKeyPair(t.Context(), KeyPair{ID: newID(t), Type: RSA2048, Purpose: SignPair}); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}

// TestProbesAreRepeatedUntilTheySucceed, and not after.
func TestProbesAreRepeatedUntilTheySucceed(t *testing.T) {
	var p probe[bool]
	if _, err := p.get(func() (bool, error) { return true, ErrUnavailable }); !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
	if value, err := p.get(func() (bool, error) { return true, nil }); err != nil || !value {
		t.Errorf("%v, %v", value, err)
	}
	if value, err := p.get(func() (bool, error) { return false, ErrUnavailable }); err != nil || !value {
		t.Errorf("forgotten: %v, %v", value, err)
	}
}

// TestKeepRefusesWhatCanLeave has a token that ignores the template: the object is destroyed.
func TestKeepRefusesWhatCanLeave(t *testing.T) {
	token := connect(t)
	id := newID(t)
	_, err := run(t.Context(), token, func(s *session) (Imported, error) {
		h, err := s.generate(MAC256.mechanism(), dataKeyTemplate(32))
		if err != nil {
			return Imported{}, err
		}
		if _, err := s.keep(h, id, Imported{}, nil); err == nil {
			t.Error("an extractable key was kept")
		}
		if _, err := s.attributes(h, 0); err == nil {
			t.Error("an extractable key was left")
		}
		return Imported{}, nil
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := token.Attributes(t.Context(), id); !errors.Is(err, ErrNoObject) {
		t.Error(err)
	}
}

// TestUnexplainedErrors keep their own kind: what a probe says is none of the call's, except that all is lost.
func TestUnexplainedErrors(t *testing.T) {
	fault := failed("C_Decrypt", errors.New("fault"))
	if err := unexplained(fault, ErrAuthentication); errors.Is(err, ErrAuthentication) || !errors.Is(err, fault) {
		t.Error(err)
	}
	gone := &callError{call: "C_Decrypt", rv: 0x30, kind: ErrUnavailable} // CKR_DEVICE_ERROR
	if err := unexplained(fault, gone); !lost(err) || !errors.Is(err, ErrUnavailable) {
		t.Error(err)
	}
}

func BenchmarkSelfTest(b *testing.B) {
	token := connect(b)
	for b.Loop() {
		token.SelfTest(b.Context())
	}
}

func BenchmarkSign(b *testing.B) {
	token := connect(b)
	for kt, scheme := range map[KeyType]Scheme{RSA2048: {PSS, 5}, P256: {ECDSA, 5}, Secp256k1: {ECDSA, 5}, Ed25519: {Algorithm: PureEdDSA}} {
		key, _ := newKeyPair(b, token, kt, SignPair)
		b.Run(kt.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := token.Sign(b.Context(), key, kt, scheme, make([]byte, 32)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
