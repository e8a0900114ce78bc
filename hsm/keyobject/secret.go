package keyobject

import (
	"crypto"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Purpose says what a secret key may do in the token. No key may do more than one of these: a key
// that both wraps and decrypts would let anyone with a session read what it wraps.
type Purpose int

// Purposes of a secret key. A MAC key is a generic secret as long as the output of its hash, which
// RFC 2104 section 3 calls the least that is not discouraged.
const (
	Seal   Purpose = iota + 1 // AES-256, CKA_ENCRYPT and CKA_DECRYPT
	Wrap                      // AES-256, CKA_WRAP and CKA_UNWRAP
	MAC224                    // 28 bytes, CKA_SIGN and CKA_VERIFY
	MAC256                    // 32 bytes
	MAC384                    // 48 bytes
	MAC512                    // 64 bytes
)

// Hash is the hash of a MAC purpose, 0 for others.
func (p Purpose) Hash() crypto.Hash {
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

// Check refuses an unknown purpose.
func (p Purpose) Check() error {
	if p != Seal && p != Wrap && p.Hash() == 0 {
		return fmt.Errorf("purpose %d is none of a secret key", p)
	}
	return nil
}

// Mechanism is the CKM_ that generates a key.
func (p Purpose) Mechanism() uint {
	if p.Hash() != 0 {
		return pkcs11.CKM_GENERIC_SECRET_KEY_GEN
	}
	return pkcs11.CKM_AES_KEY_GEN
}

// KeyType is the CKA_KEY_TYPE.
func (p Purpose) KeyType() uint {
	if p.Hash() != 0 {
		return pkcs11.CKK_GENERIC_SECRET
	}
	return pkcs11.CKK_AES
}

// Size is the length of a key in bytes.
func (p Purpose) Size() int {
	if hash := p.Hash(); hash != 0 {
		return hash.Size()
	}
	return AESKeySize
}

// Secret describes a secret key to generate.
type Secret struct {
	ID      ID
	Label   string // CKA_LABEL, for people
	Purpose Purpose
}

const AESKeySize = 32 // bytes

// Template is the template of the token object.
func (k Secret) Template() []*pkcs11.Attribute {
	return append(k.Purpose.Template(), TokenObject(k.ID, k.Label)...)
}

// Template is the template of a key that never leaves the token, without the end.
func (p Purpose) Template() []*pkcs11.Attribute {
	return append(SecretTemplate(p.KeyType()),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, p == Seal),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, p == Seal),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, p == Wrap),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, p == Wrap),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, p.Hash() != 0),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, p.Hash() != 0),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, false))
}
