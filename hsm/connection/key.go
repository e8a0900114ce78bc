package connection

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

// SealingKeys names the two keys of one symmetric key material.
type SealingKeys struct {
	Seal Key
	Wrap Key
	// Mechanism is the KWPMechanism of the token when the material was made, 0 if it was not recorded.
	Mechanism uint
}

// Key is a key to be used: an ObjectID, which is that of a token object, or a WrappedKey.
type Key interface {
	TokenObject() keyobject.ID // the token object without which it can't be used
}

// Lookup gives the handle of a key, which stays valid until release. An operation looks up all it
// needs before it does anything.
func (s *Session) Lookup(k Key) (pkcs11.ObjectHandle, error) {
	switch k := k.(type) {
	case keyobject.ID:
		return s.LookupObject(k)
	case WrappedKey:
		return s.Hold(k)
	}
	return 0, fmt.Errorf("a %T is no key", k)
}

// LookupPair gives the handles of both keys.
func (s *Session) LookupPair(keys SealingKeys) (seal, wrap pkcs11.ObjectHandle, err error) {
	if seal, err = s.Lookup(keys.Seal); err == nil {
		wrap, err = s.Lookup(keys.Wrap)
	}
	return seal, wrap, err
}

// WrappedKey is a key that was generated in the token, and is kept outside of it as AES-KWP of a
// wrapping key (GenerateWrappingKey), so that a token can have more keys than it has room for. It
// is used through a session object that is as sensitive and as little extractable as a token
// object; up to Config.HeldKeys of these are cached. No memory but the token's ever has the key.
type WrappedKey struct {
	Name    keyobject.ID // 16 random bytes that no other key has
	Under   keyobject.ID // of the wrapping key
	Wrapped []byte
	// Mechanism is the KWPMechanism of the token when the key was wrapped, 0 if it was not recorded.
	Mechanism uint

	Purpose keyobject.Purpose // of a secret key; 0 for a private key,
	Pair    keyobject.Pair    // whose Type and Purpose are here
}

// TokenObject implements Key.
func (k WrappedKey) TokenObject() keyobject.ID { return k.Under }

// Template has the attributes of the key's session object.
func (k WrappedKey) Template() ([]*pkcs11.Attribute, error) {
	if k.Purpose != 0 {
		return k.Purpose.Template(), k.Purpose.Check()
	}
	kt, err := k.Pair.Check()
	if err != nil {
		return nil, err
	}
	if k.Pair.Purpose == keyobject.UnwrapPair {
		return nil, errors.New("a pair that unwraps is a token object")
	}
	return append(
		keyobject.PairTemplate(kt, k.Pair.Purpose, k.Pair.Purpose == keyobject.DecryptPair),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
	), nil
}

// UnwrapError gives the error of a failure to unwrap. Stored bytes that are not the token's are not
// a caller's wrong ciphertext, so it is no ErrAuthentication.
func (k WrappedKey) UnwrapError(err error) error {
	if errors.Is(err, ckr.ErrAuthentication) {
		return fmt.Errorf(
			"unwrap key %s: its stored bytes are not what token object %s has wrapped (%v)", k.Name, k.Under,
			err,
		)
	}
	return fmt.Errorf("unwrap key %s: %w", k.Name, err)
}
