package hsm

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// secretTests are the self-tests of secret keys, with the keys of makeTestKeys.
var secretTests = []selfTest{
	{CheckRandom, "everything", required, (*session).testRandom},
	{CheckSeal, "encryption, data keys", required, (*session).testSeal},
	{CheckTamper, "decryption", required, (*session).testTamper},
	{CheckHidden, "everything", required, (*session).testHidden},
	{CheckWrapped, "data keys that are born and wrapped in the token (ciphertext form 2)", optional, (*session).testWrapped},
	{CheckInside, "keys that are kept outside of the token, wrapped (residency wrapped)", optional, (*session).testInside},
	testMAC(CheckMAC224, MAC224),
	testMAC(CheckMAC256, MAC256),
	testMAC(CheckMAC384, MAC384),
	testMAC(CheckMAC512, MAC512),
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
		box, err := s.seal(k.rand, k.seal, want, aad)
		if err != nil {
			return err
		}
		if bytes.Contains(box, want[:min(size, 16)]) && size > 1 {
			return errors.New("the ciphertext contains the plaintext")
		}
		got, err := s.unseal(k.seal, box, aad)
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
	box, err := s.seal(k.rand, k.seal, []byte("plaintext"), aad)
	if err != nil {
		return err
	}
	for at := range box {
		changed := bytes.Clone(box)
		changed[at] ^= 1
		if _, err := s.unseal(k.seal, changed, aad); !errors.Is(err, ErrAuthentication) {
			return fmt.Errorf("byte %d changed: %w", at, accepted(err))
		}
	}
	if _, err := s.unseal(k.seal, box, []byte("other")); !errors.Is(err, ErrAuthentication) {
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
		if value, err := s.value(h, aesKeySize); err == nil {
			clear(value)
			return errors.New("CKA_VALUE of a sensitive key was given out: this token protects nothing")
		}
	}
	if _, err := s.wrapKey(s.profile.wrap, k.wrap, k.seal, kwpSize(aesKeySize)); err == nil {
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
		wrapped, err := s.wrapKey(s.profile.wrap, k.wrap, secret, kwpSize(size))
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

func (s *session) testInside(*testKeys) error {
	wrapping, err := s.generateWrapping(sessionObject())
	if err != nil {
		return err
	}
	return s.keepsInside(wrapping)
}

// testMAC compares with crypto/hmac, under a key that both know.
func testMAC(name string, p Purpose) selfTest {
	return selfTest{name, "MACs of " + p.hash().String(), optional, func(s *session, _ *testKeys) error {
		if _, err := s.generateTestKey(p); err != nil {
			return err
		}
		h, err := s.generate(p.mechanism(), append(readableSecret(),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.size())))
		if err != nil {
			return err
		}
		key, err := s.value(h, p.size())
		if err != nil {
			return err
		}
		message := []byte("message")
		got, err := s.mac(h, p.hash(), message)
		if err != nil {
			return err
		}
		reference := hmac.New(p.hash().New, key)
		reference.Write(message)
		if !hmac.Equal(got, reference.Sum(nil)) {
			return errors.New("another MAC than the host's")
		}
		return nil
	}}
}
