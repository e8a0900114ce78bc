package keyobject

import (
	"encoding/asn1"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Type is the algorithm and the size of a key pair.
type Type int

// Key types. The curves are those of NIST SP 800-186, SEC 2 (secp256k1) and RFC 8032 (Ed25519), the
// parameter sets those of FIPS 204 section 4 and FIPS 203 section 8. ML-DSA and ML-KEM keys are
// neither imported nor wrapped.
const (
	RSA2048 Type = iota + 1
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

// PKCS#11 values that the library has no names for: v3.0 for Ed25519, v3.2 for ML-DSA and ML-KEM,
// and the working draft of v3.3 for μ.
const (
	CKKECEdwards           = 0x40
	CKMECEdwardsKeyPairGen = 0x1055
	CKMEdDSA               = 0x1057

	CKKMLDSA           = 0x4a
	CKMMLDSAKeyPairGen = 0x1c
	CKMMLDSA           = 0x1d
	CKMMLDSAExternalMu = 0x403c
	CKKMLKEM           = 0x49
	CKMMLKEMKeyPairGen = 0xf
	CKMMLKEM           = 0x17
	ckaDecapsulate     = 0x634
	ckaParameterSet    = 0x61d
	ckpMLDSA44         = 1
	ckpMLDSA65         = 2
	ckpMLDSA87         = 3
	ckpMLKEM512        = 1
	ckpMLKEM768        = 2
	ckpMLKEM1024       = 3
)

// TypeInfo describes a Type.
type TypeInfo struct {
	Name      string
	Kind      uint                  // CKA_KEY_TYPE
	Generate  uint                  // mechanism
	Size      int                   // bytes of the modulus, of the field, of the public key
	Algorithm asn1.ObjectIdentifier // AlgorithmIdentifier's
	Curve     asn1.ObjectIdentifier // its parameter, the named curve of RFC 5480

	ParameterSet uint // CKA_PARAMETER_SET of ML-DSA and ML-KEM, 0 for the others
	Output       int  // bytes of a signature of ML-DSA, of a ciphertext of ML-KEM
}

var (
	oidRSA     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // RFC 8017
	OIDEC      = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // RFC 5480
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}             // RFC 8410

	oidMLDSA44 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 17} // RFC 9881
	oidMLDSA65 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 18}
	oidMLDSA87 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 19}

	oidMLKEM512  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 1} // RFC 9935
	oidMLKEM768  = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 2}
	oidMLKEM1024 = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 4, 3}
)

var keyTypes = map[Type]*TypeInfo{
	RSA2048: {
		Name: "RSA-2048", Kind: pkcs11.CKK_RSA, Generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, Size: 256,
		Algorithm: oidRSA,
	},
	RSA3072: {
		Name: "RSA-3072", Kind: pkcs11.CKK_RSA, Generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, Size: 384,
		Algorithm: oidRSA,
	},
	RSA4096: {
		Name: "RSA-4096", Kind: pkcs11.CKK_RSA, Generate: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN, Size: 512,
		Algorithm: oidRSA,
	},
	P256: {
		Name: "P-256", Kind: pkcs11.CKK_EC, Generate: pkcs11.CKM_EC_KEY_PAIR_GEN, Size: 32, Algorithm: OIDEC,
		Curve: asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7},
	},
	P384: {
		Name: "P-384", Kind: pkcs11.CKK_EC, Generate: pkcs11.CKM_EC_KEY_PAIR_GEN, Size: 48, Algorithm: OIDEC,
		Curve: asn1.ObjectIdentifier{1, 3, 132, 0, 34},
	},
	P521: {
		Name: "P-521", Kind: pkcs11.CKK_EC, Generate: pkcs11.CKM_EC_KEY_PAIR_GEN, Size: 66, Algorithm: OIDEC,
		Curve: asn1.ObjectIdentifier{1, 3, 132, 0, 35},
	},
	Secp256k1: {
		Name: "secp256k1", Kind: pkcs11.CKK_EC, Generate: pkcs11.CKM_EC_KEY_PAIR_GEN, Size: 32,
		Algorithm: OIDEC, Curve: asn1.ObjectIdentifier{1, 3, 132, 0, 10},
	},
	Ed25519: {Name: "Ed25519", Kind: CKKECEdwards, Generate: CKMECEdwardsKeyPairGen, Size: 32, Algorithm: oidEd25519},
	MLDSA44: {
		Name: "ML-DSA-44", Kind: CKKMLDSA, Generate: CKMMLDSAKeyPairGen, Size: 1312, Algorithm: oidMLDSA44,
		ParameterSet: ckpMLDSA44, Output: 2420,
	},
	MLDSA65: {
		Name: "ML-DSA-65", Kind: CKKMLDSA, Generate: CKMMLDSAKeyPairGen, Size: 1952, Algorithm: oidMLDSA65,
		ParameterSet: ckpMLDSA65, Output: 3309,
	},
	MLDSA87: {
		Name: "ML-DSA-87", Kind: CKKMLDSA, Generate: CKMMLDSAKeyPairGen, Size: 2592, Algorithm: oidMLDSA87,
		ParameterSet: ckpMLDSA87, Output: 4627,
	},
	MLKEM512: {
		Name: "ML-KEM-512", Kind: CKKMLKEM, Generate: CKMMLKEMKeyPairGen, Size: 800, Algorithm: oidMLKEM512,
		ParameterSet: ckpMLKEM512, Output: 768,
	},
	MLKEM768: {
		Name: "ML-KEM-768", Kind: CKKMLKEM, Generate: CKMMLKEMKeyPairGen, Size: 1184, Algorithm: oidMLKEM768,
		ParameterSet: ckpMLKEM768, Output: 1088,
	},
	MLKEM1024: {
		Name: "ML-KEM-1024", Kind: CKKMLKEM, Generate: CKMMLKEMKeyPairGen, Size: 1568,
		Algorithm: oidMLKEM1024, ParameterSet: ckpMLKEM1024, Output: 1568,
	},
}

func (k Type) String() string {
	if known := keyTypes[k]; known != nil {
		return known.Name
	}
	return fmt.Sprintf("KeyType(%d)", int(k))
}

// Info describes the type. It is nil for an unknown one.
func (k Type) Info() *TypeInfo { return keyTypes[k] }

// Known is Info, with an error for an unknown type.
func (k Type) Known() (*TypeInfo, error) {
	if known := keyTypes[k]; known != nil {
		return known, nil
	}
	return nil, fmt.Errorf("key type %d is unknown", int(k))
}

// RSA reports whether the keys are RSA keys.
func (k *TypeInfo) RSA() bool { return k.Kind == pkcs11.CKK_RSA }

// MLDSA reports whether the keys are ML-DSA keys.
func (k *TypeInfo) MLDSA() bool { return k.Kind == CKKMLDSA }

// MLKEM reports whether the keys are ML-KEM keys.
func (k *TypeInfo) MLKEM() bool { return k.Kind == CKKMLKEM }

// ECParams is CKA_EC_PARAMS: the DER of the curve's object identifier.
func (k *TypeInfo) ECParams() []byte {
	oid := k.Curve
	if oid == nil {
		oid = k.Algorithm
	}
	der, err := asn1.Marshal(oid)
	if err != nil {
		panic(err) // a constant of ours is wrong
	}
	return der
}
