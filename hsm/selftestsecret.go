package hsm

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"
)

// secretTests are the self-tests of secret keys.
var secretTests = []selfTest{
	{CheckRandom, "everything", required, (*session).testRandom},
	{CheckObjects, "CreateKey, rotation, import", optional, (*session).testObjects},
	{CheckSeal, "encryption, data keys", required, (*session).testSeal},
	{CheckTamper, "decryption", required, (*session).testTamper},
	{CheckHidden, "everything", required, (*session).testHidden},
	{CheckKWP, "whatever is wrapped: data keys, key pairs, keys that are kept outside, import of private keys", optional, func(s *session, _ *testKeys) error {
		_, err := s.kwp()
		return err
	}},
	testDataKey(CheckDataKey16, 16),
	testDataKey(CheckDataKey32, 32),
	testDataKey(CheckDataKey64, 64),
	{CheckInside, "keys that are kept outside of the token, wrapped (residency wrapped)", optional, (*session).testInside},
	testMAC(CheckMAC224, MAC224),
	testMAC(CheckMAC256, MAC256),
	testMAC(CheckMAC384, MAC384),
	testMAC(CheckMAC512, MAC512),
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

// testObjects makes a token object, which a token without room, or one that is read-only, does not.
func (s *session) testObjects(k *testKeys) error {
	if !s.indexed() { // the index might meet the object just when it is destroyed
		return errIndexing
	}
	var id ObjectID
	if _, err := io.ReadFull(k.rand, id[:]); err != nil {
		return fmt.Errorf("draw an object id: %w", err)
	}
	h, err := s.generate(Seal.mechanism(), append(SecretKey{ID: id, Label: "verenc/self-test", Purpose: Seal}.template(),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, aesKeySize)))
	if err != nil {
		return err
	}
	return errors.Join(s.staysInside(h), s.destroy(h))
}

func (s *session) testSeal(k *testKeys) error {
	key, err := s.generateTestKey(Seal)
	if err != nil {
		return err
	}
	for _, size := range []int{1, 32, 4096} {
		want, aad := bytes.Repeat([]byte{0x5a}, size), bytes.Repeat([]byte{0xa5}, 100)
		box, err := s.seal(k.rand, key, want, aad)
		if err != nil {
			return err
		}
		if bytes.Contains(box, want[:min(size, 16)]) && size > 1 {
			return errors.New("the ciphertext contains the plaintext")
		}
		got, err := s.unseal(key, box, aad)
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
	key, err := s.generateTestKey(Seal)
	if err != nil {
		return err
	}
	aad := []byte("aad")
	box, err := s.seal(k.rand, key, []byte("plaintext"), aad)
	if err != nil {
		return err
	}
	for at := range box {
		changed := bytes.Clone(box)
		changed[at] ^= 1
		if _, err := s.unseal(key, changed, aad); !errors.Is(err, ErrAuthentication) {
			return fmt.Errorf("byte %d changed: %w", at, accepted(err))
		}
	}
	if _, err := s.unseal(key, box, []byte("other")); !errors.Is(err, ErrAuthentication) {
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

// testDataKey tries one size of form 2, and has CanGenerateWrapped know it.
func testDataKey(name string, size int) selfTest {
	need := fmt.Sprintf("GenerateDataKeyWithoutPlaintext of %d bytes whose plaintext is in no memory but the token's", size)
	return selfTest{name, need, optional, func(s *session, _ *testKeys) error {
		return s.trySecretSize(size)
	}}
}

func (s *session) testInside(*testKeys) error {
	wrapping, err := s.generateWrapping(sessionObject())
	if err != nil {
		return err
	}
	if err := s.keepsInside(wrapping); err != nil {
		return err
	}
	return s.sharesSessionObjects(wrapping)
}

// sharesSessionObjects uses a key from another session than the one that unwrapped it, as wrapped keys are. PKCS#11 v2.40
// section 2.4 has that; a token in a strict session mode (IBM EP11) does not.
func (s *session) sharesSessionObjects(wrapping pkcs11.ObjectHandle) error {
	wrapped, err := s.generateAndWrap(wrapping, Seal)
	if err != nil {
		return err
	}
	mechanism, err := s.kwp()
	if err != nil {
		return err
	}
	s.held.unwrapping.Lock()
	defer s.held.unwrapping.Unlock()
	keeper := session{conn: s.conn, handle: s.keeper}
	h, err := keeper.unwrap(mechanism, nil, wrapping, wrapped, append(Seal.template(), sessionObject()...))
	if err != nil {
		return fmt.Errorf("%w: use a session object in another session: %w", ErrUnsupported, err)
	}
	_, err = s.seal(constantIV{1}, h, []byte{0}, nil)
	return errors.Join(err, keeper.destroy(h))
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
