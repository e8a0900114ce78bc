package hsm

import (
	"encoding/asn1"
	"fmt"

	"github.com/miekg/pkcs11"
)

// KeyType is the algorithm and the size of a key pair.
type KeyType int

// Key types. The curves are those of NIST SP 800-186, SEC 2 (secp256k1) and RFC 8032 (Ed25519), the parameter sets
// those of FIPS 204 section 4 and FIPS 203 section 8. ML-DSA and ML-KEM keys are neither imported nor wrapped.
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
	MLKEM512
	MLKEM768
	MLKEM1024
)

// PKCS#11 values that the library has no names for: v3.0 for Ed25519, v3.2 for ML-DSA and ML-KEM, and the working draft of v3.3 for μ.
const (
	ckkECEdwards           = 0x40
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEdDSA               = 0x1057

	ckkMLDSA           = 0x4a
	ckmMLDSAKeyPairGen = 0x1c
	ckmMLDSA           = 0x1d
	ckmMLDSAExternalMu = 0x403c
	ckkMLKEM           = 0x49
	ckmMLKEMKeyPairGen = 0xf
	ckmMLKEM           = 0x17
	ckaDecapsulate     = 0x634
	ckaParameterSet    = 0x61d
	ckpMLDSA44         = 1
	ckpMLDSA65         = 2
	ckpMLDSA87         = 3
	ckpMLKEM512        = 1
	ckpMLKEM768        = 2
	ckpMLKEM1024       = 3
)

// keyType is what there is to know of a KeyType.
type keyType struct {
	name      string
	kind      uint                  // CKA_KEY_TYPE
	generate  uint                  // mechanism
	size      int                   // bytes of the modulus, of the field, of the public key
	algorithm asn1.ObjectIdentifier // AlgorithmIdentifier's
	curve     asn1.ObjectIdentifier // its parameter, the named curve of RFC 5480

	parameterSet uint // CKA_PARAMETER_SET of ML-DSA and ML-KEM, 0 for the others
	output       int  // bytes of a signature of ML-DSA, of a ciphertext of ML-KEM
}

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // RFC 8017
	oidEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // RFC 5480
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}             // RFC 8410

	oidMLDSA44 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17} // RFC 9881
	oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidMLDSA87 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}

	oidMLKEM512  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 1} // RFC 9935
	oidMLKEM768  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 2}
	oidMLKEM1024 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 3}
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
	MLDSA44:   {name: "ML-DSA-44", kind: ckkMLDSA, generate: ckmMLDSAKeyPairGen, size: 1312, algorithm: oidMLDSA44, parameterSet: ckpMLDSA44, output: 2420},
	MLDSA65:   {name: "ML-DSA-65", kind: ckkMLDSA, generate: ckmMLDSAKeyPairGen, size: 1952, algorithm: oidMLDSA65, parameterSet: ckpMLDSA65, output: 3309},
	MLDSA87:   {name: "ML-DSA-87", kind: ckkMLDSA, generate: ckmMLDSAKeyPairGen, size: 2592, algorithm: oidMLDSA87, parameterSet: ckpMLDSA87, output: 4627},
	MLKEM512:  {name: "ML-KEM-512", kind: ckkMLKEM, generate: ckmMLKEMKeyPairGen, size: 800, algorithm: oidMLKEM512, parameterSet: ckpMLKEM512, output: 768},
	MLKEM768:  {name: "ML-KEM-768", kind: ckkMLKEM, generate: ckmMLKEMKeyPairGen, size: 1184, algorithm: oidMLKEM768, parameterSet: ckpMLKEM768, output: 1088},
	MLKEM1024: {name: "ML-KEM-1024", kind: ckkMLKEM, generate: ckmMLKEMKeyPairGen, size: 1568, algorithm: oidMLKEM1024, parameterSet: ckpMLKEM1024, output: 1568},
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
func (k *keyType) mlKEM() bool { return k.kind == ckkMLKEM }

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
