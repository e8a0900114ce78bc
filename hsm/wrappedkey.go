package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// Key is a key to be used: an ObjectID, which is that of a token object, or a WrappedKey.
type Key interface {
	find(s *session) (pkcs11.ObjectHandle, error)
	object() ObjectID // the token object without which it can't be used
}

func (id ObjectID) find(s *session) (pkcs11.ObjectHandle, error) { return s.lookupObject(id) }
func (id ObjectID) object() ObjectID                             { return id }

// WrappedKey is a key that was generated in the token, and is kept outside of it as AES-KWP of a wrapping key
// (GenerateWrappingKey), so that a token can have more keys than it has room for. It is used through a session object that is as
// sensitive and as little extractable as a token object; up to Config.HeldKeys of these are held. No memory but the token's ever
// has the key.
type WrappedKey struct {
	Name    ObjectID // 16 random bytes that no other key has
	Under   ObjectID // of the wrapping key
	Wrapped []byte
	// Mechanism is the KWPMechanism of the token when the key was wrapped, 0 if it was not recorded.
	Mechanism uint

	Purpose Purpose // of a secret key; 0 for a private key,
	Pair    KeyPair // whose Type and Purpose are here
}

func (k WrappedKey) find(s *session) (pkcs11.ObjectHandle, error) { return s.hold(k) }
func (k WrappedKey) object() ObjectID                             { return k.Under }

// template has the attributes of the key's session object.
func (k WrappedKey) template() ([]*pkcs11.Attribute, error) {
	if k.Purpose != 0 {
		return k.Purpose.template(), k.Purpose.check()
	}
	kt, err := k.Pair.check()
	if err != nil {
		return nil, err
	}
	if k.Pair.Purpose == UnwrapPair {
		return nil, errors.New("a pair that unwraps is a token object")
	}
	return append(pairTemplate(kt, k.Pair.Purpose, k.Pair.Purpose == DecryptPair), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)), nil
}

// sessionObject is the end of a template.
func sessionObject() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // last: SoftHSM's C_UnwrapKey sets nothing after it
	}
}

// tokenObject is the end of a template.
func tokenObject(id ObjectID, label string) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
		pkcs11.NewAttribute(pkcs11.CKA_MODIFIABLE, false), // last: SoftHSM's C_UnwrapKey sets nothing after it
	}
}

// spoilt is for a failure to unwrap. That the bytes are not the token's is no fault of any ciphertext.
func (k WrappedKey) spoilt(err error) error {
	if errors.Is(err, ErrAuthentication) {
		return fmt.Errorf("unwrap key %s: its stored bytes are not what token object %s has wrapped (%v)", k.Name, k.Under, err)
	}
	return fmt.Errorf("unwrap key %s: %w", k.Name, err)
}

// GenerateWrappingKey generates a token object that wraps keys to be kept outside: AES-256, CKA_WRAP and CKA_UNWRAP. Its
// CKA_UNWRAP_TEMPLATE has the token make nothing of them but what is sensitive and not extractable, whoever asks. A token
// that does not keep to that is ErrUnsupported, and no object is left. The call is no more repeatable than GenerateSecretKey.
func (t *Token) GenerateWrappingKey(ctx context.Context, id ObjectID, label string) error {
	_, err := run(ctx, t, func(s *session) (struct{}, error) {
		h, err := s.generateWrapping(tokenObject(id, label))
		if err != nil {
			return struct{}{}, err
		}
		if err := s.keepsInside(h); err != nil {
			return struct{}{}, errors.Join(err, s.destroy(h))
		}
		return struct{}{}, s.created(id, h)
	})
	if err != nil {
		return fmt.Errorf("generate wrapping key: %w", err)
	}
	return nil
}

func (s *session) generateWrapping(end []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	template := append(Wrap.template(),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, aesKeySize),
		cryptoki.UnwrapTemplate())
	return s.generate(pkcs11.CKM_AES_KEY_GEN, append(template, end...))
}

