package hsm

import (
	"context"
	"crypto"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// ObjectID is the CKA_ID of a token object: 16 random bytes, recorded by the caller before the object exists.
type ObjectID [16]byte

func (id ObjectID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText gives 32 hex digits.
func (id ObjectID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText reads what MarshalText gives.
func (id *ObjectID) UnmarshalText(text []byte) error {
	if len(text) != 2*len(id) {
		return fmt.Errorf("object id has %d digits, not %d", len(text), 2*len(id))
	}
	_, err := hex.Decode(id[:], text)
	return err
}

// Purpose says what a secret key may do in the token. No key may do more than one of these: a key that both
// wraps and decrypts would let anyone with a session read what it wraps.
type Purpose int

// Purposes of a secret key. A MAC key is a generic secret as long as the output of its hash, which RFC 2104 section 3 calls
// the least that is not discouraged.
const (
	Seal   Purpose = iota + 1 // AES-256, CKA_ENCRYPT and CKA_DECRYPT
	Wrap                      // AES-256, CKA_WRAP and CKA_UNWRAP
	MAC224                    // 28 bytes, CKA_SIGN and CKA_VERIFY
	MAC256                    // 32 bytes
	MAC384                    // 48 bytes
	MAC512                    // 64 bytes
)

// hash is the one of a MAC purpose, 0 for others.
func (p Purpose) hash() crypto.Hash {
	switch p {
	case MAC224:
		return crypto.SHA224
	case MAC256:
		return crypto.SHA256
	case MAC384:
		return crypto.SHA384
	case MAC512:
		return crypto.SHA512
	}
	return 0
}

func (p Purpose) check() error {
	if p != Seal && p != Wrap && p.hash() == 0 {
		return fmt.Errorf("purpose %d is none of a secret key", p)
	}
	return nil
}

// mechanism is the one that generates a key.
func (p Purpose) mechanism() uint {
	if p.hash() != 0 {
		return pkcs11.CKM_GENERIC_SECRET_KEY_GEN
	}
	return pkcs11.CKM_AES_KEY_GEN
}

func (p Purpose) keyType() uint {
	if p.hash() != 0 {
		return pkcs11.CKK_GENERIC_SECRET
	}
	return pkcs11.CKK_AES
}

// size is a key's, in bytes.
func (p Purpose) size() int {
	if hash := p.hash(); hash != 0 {
		return hash.Size()
	}
	return aesKeySize
}

// SecretKey describes a secret key to generate.
type SecretKey struct {
	ID      ObjectID
	Label   string // CKA_LABEL, for people
	Purpose Purpose
}

const aesKeySize = 32 // bytes

// GenerateSecretKey generates a token object: sensitive, never extractable, not modifiable. The call is not repeatable:
// after an error other than ErrUnavailable before the call, the object may exist; Destroy undoes it.
func (t *Token) GenerateSecretKey(ctx context.Context, k SecretKey) error {
	if err := k.Purpose.check(); err != nil {
		return fmt.Errorf("generate secret key: %w", err)
	}
	template := append([]*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, k.Purpose.size())}, k.template()...)
	_, err := run(ctx, t, func(s *session) (struct{}, error) {
		h, err := s.generate(k.Purpose.mechanism(), template)
		if err == nil {
			err = s.created(k.ID, h)
		}
		return struct{}{}, err
	})
	return err
}

// template is a token object's.
func (k SecretKey) template() []*pkcs11.Attribute {
	return append(k.Purpose.template(), tokenObject(k.ID, k.Label)...)
}

// secretTemplate has the attributes that every secret key here has.
func secretTemplate(keyType uint) []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, keyType),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
	}
}

// template is a key of one purpose that never leaves the token.
func (p Purpose) template() []*pkcs11.Attribute {
	return append(secretTemplate(p.keyType()),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, p == Seal),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, p == Seal),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, p == Wrap),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, p == Wrap),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, p.hash() != 0),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, p.hash() != 0),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false))
}

// dataKeyTemplate is wrappableTemplate of a generic secret.
func dataKeyTemplate(size int) []*pkcs11.Attribute {
	return wrappableTemplate(pkcs11.CKK_GENERIC_SECRET, size)
}

// wrappableTemplate is a session object that can be wrapped but not read.
func wrappableTemplate(keyType uint, size int) []*pkcs11.Attribute {
	return append(secretTemplate(keyType),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
}

// Destroy ends the token objects with these ids, for ever. An id without an object is no error, so that an
// interrupted Destroy can be repeated; the token itself is asked whether there is one.
func (t *Token) Destroy(ctx context.Context, ids ...ObjectID) error {
	for _, id := range ids {
		_, err := run(ctx, t, func(s *session) (struct{}, error) {
			if !s.indexed() { // or the index could remember the object after we have forgotten it
				return struct{}{}, errIndexing
			}
			h, err := s.lookupObject(id)
			if errors.Is(err, ErrNoObject) {
				h, err = s.locate(id) // somebody else may have made it
			}
			if errors.Is(err, ErrNoObject) {
				return struct{}{}, nil
			}
			if err != nil {
				return struct{}{}, err
			}
			s.forget(id)
			err = s.destroy(h)
			if hasCode(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) && s.loggedIn() {
				err = nil // somebody else has destroyed it
			}
			return struct{}{}, err
		})
		if err != nil {
			return fmt.Errorf("destroy object %s: %w", id, err)
		}
	}
	return nil
}
