package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// PairPurpose says what the private key of a pair may do in the token: one thing.
type PairPurpose int

// Purposes of a key pair.
const (
	SignPair        PairPurpose = iota + 1 // CKA_SIGN
	DecryptPair                            // RSA only, CKA_DECRYPT
	DerivePair                             // NIST curves only, CKA_DERIVE
	UnwrapPair                             // RSA only, CKA_UNWRAP; and CKA_DECRYPT on tokens that need it for Import
	DecapsulatePair                        // ML-KEM only, CKA_DECAPSULATE
)

// KeyPair describes a key pair. Its token object is the private key alone; the public key is the caller's to keep.
type KeyPair struct {
	ID      ObjectID
	Label   string // CKA_LABEL, for people
	Type    KeyType
	Purpose PairPurpose
}

// check refuses what no token object may be.
func (k KeyPair) check() (*keyType, error) {
	kt, err := k.Type.known()
	if err != nil {
		return nil, err
	}
	switch k.Purpose {
	case SignPair:
		if !kt.mlKEM() {
			return kt, nil
		}
	case DecapsulatePair:
		if kt.mlKEM() {
			return kt, nil
		}
	case DecryptPair, UnwrapPair:
		if kt.rsa() {
			return kt, nil
		}
	case DerivePair:
		if kt.nist() != nil {
			return kt, nil
		}
	}
	return nil, fmt.Errorf("purpose %d is none of a %s key pair", k.Purpose, k.Type)
}

// GenerateKeyPair generates a key pair and returns the DER SubjectPublicKeyInfo of its public key. The private key is a token
// object: sensitive, never extractable, not modifiable. The public key is a session object that ends with the call. RSA
// keys take seconds: Config.GenerateTimeout is the deadline. The call is no more repeatable than GenerateSecretKey.
func (t *Token) GenerateKeyPair(ctx context.Context, k KeyPair) (spki []byte, err error) {
	kt, err := k.check()
	if err != nil {
		return nil, fmt.Errorf("generate key pair: %w", err)
	}
	return runGenerate(ctx, t, func(s *session) ([]byte, error) {
		template, err := s.tokenTemplate(k, kt)
		if err != nil {
			return nil, err
		}
		private, spki, err := s.generatePair(kt, template)
		if err != nil {
			return nil, err
		}
		return spki, s.created(k.ID, private)
	})
}

// tokenTemplate is a private key that stays in the token.
func (s *session) tokenTemplate(k KeyPair, kt *keyType) ([]*pkcs11.Attribute, error) {
	decrypts := k.Purpose == DecryptPair
	if k.Purpose == UnwrapPair {
		var err error
		if decrypts, err = s.refusesSHA256.get(s.findOAEP); err != nil {
			return nil, err
		}
	}
	template := append(pairTemplate(kt, k.Purpose, decrypts), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false))
	return append(template, tokenObject(k.ID, k.Label)...), nil
}

// pairTemplate has the attributes that every private key of a purpose has.
func pairTemplate(kt *keyType, p PairPurpose, decrypts bool) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kt.kind),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, p == SignPair),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN_RECOVER, false),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, decrypts),
		pkcs11.NewAttribute(pkcs11.CKA_DERIVE, p == DerivePair),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, p == UnwrapPair),
	}
	if p == DecapsulatePair { // older tokens do not know it
		template = append(template, pkcs11.NewAttribute(ckaDecapsulate, true))
	}
	return template
}

// publicTemplate is a public key that is only there to be read.
func publicTemplate(kt *keyType) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kt.kind),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
	}
	if kt.rsa() {
		return append(template,
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 8*kt.size),
			pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{rsaExponent >> 16, rsaExponent >> 8 & 0xff, rsaExponent & 0xff}))
	}
	if kt.parameterSet != 0 {
		return append(template, pkcs11.NewAttribute(ckaParameterSet, kt.parameterSet))
	}
	return append(template, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, kt.ecParams()))
}

// generatePair makes a pair and reads its public key. On an error neither object is left.
func (s *session) generatePair(kt *keyType, private []*pkcs11.Attribute) (h pkcs11.ObjectHandle, spki []byte, err error) {
	public, h, err := s.generateKeyPair(kt.generate, publicTemplate(kt), private)
	if err != nil {
		return 0, nil, err
	}
	spki, err = s.publicKey(public, kt)
	err = errors.Join(err, s.destroy(public))
	if err != nil {
		return 0, nil, errors.Join(err, s.destroy(h))
	}
	return h, spki, nil
}
