package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// SealingKeys names the two keys of one symmetric key material.
type SealingKeys struct {
	Seal Key
	Wrap Key
	// Mechanism is the KWPMechanism of the token when the material was made, 0 if it was not recorded.
	Mechanism uint
}

// kwpSize is the length of n bytes wrapped with AES-KWP (NIST SP 800-38F section 6.3): padded to a multiple of
// 8, and a semiblock more.
func kwpSize(n int) int { return (n+7)/8*8 + 8 }

// GenerateWrapped generates a secret of n bytes in the token, wraps it there with AES-KWP under the Wrap key, seals the
// wrapped bytes with AES-256-GCM and the aad under the Seal key, and destroys the secret. The secret is sensitive and in
// no memory but the token's. The box is that of Encrypt over kwpSize(n) bytes.
func (t *Token) GenerateWrapped(ctx context.Context, keys SealingKeys, n int, aad []byte) ([]byte, error) {
	aad = bytes.Clone(aad)
	return run(ctx, t, func(s *session) ([]byte, error) {
		sealing, wrapping, err := s.lookupPair(keys)
		if err != nil {
			return nil, err
		}
		mechanism, err := s.kwp()
		if err != nil {
			return nil, err
		}
		if n > 0 && n <= maxSecretSize && s.secretSizes[n].Load() == sizeRefused {
			return nil, fmt.Errorf("%w: wrap a secret of %d bytes", ErrUnsupported, n)
		}
		wrapped, err := s.generateWrappedSecret(mechanism, wrapping, n)
		if err != nil {
			return nil, err
		}
		return s.seal(t.cfg.Rand, sealing, wrapped, aad)
	})
}

// generateWrappedSecret generates a secret of n bytes, wraps it and destroys it.
func (s *session) generateWrappedSecret(mechanism uint, wrapping pkcs11.ObjectHandle, n int) (wrapped []byte, err error) {
	secret, err := s.generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, dataKeyTemplate(n))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.destroy(secret)) }()
	wrapped, err = s.wrapKey(mechanism, nil, wrapping, secret, kwpSize(n))
	if err == nil && len(wrapped) != kwpSize(n) {
		err = fmt.Errorf("C_WrapKey: %d bytes instead of %d", len(wrapped), kwpSize(n))
	}
	return wrapped, err
}

// DecryptWrapped opens a box of GenerateWrapped and gives its secret of n bytes. The box is authenticated before
// anything is unwrapped. The caller clears the secret.
func (t *Token) DecryptWrapped(ctx context.Context, keys SealingKeys, box []byte, n int, aad []byte) ([]byte, error) {
	if len(box) != kwpSize(n)+Overhead {
		return nil, fmt.Errorf("%w: box of %d bytes for a secret of %d", ErrAuthentication, len(box), n)
	}
	return t.openWrapped(ctx, keys, box, aad, func(s *session, mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte) ([]byte, error) {
		return s.unwrapSecret(mechanisms, unwrapping, wrapped, n)
	})
}

// openWrapped opens a box of something wrapped, and unwraps that.
func (t *Token) openWrapped(ctx context.Context, keys SealingKeys, box, aad []byte, unwrap func(*session, []uint, pkcs11.ObjectHandle, []byte) ([]byte, error)) ([]byte, error) {
	box, aad = bytes.Clone(box), bytes.Clone(aad)
	return run(ctx, t, func(s *session) ([]byte, error) {
		sealing, unwrapping, err := s.lookupPair(keys)
		if err != nil {
			return nil, err
		}
		mechanisms, err := s.unwrapMechanisms(keys.Mechanism)
		if err != nil {
			return nil, err
		}
		wrapped, err := s.unseal(sealing, box, aad)
		if err != nil {
			return nil, err
		}
		return unwrap(s, mechanisms, unwrapping, wrapped)
	})
}

// unwrapSecret reads a secret of n bytes through a session object.
func (s *session) unwrapSecret(mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte, n int) ([]byte, error) {
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
func (s *session) unwrapReadable(mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte) (value []byte, err error) {
	h, err := s.unwrapAny(mechanisms, unwrapping, wrapped, readableSecret())
	if err != nil {
		return nil, err
	}
	return s.readOnce(h, len(wrapped))
}

// readOnce reads the value of a session object, at most size bytes, and destroys the object.
func (s *session) readOnce(h pkcs11.ObjectHandle, size int) ([]byte, error) {
	value, err := s.value(h, size)
	if err = errors.Join(err, s.destroy(h)); err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}

// readableSecret is a session object that is only there to be read.
func readableSecret() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	}
}
