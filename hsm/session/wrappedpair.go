package session

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

// GenerateWrappedPair generates a pair, wraps its private key with the token's AES-KWP, and
// destroys it.
func (s *Session) GenerateWrappedPair(
	wrapping pkcs11.ObjectHandle, k *keyobject.TypeInfo,
) (spki, wrapped []byte, err error) {
	if k.ParameterSet != 0 { // what PKCS#8 of it a token wraps is not agreed on yet
		return nil, nil, fmt.Errorf("%w: wrap an %s key", ckr.ErrUnsupported, k.Name)
	}
	mechanism, err := s.KWP()
	if err != nil {
		return nil, nil, err
	}
	h, spki, err := s.GeneratePair(k, append(keyobject.PairTemplate(k, keyobject.SignPair, false),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Destroy(h)) }()
	wrapped, err = s.WrapKey(mechanism, nil, wrapping, h, KWPSize(keyobject.PrivateKeyBound))
	return spki, wrapped, err
}

// UnwrapDER reads a secret that is one DER element through a session object.
func (s *Session) UnwrapDER(mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte) ([]byte, error) {
	value, err := s.unwrapReadable(mechanisms, unwrapping, wrapped)
	if err != nil {
		return nil, err
	}
	der, err := keyobject.TrimDER(value)
	if err != nil {
		clear(value)
		return nil, fmt.Errorf("C_UnwrapKey: %w", err)
	}
	return der, nil
}