// keepsInside tells whether the token unwraps under a wrapping key what may not be read, and nothing else.
func (s *session) keepsInside(wrapping pkcs11.ObjectHandle) error {
	wrapped, err := s.generateAndWrap(wrapping, Seal)
	if err != nil {
		return err
	}
	mechanism, err := s.kwp()
	if err != nil {
		return err
	}
	h, err := s.unwrap(mechanism, nil, wrapping, wrapped, append(Seal.template(), sessionObject()...))
	if err != nil {
		return fmt.Errorf("%w: unwrap under a CKA_UNWRAP_TEMPLATE: %w", ErrUnsupported, err)
	}
	if err := errors.Join(s.staysInside(h), s.destroy(h)); err != nil {
		return err
	}
	h, err = s.unwrap(mechanism, nil, wrapping, wrapped, readableSecret())
	switch {
	case lost(err):
		return err
	case err == nil:
		return errors.Join(fmt.Errorf("%w: it does not keep to CKA_UNWRAP_TEMPLATE", ErrUnsupported), s.destroy(h))
	}
	return nil
}

// generateAndWrap makes a secret key that no object is left of.
func (s *session) generateAndWrap(wrapping pkcs11.ObjectHandle, p Purpose) (wrapped []byte, err error) {
	mechanism, err := s.kwp()
	if err != nil {
		return nil, err
	}
	h, err := s.generate(p.mechanism(), wrappableTemplate(p.keyType(), p.size()))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.destroy(h)) }()
	return s.wrapKey(mechanism, nil, wrapping, h, kwpSize(p.size()))
}

// GenerateWrappedKey generates a key in the token and wraps it there. Name, Under and Purpose or Pair say which. It is seen to
// be unwrapped before it is returned. Nothing of it is left in the token but the session object that it is used through. spki is that
// of GenerateKeyPair, nil for a secret key; pairs have its deadline.
func (t *Token) GenerateWrappedKey(ctx context.Context, k WrappedKey) (wrapped, spki []byte, err error) {
	if _, err := k.template(); err != nil {
		return nil, nil, fmt.Errorf("generate wrapped key: %w", err)
	}
	inTime := run[[2][]byte]
	if k.Purpose == 0 {
		inTime = runGenerate[[2][]byte]
	}
	both, err := inTime(ctx, t, func(s *session) (both [2][]byte, err error) {
		wrapping, err := s.lookupObject(k.Under)
		if err != nil {
			return both, err
		}
		k := k
		if k.Purpose != 0 {
			k.Wrapped, err = s.generateAndWrap(wrapping, k.Purpose)
		} else {
			both[1], k.Wrapped, err = s.generateWrappedPair(wrapping, keyTypes[k.Pair.Type])
		}
		if err == nil {
			_, err = s.hold(k)
		}
		both[0] = k.Wrapped
		return both, err
	})
	return both[0], both[1], err
}

// Persist makes a token object of a wrapped key: of the same value, sensitive, not extractable, not modifiable. The call is no
// more repeatable than GenerateSecretKey.
func (t *Token) Persist(ctx context.Context, k WrappedKey, id ObjectID, label string) error {
	template, err := k.template()
	if err != nil {
		return fmt.Errorf("settle key: %w", err)
	}
	_, err = run(ctx, t, func(s *session) (struct{}, error) {
		wrapping, err := s.lookupObject(k.Under)
		if err != nil {
			return struct{}{}, err
		}
		mechanisms, err := s.unwrapMechanisms(k.Mechanism)
		if err != nil {
			return struct{}{}, err
		}
		h, err := s.unwrapAny(mechanisms, wrapping, k.Wrapped, append(template, tokenObject(id, label)...))
		if err != nil {
			return struct{}{}, k.spoilt(err)
		}
		if err := s.staysInside(h); err != nil {
			return struct{}{}, errors.Join(err, s.destroy(h))
		}
		return struct{}{}, s.created(id, h)
	})
	return err
}

// Evict destroys the session object that a wrapped key was used through, if there is one.
func (t *Token) Evict(ctx context.Context, k WrappedKey) error {
	_, err := run(ctx, t, func(s *session) (struct{}, error) { return struct{}{}, s.destroyAll(s.held.forget(k.Name)) })
	return err
}
