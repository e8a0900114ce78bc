package hsm

import (
	"encoding/asn1"
	"fmt"

	"github.com/miekg/pkcs11"
)

// KeyType is the algorithm and the size of a key pair.
type KeyType int

// Key types. The curves are those of NIST SP 800-186, SEC 2 (secp256k1) and RFC 8032 (Ed25519).
const (
	RSA2048 KeyType = iota + 1
	RSA3072
	RSA4096
	P256
	P384
	P521
	Secp256k1
	Ed25519
)

// PKCS#11 v3.0 values that the library has no names for.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057
)

// keyType is what there is to know of a KeyType.
type keyType struct {
	name      string
	kind      uint                  // CKA_KEY_TYPE
	generate  uint                  // mechanism
	size      int                   // bytes of the modulus, of the field, of the public key
	algorithm asn1.ObjectIdentifier // AlgorithmIdentifier's
	curve     asn1.ObjectIdentifier // its parameter, the named curve of RFC 5480
}

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // RFC 8017
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // RFC 5480
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}             // RFC 8410
)

var keyTypes = map[KeyType]*keyType{
	RSA2048:   {"RSA-2048", pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, 256, oidRSA, nil},
	RSA3072:   {"RSA-3072", pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, 384, oidRSA, nil},
	RSA4096:   {"RSA-4096", pkcs11.CKK_RSA, pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, 512, oidRSA, nil},
	P256:      {"P-256", pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, 32, oidEC, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	P384:      {"P-384", pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, 48, oidEC, asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
	P521:      {"P-521", pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, 66, oidEC, asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
	Secp256k1: {"secp256k1", pkcs11.CKK_EC, pkcs11.CKM_EC_KEY_PAIR_GEN, 32, oidEC, asn1.ObjectIdentifier{1, 3, 132, 0, 10}},
	Ed25519:   {"Ed25519", ckkECEdwards, ckmECEdwardsKeyPairGen, 32, oidEd25519, nil},
}

func (k KeyType) String() string {
	if known := keyTypes[k]; known != nil {
		return known.name
	}
	return fmt.Sprintf("KeyType(%d)", int(k))
}

func (k KeyType) known() (*keyType, error) {
	if known := keyTypes[k]; known != nil {
		return known, nil
	}
	return nil, fmt.Errorf("key type %d is unknown", int(k))
}

func (k *keyType) rsa() bool { return k.kind == pkcs11.CKK_RSA }

// ecParams is CKA_EC_PARAMS: the DER of the curve's object identifier.
func (k *keyType) ecParams() []byte {
	oid := k.curve
	if oid == nil {
		oid = k.algorithm
	}
	der, err := asn1.Marshal(oid)
	if err != nil {
		panic(err) // a constant of ours is wrong
	}
	return der
}
