package hsm

import (
	"context"
	"crypto"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/softhsm/faults"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
)

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

func TestGenerateTimeout(t *testing.T) {
	token := connect(t, func(c *Config) { c.GenerateTimeout = time.Nanosecond })
	if _, err := token.GenerateKeyPair(t.Context(),
		KeyPair{ID: newID(t), Type: RSA2048, Purpose: SignPair}); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}

// TestWhatCanLeaveIsDestroyed has a token that ignores the template: the object is destroyed.
func TestWhatCanLeaveIsDestroyed(t *testing.T) {
	token := connect(t)
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.Generate(MAC256.Mechanism(), keyobject.DataKeyTemplate(32))
		if err != nil {
			return struct{}{}, err
		}
		if err := s.MustStayInside(h); !errors.Is(err, ErrUnsupported) {
			t.Errorf("an extractable key was kept: %v", err)
		}
		if _, err := s.Attributes(h, 0); err == nil {
			t.Error("an extractable key was left")
		}
		return struct{}{}, nil
	})
	if err != nil {
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
	for kt, scheme := range map[KeyType]Scheme{RSA2048: {Algorithm: PSS, Hash: crypto.SHA256},
		P256: {Algorithm: ECDSA, Hash: crypto.SHA256}, Secp256k1: {Algorithm: ECDSA, Hash: crypto.SHA256},
		Ed25519: {Algorithm: PureEdDSA}} {
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
