package service

import (
	"errors"
	"strings"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service/apierror"
)

// Capabilities is what the token can do, as its self-test found.
type Capabilities struct {
	// WrapDataKeys tells for the most common sizes in bytes whether the token can generate and wrap
	// data keys. Where it can't, GenerateDataKeyWithoutPlaintext makes ciphertexts of form 1, whose
	// data keys pass through this process. Other sizes are tried when they are requested.
	WrapDataKeys map[int]bool
	// WrapPairs tells whether the token can generate and wrap private keys.
	WrapPairs map[hsm.KeyType]bool
	// KeepWrapped tells whether keys can be kept wrapped outside the token (ResidencyWrapped).
	KeepWrapped bool
	// Missing has the names in needs that the token can't do, with the reasons.
	Missing map[string]string
	// NoImport has the pairs of KeySpec and WrappingAlgorithm whose material can't be imported,
	// with the reasons.
	NoImport map[[2]string]string
}

// DataKeyChecks are the self-tests of the sizes in WrapDataKeys.
var DataKeyChecks = map[int]string{
	16: selftest.CheckDataKey16,
	32: selftest.CheckDataKey32,
	64: selftest.CheckDataKey64,
}

// needs are the self-tests that must pass for a KeySpec (followed by a KeyUsage where that makes a
// difference), an algorithm or a MessageType.
var needs = map[string][]string{
	"RSA_2048":                    {selftest.CheckRSA},
	"RSA_3072":                    {selftest.CheckRSA},
	"RSA_4096":                    {selftest.CheckRSA},
	"RSASSA_PKCS1_V1_5_SHA_256":   {selftest.CheckPKCS1v15SHA256},
	"RSASSA_PKCS1_V1_5_SHA_384":   {selftest.CheckPKCS1v15SHA384},
	"RSASSA_PKCS1_V1_5_SHA_512":   {selftest.CheckPKCS1v15SHA512},
	"RSASSA_PSS_SHA_256":          {selftest.CheckPSSSHA256},
	"RSASSA_PSS_SHA_384":          {selftest.CheckPSSSHA384},
	"RSASSA_PSS_SHA_512":          {selftest.CheckPSSSHA512},
	"RSAES_OAEP_SHA_1":            {selftest.CheckOAEPSHA1},
	"RSAES_OAEP_SHA_256":          {selftest.CheckOAEPSHA256},
	"ECC_NIST_P256/SIGN_VERIFY":   {selftest.CheckECDSAP256},
	"ECC_NIST_P256/KEY_AGREEMENT": {selftest.CheckECDHP256},
	"ECC_NIST_P384/SIGN_VERIFY":   {selftest.CheckECDSAP384},
	"ECC_NIST_P384/KEY_AGREEMENT": {selftest.CheckECDHP384},
	"ECC_NIST_P521/SIGN_VERIFY":   {selftest.CheckECDSAP521},
	"ECC_NIST_P521/KEY_AGREEMENT": {selftest.CheckECDHP521},
	"ECC_SECG_P256K1":             {selftest.CheckECDSASecp256k1},
	"ECC_NIST_EDWARDS25519":       {selftest.CheckEd25519},
	"ED25519_PH_SHA_512":          {selftest.CheckEd25519ph},
	"HMAC_224":                    {selftest.CheckMAC224},
	"HMAC_256":                    {selftest.CheckMAC256},
	"HMAC_384":                    {selftest.CheckMAC384},
	"HMAC_512":                    {selftest.CheckMAC512},
	"ML_DSA_44":                   {selftest.CheckMLDSA44},
	"ML_DSA_65":                   {selftest.CheckMLDSA65},
	"ML_DSA_87":                   {selftest.CheckMLDSA87},
	"SM2":                         {selftest.CheckSM2},
	messageExternalMu:             {selftest.CheckMLDSAMu},
	"ML_KEM_512":                  {selftest.CheckMLKEM512},
	"ML_KEM_768":                  {selftest.CheckMLKEM768},
	"ML_KEM_1024":                 {selftest.CheckMLKEM1024},
}

// wrapChecks are the self-tests of wrapping private keys.
var wrapChecks = map[hsm.KeyType]string{
	hsm.RSA2048:   selftest.CheckWrappedRSA,
	hsm.RSA3072:   selftest.CheckWrappedRSA,
	hsm.RSA4096:   selftest.CheckWrappedRSA,
	hsm.P256:      selftest.CheckWrappedP256,
	hsm.P384:      selftest.CheckWrappedP384,
	hsm.P521:      selftest.CheckWrappedP521,
	hsm.Secp256k1: selftest.CheckWrappedSecp256k1,
	hsm.Ed25519:   selftest.CheckWrappedEd25519,
}

// CapabilitiesOf returns the capabilities that a self-test has found. A check that was not made
// counts as failed.
func CapabilitiesOf(checks []selftest.Check) Capabilities {
	failed := func(name string) error {
		for _, c := range checks {
			if c.Name == name {
				return c.Err
			}
		}
		return errors.New("it was not tested")
	}
	can := Capabilities{KeepWrapped: failed(selftest.CheckInside) == nil, WrapDataKeys: map[int]bool{},
		WrapPairs: map[hsm.KeyType]bool{}, Missing: map[string]string{}, NoImport: map[[2]string]string{}}
	for size, check := range DataKeyChecks {
		can.WrapDataKeys[size] = failed(check) == nil
	}
	for t, check := range wrapChecks {
		can.WrapPairs[t] = failed(check) == nil
	}
	for name, tests := range needs {
		for _, check := range tests {
			if err := failed(check); err != nil {
				can.Missing[name] = failsTest(check)
			}
		}
	}
	for spec := range keySpecs {
		for algorithm := range importAlgorithms {
			for _, check := range importChecks(spec, algorithm) {
				if failed(check) != nil {
					can.NoImport[[2]string{spec, algorithm}] = failsTest(check)
				}
			}
		}
	}
	return can
}

func failsTest(check string) string { return "the token fails the self-test " + check }

// importChecks are the self-tests that must pass for the import of a key's material.
func importChecks(spec, algorithm string) []string {
	sha256 := strings.HasSuffix(algorithm, "SHA_256")
	switch k := keySpecs[spec]; {
	case rsaSizes[spec] != 0:
		return []string{selftest.CheckImportRSA}
	case k.pair != 0:
		checks := []string{selftest.CheckImportCurve}
		if k.pair == hsm.Ed25519 {
			checks = []string{selftest.CheckImportEd25519}
		}
		if !isOAEP(importAlgorithms[algorithm]) { // the material is under AES-KWP
			checks = append(checks, selftest.CheckKWP)
		}
		return checks
	case k.mac != 0 && sha256:
		return []string{selftest.CheckImportMACSHA256}
	case k.mac != 0:
		return []string{selftest.CheckImportMACSHA1}
	case sha256:
		return []string{selftest.CheckImportAESSHA256}
	}
	return []string{selftest.CheckImportAESSHA1}
}

// canImport refuses a KeySpec whose material the token can't import with any of AWS's algorithms
// for it or, if algorithm is not empty, with that one.
func (s *Service) canImport(spec, algorithm string) error {
	reason := ""
	for a := range importAlgorithms {
		if !wraps(a, spec) || algorithm != "" && a != algorithm {
			continue
		}
		why, refused := s.can.NoImport[[2]string{spec, a}]
		if !refused {
			return nil
		}
		reason = why
	}
	if reason == "" {
		return nil // no algorithm fits the spec, whatever the token can do
	}
	return apierror.New(apierror.UnsupportedOperation, msgTokenCannot,
		"Import of key material of KeySpec "+spec, reason)
}
