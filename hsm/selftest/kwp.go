package selftest

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// testKWP has the session prove AES-KWP against the host.
func testKWP(s *session.Session, _ *Keys) error {
	_, err := s.KWP()
	return err
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
