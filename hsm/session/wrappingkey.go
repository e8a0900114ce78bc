package session

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// GenerateWrappingKey generates an AES-256 key that wraps keys, with a CKA_UNWRAP_TEMPLATE. end is
// the end of its template.
func (s *Session) GenerateWrappingKey(end []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	template := append(keyobject.Wrap.Template(),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyobject.AESKeySize),
		cryptoki.UnwrapTemplate())
	return s.Generate(pkcs11.CKM_AES_KEY_GEN, append(template, end...))
}

// KeepsUnwrapTemplate checks that the token applies the CKA_UNWRAP_TEMPLATE of a wrapping key: it
// unwraps into keys that can't be read, and into nothing else.
func (s *Session) KeepsUnwrapTemplate(wrapping pkcs11.ObjectHandle) error {
	wrapped, err := s.GenerateWrappedKey(wrapping, keyobject.Seal)
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
	if err := errors.Join(s.CheckNotExtractable(h), s.Destroy(h)); err != nil {
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

// GenerateWrappedKey generates a secret key and wraps it. No object is left.
func (s *Session) GenerateWrappedKey(wrapping pkcs11.ObjectHandle, p keyobject.Purpose) (wrapped []byte, err error) {
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
