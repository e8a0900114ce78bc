package service

import (
	"crypto"
	"slices"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
)

// KeyUsageType of a key (API Reference, CreateKey, KeyUsage).
const (
	usageEncryptDecrypt    = "ENCRYPT_DECRYPT"
	usageSignVerify        = "SIGN_VERIFY"
	usageGenerateVerifyMAC = "GENERATE_VERIFY_MAC"
	usageKeyAgreement      = "KEY_AGREEMENT"
	usageEncapsulate       = "ENCAPSULATE_DECAPSULATE"
)

// keySpec is what a KeySpec can do (AWS page "Key spec reference").
type keySpec struct {
	// algorithms are those of each usage that the spec can have. SM2 has some too, although no
	// supported HSM has it, so that its requests are validated as by AWS before they are refused.
	algorithms map[string][]string
	pair       hsm.KeyType // of asymmetric specs, zero for the others
	mac        hsm.Purpose // of HMAC specs, zero for the others

	generatedOnly bool // key material is not imported (AWS page "Importing key material")
}

var (
	rsaUsages = map[string][]string{
		usageEncryptDecrypt: {"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"},
		usageSignVerify: {"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
			"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"},
	}
	ed25519Usages = map[string][]string{usageSignVerify: {"ED25519_SHA_512", "ED25519_PH_SHA_512"}}
	mlKEMUsages   = map[string][]string{usageEncapsulate: {"ML_KEM"}}
	mlDSAUsages   = map[string][]string{usageSignVerify: {"ML_DSA_SHAKE_256"}}
)

func ecUsages(signing string) map[string][]string {
	return map[string][]string{usageSignVerify: {signing}, usageKeyAgreement: {agreementECDH}}
}

func macUsages(algorithm string) map[string][]string {
	return map[string][]string{usageGenerateVerifyMAC: {algorithm}}
}

// keySpecs has every KeySpec of AWS KMS.
var keySpecs = map[string]keySpec{
	specSymmetric:           {algorithms: map[string][]string{usageEncryptDecrypt: {specSymmetric}}},
	"RSA_2048":              {algorithms: rsaUsages, pair: hsm.RSA2048},
	"RSA_3072":              {algorithms: rsaUsages, pair: hsm.RSA3072},
	"RSA_4096":              {algorithms: rsaUsages, pair: hsm.RSA4096},
	"ECC_NIST_P256":         {algorithms: ecUsages("ECDSA_SHA_256"), pair: hsm.P256},
	"ECC_NIST_P384":         {algorithms: ecUsages("ECDSA_SHA_384"), pair: hsm.P384},
	"ECC_NIST_P521":         {algorithms: ecUsages("ECDSA_SHA_512"), pair: hsm.P521},
	"ECC_SECG_P256K1":       {algorithms: map[string][]string{usageSignVerify: {"ECDSA_SHA_256"}}, pair: hsm.Secp256k1},
	"ECC_NIST_EDWARDS25519": {algorithms: ed25519Usages, pair: hsm.Ed25519},
	"HMAC_224":              {algorithms: macUsages("HMAC_SHA_224"), mac: hsm.MAC224},
	"HMAC_256":              {algorithms: macUsages("HMAC_SHA_256"), mac: hsm.MAC256},
	"HMAC_384":              {algorithms: macUsages("HMAC_SHA_384"), mac: hsm.MAC384},
	"HMAC_512":              {algorithms: macUsages("HMAC_SHA_512"), mac: hsm.MAC512},
	"ML_DSA_44":             {algorithms: mlDSAUsages, pair: hsm.MLDSA44, generatedOnly: true},
	"ML_DSA_65":             {algorithms: mlDSAUsages, pair: hsm.MLDSA65, generatedOnly: true},
	"ML_DSA_87":             {algorithms: mlDSAUsages, pair: hsm.MLDSA87, generatedOnly: true},
	"ML_KEM_512":            {algorithms: mlKEMUsages, pair: hsm.MLKEM512, generatedOnly: true},
	"ML_KEM_768":            {algorithms: mlKEMUsages, pair: hsm.MLKEM768, generatedOnly: true},
	"ML_KEM_1024":           {algorithms: mlKEMUsages, pair: hsm.MLKEM1024, generatedOnly: true},
	"SM2": {algorithms: map[string][]string{usageEncryptDecrypt: {"SM2PKE"}, usageSignVerify: {"SM2DSA"},
		usageKeyAgreement: {agreementECDH}}},
}

// algorithms are those that a key can be used with.
func (k *Key) algorithms() []string { return keySpecs[k.Spec].algorithms[k.Usage] }

// kind is symmetric, asymmetric or HMAC.
func (k *Key) kind() string {
	switch {
	case k.symmetric():
		return "symmetric encryption"
	case keySpecs[k.Spec].mac != 0:
		return "HMAC"
	}
	return "asymmetric"
}

func (k *Key) symmetric() bool { return k.Spec == specSymmetric }

// checkAlgorithm refuses an algorithm that the key does not have.
func (s *Service) checkAlgorithm(algorithm string, k *Key) error {
	if slices.Contains(k.algorithms(), algorithm) {
		return nil
	}
	return apierror.New(apierror.InvalidKeyUsage, "Algorithm %s is incompatible with key spec %s.", algorithm, k.Spec)
}

// macHashes are the hashes by MacAlgorithmSpec.
var macHashes = map[string]crypto.Hash{
	"HMAC_SHA_224": crypto.SHA224,
	"HMAC_SHA_256": crypto.SHA256,
	"HMAC_SHA_384": crypto.SHA384,
	"HMAC_SHA_512": crypto.SHA512,
}

// oaepHashes are the hashes by EncryptionAlgorithmSpec of RSA.
var oaepHashes = map[string]crypto.Hash{"RSAES_OAEP_SHA_1": crypto.SHA1, "RSAES_OAEP_SHA_256": crypto.SHA256}

// signingSchemes are the HSM's schemes by SigningAlgorithmSpec.
var signingSchemes = map[string]hsm.Scheme{
	"RSASSA_PKCS1_V1_5_SHA_256": {Algorithm: hsm.PKCS1v15, Hash: crypto.SHA256},
	"RSASSA_PKCS1_V1_5_SHA_384": {Algorithm: hsm.PKCS1v15, Hash: crypto.SHA384},
	"RSASSA_PKCS1_V1_5_SHA_512": {Algorithm: hsm.PKCS1v15, Hash: crypto.SHA512},
	"RSASSA_PSS_SHA_256":        {Algorithm: hsm.PSS, Hash: crypto.SHA256},
	"RSASSA_PSS_SHA_384":        {Algorithm: hsm.PSS, Hash: crypto.SHA384},
	"RSASSA_PSS_SHA_512":        {Algorithm: hsm.PSS, Hash: crypto.SHA512},
	"ECDSA_SHA_256":             {Algorithm: hsm.ECDSA, Hash: crypto.SHA256},
	"ECDSA_SHA_384":             {Algorithm: hsm.ECDSA, Hash: crypto.SHA384},
	"ECDSA_SHA_512":             {Algorithm: hsm.ECDSA, Hash: crypto.SHA512},
	"ED25519_SHA_512":           {Algorithm: hsm.PureEdDSA},
	"ED25519_PH_SHA_512":        {Algorithm: hsm.HashEdDSA, Hash: crypto.SHA512},
	"ML_DSA_SHAKE_256":          {Algorithm: hsm.MLDSA},
}

// rsaSizes are the sizes of the modulus in bytes.
var rsaSizes = map[string]int{"RSA_2048": 256, "RSA_3072": 384, "RSA_4096": 512}
