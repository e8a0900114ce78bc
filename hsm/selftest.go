package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"
)

// Check is the result of one self-test.
type Check struct {
	Name string // what was tried, with its mechanism
	Need string // what does not work without it
	Err  error  // nil when the token does it right
}

// Checks of SelfTest, by name.
const (
	CheckRandom  = "C_GenerateRandom"
	CheckSeal    = "CKM_AES_GCM seals and opens"
	CheckTamper  = "CKM_AES_GCM refuses what was changed"
	CheckWrapped = "CKM_AES_KEY_WRAP_PAD in the token"
	CheckHidden  = "sensitive keys can't be read"
)

// SelfTest tries every algorithm with throw-away session keys, since the mechanism list of a token tells neither
// whether a mechanism works nor whether it is the algorithm that it is called.
func (t *Token) SelfTest(ctx context.Context) []Check {
	tests := []struct {
		name, need string
		f          func(*session, *testKeys) error
	}{
		{CheckRandom, "everything", (*session).testRandom},
		{CheckSeal, "Encrypt, Decrypt, data keys", (*session).testSeal},
		{CheckTamper, "Decrypt", (*session).testTamper},
		{CheckHidden, "everything", (*session).testHidden},
		{CheckWrapped, "GenerateDataKeyWithoutPlaintext inside the token (ciphertext form 2)", (*session).testWrapped},
	}
	var checks []Check
	for _, test := range tests {
		_, err := run(ctx, t, func(s *session) (struct{}, error) {
			k := &testKeys{rand: t.cfg.Rand}
			err := s.makeTestKeys(k)
			if err == nil {
				err = test.f(s, k)
			}
			s.broken = true // closing the session destroys its keys
			return struct{}{}, err
		})
		checks = append(checks, Check{Name: test.name, Need: test.need, Err: err})
	}
	return checks
}

// testKeys are session objects.
type testKeys struct {
	rand       io.Reader
	seal, wrap pkcs11.ObjectHandle
}

func (s *session) makeTestKeys(k *testKeys) (err error) {
	k.seal, err = s.generateTestKey(Seal)
	if err != nil {
		return err
	}
	k.wrap, err = s.generateTestKey(Wrap)
	return err
}

func (s *session) testRandom(*testKeys) error {
	a, err := s.random(32)
	if err != nil {
		return err
	}
	b, err := s.random(32)
	if err == nil && bytes.Equal(a, b) {
		err = errors.New("it returned the same 32 bytes twice")
	}
	return err
}

func (s *session) testSeal(k *testKeys) error {
	for _, size := range []int{1, 32, 4096} {
		want, aad := bytes.Repeat([]byte{0x5a}, size), bytes.Repeat([]byte{0xa5}, 100)
		box, err := s.sealWith(k.rand, k.seal, want, aad)
		if err != nil {
			return err
		}
		if bytes.Contains(box, want[:min(size, 16)]) && size > 1 {
			return errors.New("the ciphertext contains the plaintext")
		}
		got, err := s.unsealWith(k.seal, box, aad)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes came back changed", size)
		}
	}
	return nil
}

func (s *session) testTamper(k *testKeys) error {
	aad := []byte("aad")
	box, err := s.sealWith(k.rand, k.seal, []byte("plaintext"), aad)
	if err != nil {
		return err
	}
	for at := range box {
		changed := bytes.Clone(box)
		changed[at] ^= 1
		if _, err := s.unsealWith(k.seal, changed, aad); !errors.Is(err, ErrAuthentication) {
			return fmt.Errorf("byte %d changed: %w", at, accepted(err))
		}
	}
	if _, err := s.unsealWith(k.seal, box, []byte("other")); !errors.Is(err, ErrAuthentication) {
		return fmt.Errorf("other additional data: %w", accepted(err))
	}
	return nil
}

// accepted is for a call that should have failed.
func accepted(err error) error {
	if err == nil {
		return errors.New("it was accepted")
	}
	return err
}

func (s *session) testHidden(k *testKeys) error {
	for _, h := range []pkcs11.ObjectHandle{k.seal, k.wrap} {
		if value, err := s.lib.value(s.handle, h, aesKeySize); err == nil {
			clear(value)
			return errors.New("CKA_VALUE of a sensitive key was given out: this token protects nothing")
		}
	}
	if _, err := s.lib.wrap(s.handle, pkcs11.CKM_AES_KEY_WRAP_PAD, k.wrap, k.seal, kwpSize(aesKeySize)); err == nil {
		return errors.New("a key that is not extractable was wrapped")
	}
	return nil
}

func (s *session) testWrapped(k *testKeys) error {
	for _, size := range []int{1, 16, 31, 32, 1024} {
		secret, err := s.generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, dataKeyTemplate(size))
		if err != nil {
			return fmt.Errorf("generate a secret of %d bytes: %w", size, err)
		}
		wrapped, err := s.lib.wrap(s.handle, pkcs11.CKM_AES_KEY_WRAP_PAD, k.wrap, secret, kwpSize(size))
		if err != nil {
			return fmt.Errorf("wrap a secret of %d bytes: %w", size, err)
		}
		first, err := s.unwrapSecret(k.wrap, wrapped, size)
		if err != nil {
			return fmt.Errorf("unwrap a secret of %d bytes: %w", size, err)
		}
		again, err := s.unwrapSecret(k.wrap, wrapped, size)
		if err != nil || !bytes.Equal(first, again) {
			return fmt.Errorf("a secret of %d bytes came back changed", size)
		}
		wrapped[len(wrapped)-1] ^= 1
		if _, err := s.unwrapSecret(k.wrap, wrapped, size); err == nil {
			return errors.New("a changed wrapped secret was accepted")
		}
	}
	return nil
}
