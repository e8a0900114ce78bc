package session

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

func (s *Session) GenerateWrapping(end []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	template := append(keyobject.Wrap.Template(),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyobject.AESKeySize),
		cryptoki.UnwrapTemplate())
	return s.Generate(pkcs11.CKM_AES_KEY_GEN, append(template, end...))
}

// KeepsInside tells whether the token unwraps under a wrapping key what may not be read, and
// nothing else.
func (s *Session) KeepsInside(wrapping pkcs11.ObjectHandle) error {
	wrapped, err := s.GenerateAndWrap(wrapping, keyobject.Seal)
	if err != nil {
		return err
	}
	mechanism, err := s.KWP()
	if err != nil {
		return err
	}
	h, err := s.Unwrap(
		mechanism, nil, wrapping, wrapped, append(keyobject.Seal.Template(), keyobject.SessionObject()...),
	)
	if err != nil {
		return fmt.Errorf("%w: unwrap under a CKA_UNWRAP_TEMPLATE: %w", ckr.ErrUnsupported, err)
	}
	if err := errors.Join(s.StaysInside(h), s.Destroy(h)); err != nil {
		return err
	}
	h, err = s.Unwrap(mechanism, nil, wrapping, wrapped, keyobject.ReadableSecret())
	switch {
	case ckr.Lost(err):
		return err
	case err == nil:
		return errors.Join(fmt.Errorf("%w: it does not keep to CKA_UNWRAP_TEMPLATE", ckr.ErrUnsupported), s.Destroy(h))
	}
	return nil
}

// GenerateAndWrap makes a secret key that no object is left of.
func (s *Session) GenerateAndWrap(wrapping pkcs11.ObjectHandle, p keyobject.Purpose) (wrapped []byte, err error) {
	mechanism, err := s.KWP()
	if err != nil {
		return nil, err
	}
	h, err := s.Generate(p.Mechanism(), keyobject.WrappableTemplate(p.KeyType(), p.Size()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Destroy(h)) }()
	return s.WrapKey(mechanism, nil, wrapping, h, KWPSize(p.Size()))
}
