package session

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
)

// GenerateWrappedSecret generates a secret of n bytes, wraps it and destroys it.
func (s *Session) GenerateWrappedSecret(
	mechanism uint, wrapping pkcs11.ObjectHandle, n int,
) (wrapped []byte, err error) {
	secret, err := s.Generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, keyobject.DataKeyTemplate(n))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Destroy(secret)) }()
	wrapped, err = s.WrapKey(mechanism, nil, wrapping, secret, KWPSize(n))
	if err == nil && len(wrapped) != KWPSize(n) {
		err = fmt.Errorf("C_WrapKey: %d bytes instead of %d", len(wrapped), KWPSize(n))
	}
	return wrapped, err
}

// UnwrapSecret reads a secret of n bytes through a session object.
func (s *Session) UnwrapSecret(
	mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte, n int,
) ([]byte, error) {
	value, err := s.unwrapReadable(mechanisms, unwrapping, wrapped)
	if err != nil {
		return nil, err
	}
	// SoftHSM before 2.7.0 leaves KWP's zero padding on.
	if len(value) < n {
		clear(value)
		return nil, fmt.Errorf("C_UnwrapKey: secret of %d bytes instead of %d", len(value), n)
	}
	clear(value[n:])
	return value[:n:n], nil
}

// unwrapReadable reads what is wrapped, as generic secret, through a session object.
func (s *Session) unwrapReadable(
	mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte,
) (value []byte, err error) {
	h, err := s.UnwrapAny(mechanisms, unwrapping, wrapped, keyobject.ReadableSecret())
	if err != nil {
		return nil, err
	}
	return s.readOnce(h, len(wrapped))
}

// readOnce reads the value of a session object, at most size bytes, and destroys the object.
func (s *Session) readOnce(h pkcs11.ObjectHandle, size int) ([]byte, error) {
	value, err := s.Value(h, size)
	if err = errors.Join(err, s.Destroy(h)); err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}
