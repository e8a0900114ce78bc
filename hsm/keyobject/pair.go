package keyobject

import (
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

// Pair describes a key pair. Its token object is the private key alone; the caller keeps the public
// key.
type Pair struct {
	ID      ID
	Label   string // CKA_LABEL, for people
	Type    Type
	Purpose PairPurpose
}

// Check refuses a purpose that the type of key does not have.
func (k Pair) Check() (*TypeInfo, error) {
	kt, err := k.Type.Known()
	if err != nil {
		return nil, err
	}
	switch k.Purpose {
	case SignPair:
		if !kt.MLKEM() {
			return kt, nil
		}
	case DecapsulatePair:
		if kt.MLKEM() {
			return kt, nil
		}
	case DecryptPair, UnwrapPair:
		if kt.RSA() {
			return kt, nil
		}
	case DerivePair:
		if kt.NIST() != nil {
			return kt, nil
		}
	}
	return nil, fmt.Errorf("purpose %d is none of a %s key pair", k.Purpose, k.Type)
}

// PairTemplate has the attributes that every private key of a purpose has.
func PairTemplate(kt *TypeInfo, p PairPurpose, decrypts bool) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kt.Kind),
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

// PublicTemplate is the template of a public key that is only read.
func PublicTemplate(kt *TypeInfo) []*pkcs11.Attribute {
	template := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, kt.Kind),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
	}
	if kt.RSA() {
		return append(
			template,
			pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, 8*kt.Size),
			pkcs11.NewAttribute(
				pkcs11.CKA_PUBLIC_EXPONENT,
				[]byte{rsaExponent >> 16, rsaExponent >> 8 & 0xff, rsaExponent & 0xff},
			),
		)
	}
	if kt.ParameterSet != 0 {
		return append(template, pkcs11.NewAttribute(ckaParameterSet, kt.ParameterSet))
	}
	return append(template, pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, kt.ECParams()))
}

// VerifierTemplate is the template of an ML-DSA public key that verifies.
func VerifierTemplate(k *TypeInfo, public []byte) []*pkcs11.Attribute {
	return append(
		PublicTemplate(k), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, public),
	)
}

const rsaExponent = 65537 // NIST FIPS 186-5 appendix A.1.1: the smallest one allowed
