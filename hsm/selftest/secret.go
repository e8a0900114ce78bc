package selftest

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// secretTests are the self-tests of secret keys.
var secretTests = []Test{
	{CheckRandom, "everything", required, testRandom},
	{CheckObjects, "CreateKey, rotation, import", optional, testObjects},
	{CheckSeal, "encryption, data keys", required, testSeal},
	{CheckTamper, "decryption", required, testTamper},
	{CheckHidden, "everything", required, testHidden},
	{
		CheckKWP,
		"whatever is wrapped: data keys, key pairs, keys that are kept outside, import of private keys",
		optional,
		func(s *session.Session, _ *Keys) error {
			_, err := s.KWP()
			return err
		},
	},
	testDataKey(CheckDataKey16, 16),
	testDataKey(CheckDataKey32, 32),
	testDataKey(CheckDataKey64, 64),
	{CheckInside, "keys that are kept outside of the token, wrapped (residency wrapped)", optional, testInside},
	testMAC(CheckMAC224, keyobject.MAC224),
	testMAC(CheckMAC256, keyobject.MAC256),
	testMAC(CheckMAC384, keyobject.MAC384),
	testMAC(CheckMAC512, keyobject.MAC512),
}

func testRandom(s *session.Session, _ *Keys) error {
	a, err := s.Random(32)
	if err != nil {
		return err
	}
	b, err := s.Random(32)
	if err == nil && bytes.Equal(a, b) {
		err = errors.New("it returned the same 32 bytes twice")
	}
	return err
}

// testObjects makes a token object. A token that is full or read-only fails it.
func testObjects(s *session.Session, _ *Keys) error {
	var id keyobject.ID
	if _, err := io.ReadFull(s.Rand, id[:]); err != nil {
		return fmt.Errorf("draw an object id: %w", err)
	}
	h, err := s.Generate(
		keyobject.Seal.Mechanism(),
		append(keyobject.Secret{ID: id, Label: "verenc/self-test", Purpose: keyobject.Seal}.Template(),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyobject.AESKeySize)),
	)
	if err != nil {
		return err
	}
	return errors.Join(s.CheckNotExtractable(h), s.Destroy(h))
}

func testSeal(s *session.Session, _ *Keys) error {
	key, err := s.GenerateTestKey(keyobject.Seal)
	if err != nil {
		return err
	}
	for _, size := range []int{1, 32, 4096} {
		want, aad := bytes.Repeat([]byte{0x5a}, size), bytes.Repeat([]byte{0xa5}, 100)
		box, err := s.Seal(key, want, aad)
		if err != nil {
			return err
		}
		if bytes.Contains(box, want[:min(size, 16)]) && size > 1 {
			return errors.New("the ciphertext contains the plaintext")
		}
		got, err := s.Unseal(key, box, aad)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes came back changed", size)
		}
	}
	return nil
}

func testTamper(s *session.Session, _ *Keys) error {
	key, err := s.GenerateTestKey(keyobject.Seal)
	if err != nil {
		return err
	}
	aad := []byte("aad")
	box, err := s.Seal(key, []byte("plaintext"), aad)
	if err != nil {
		return err
	}
	for at := range box {
		changed := bytes.Clone(box)
		changed[at] ^= 1
		if _, err := s.Unseal(key, changed, aad); !errors.Is(err, ckr.ErrAuthentication) {
			return fmt.Errorf("byte %d changed: %w", at, accepted(err))
		}
	}
	if _, err := s.Unseal(key, box, []byte("other")); !errors.Is(err, ckr.ErrAuthentication) {
		return fmt.Errorf("other additional data: %w", accepted(err))
	}
	return nil
}

// testDataKey tries one size of a data key. CanGenerateWrapped remembers the result.
func testDataKey(name string, size int) Test {
	need := fmt.Sprintf(
		"GenerateDataKeyWithoutPlaintext of %d bytes whose plaintext is in no memory but the token's", size,
	)
	return Test{name, need, optional, func(s *session.Session, _ *Keys) error {
		return s.TrySecretSize(size)
	}}
}

func testInside(s *session.Session, _ *Keys) error {
	wrapping, err := s.GenerateWrappingKey(keyobject.SessionObject())
	if err != nil {
		return err
	}
	if err := s.KeepsUnwrapTemplate(wrapping); err != nil {
		return err
	}
	return sharesSessionObjects(s, wrapping)
}

// sharesSessionObjects uses a key in another session than the one that unwrapped it, as with
// wrapped keys. PKCS#11 v2.40 section 2.4 allows that; a token in a strict session mode (IBM EP11)
// does not.
func sharesSessionObjects(s *session.Session, wrapping pkcs11.ObjectHandle) error {
	wrapped, err := s.GenerateWrappedKey(wrapping, keyobject.Seal)
	if err != nil {
		return err
	}
	mechanism, err := s.KWP()
	if err != nil {
		return err
	}
	return s.InKeeper(func(keeper *session.Session) error {
		h, err := keeper.Unwrap(
			mechanism, nil, wrapping, wrapped,
			append(keyobject.Seal.Template(), keyobject.SessionObject()...),
		)
		if err != nil {
			return fmt.Errorf("%w: use a session object in another session: %w", ckr.ErrUnsupported, err)
		}
		return errors.Join(s.SealsAndOpens(h), keeper.Destroy(h))
	})
}

// testMAC compares with crypto/hmac, under a key that both know.
func testMAC(name string, p keyobject.Purpose) Test {
	return Test{name, "MACs of " + p.Hash().String(), optional, func(s *session.Session, _ *Keys) error {
		if _, err := s.GenerateTestKey(p); err != nil {
			return err
		}
		h, err := s.Generate(p.Mechanism(), append(keyobject.ReadableSecret(),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.Size())))
		if err != nil {
			return err
		}
		key, err := s.Value(h, p.Size())
		if err != nil {
			return err
		}
		message := []byte("message")
		got, err := s.MAC(h, p.Hash(), message)
		if err != nil {
			return err
		}
		reference := hmac.New(p.Hash().New, key)
		reference.Write(message)
		if !hmac.Equal(got, reference.Sum(nil)) {
			return errors.New("another MAC than the host's")
		}
		return nil
	}}
}
