package hsm

import (
	"encoding/asn1"
	"fmt"

	"github.com/miekg/pkcs11"
)

// KeyType is the algorithm and the size of a key pair.
type KeyType int

// Key types. The curves are those of NIST SP 800-186, SEC 2 (secp256k1) and RFC 8032 (Ed25519), the parameter sets of ML-DSA
// those of FIPS 204 section 4. ML-DSA keys sign; they are neither imported nor wrapped.
const (
	RSA2048 KeyType = iota + 1
	RSA3072
	RSA4096
	P256
	P384
	P521
	Secp256k1
	Ed25519
	MLDSA44
	MLDSA65
	MLDSA87
)

// PKCS#11 values that the library has no names for: v3.0 for Ed25519, v3.2 for ML-DSA, and the working draft of v3.3 for its μ.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057

	ckkMLDSA           = 0x4a
	ckmMLDSAKeyPairGen = 0x1c
	ckmMLDSA           = 0x1d
	ckmMLDSAExternalMu = 0x403c
	ckaParameterSet    = 0x61d
	ckpMLDSA44         = 1
	ckpMLDSA65         = 2
	ckpMLDSA87         = 3
)

// keyType is what there is to know of a KeyType.
type keyType struct {
	name      string
	kind      uint                  // CKA_KEY_TYPE
	generate  uint                  // mechanism
	size      int                   // bytes of the modulus, of the field, of the public key
	algorithm asn1.ObjectIdentifier // AlgorithmIdentifier's
	curve     asn1.ObjectIdentifier // its parameter, the named curve of RFC 5480

	// Of ML-DSA only.
	parameterSet uint // CKA_PARAMETER_SET
	signature    int  // bytes
}

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // RFC 8017
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // RFC 5480
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}             // RFC 8410

	oidMLDSA44 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17} // RFC 9881
	oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidMLDSA87 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}
)

var keyTypes = map[KeyType]*keyType{
	RSA2048:   {name: "RSA-2048", kind: pkcs11.CKK_RSA, generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, size: 256, algorithm: oidRSA},
	RSA3072:   {name: "RSA-3072", kind: pkcs11.CKK_RSA, generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, size: 384, algorithm: oidRSA},
	RSA4096:   {name: "RSA-4096", kind: pkcs11.CKK_RSA, generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, size: 512, algorithm: oidRSA},
	P256:      {name: "P-256", kind: pkcs11.CKK_EC, generate: pkcs11.CKM_EC_KEY_PAIR_GEN, size: 32, algorithm: oidEC, curve: asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	P384:      {name: "P-384", kind: pkcs11.CKK_EC, generate: pkcs11.CKM_EC_KEY_PAIR_GEN, size: 48, algorithm: oidEC, curve: asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
	P521:      {name: "P-521", kind: pkcs11.CKK_EC, generate: pkcs11.CKM_EC_KEY_PAIR_GEN, size: 66, algorithm: oidEC, curve: asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
	Secp256k1: {name: "secp256k1", kind: pkcs11.CKK_EC, generate: pkcs11.CKM_EC_KEY_PAIR_GEN, size: 32, algorithm: oidEC, curve: asn1.ObjectIdentifier{1, 3, 132, 0, 10}},
	Ed25519:   {name: "Ed25519", kind: ckkECEdwards, generate: ckmECEdwardsKeyPairGen, size: 32, algorithm: oidEd25519},
	MLDSA44:   {name: "ML-DSA-44", kind: ckkMLDSA, generate: ckmMLDSAKeyPairGen, size: 1312, algorithm: oidMLDSA44, parameterSet: ckpMLDSA44, signature: 2420},
	MLDSA65:   {name: "ML-DSA-65", kind: ckkMLDSA, generate: ckmMLDSAKeyPairGen, size: 1952, algorithm: oidMLDSA65, parameterSet: ckpMLDSA65, signature: 3309},
	MLDSA87:   {name: "ML-DSA-87", kind: ckkMLDSA, generate: ckmMLDSAKeyPairGen, size: 2592, algorithm: oidMLDSA87, parameterSet: ckpMLDSA87, signature: 4627},
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

func (k *keyType) rsa() bool   { return k.kind == pkcs11.CKK_RSA }
func (k *keyType) mlDSA() bool { return k.kind == ckkMLDSA }

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
