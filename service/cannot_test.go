package service

import (
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/hsm/selftest"
)

// TestCannot: each operation learns of the failed self-tests that concern it, and of no others.
func TestCannot(t *testing.T) {
	var checks []selftest.Check // all fail but one
	for _, name := range []string{selftest.CheckRSA, selftest.CheckPSSSHA256} {
		checks = append(checks, selftest.Check{Name: name})
	}
	s := &Service{can: CapabilitiesOf(checks)}
	for _, test := range []struct {
		operation string
		values    []string
		want      []string // beginnings
	}{
		{"Sign", []string{"RSASSA_PSS_SHA_256", "ED25519_PH_SHA_512", "EXTERNAL_MU", "RAW"},
			[]string{"ECC_NIST_P256 for SIGN_VERIFY: ", "ECC_NIST_P384 for SIGN_VERIFY: ",
				"ECC_NIST_P521 for SIGN_VERIFY: ", "ED25519_PH_SHA_512: ", "EXTERNAL_MU: "}},
		{"CreateKey", []string{"RSA_2048", "HMAC_256", "ECC_NIST_P256", "EXTERNAL", "SIGN_VERIFY"},
			[]string{"ECC_NIST_P256 for KEY_AGREEMENT: ", "ECC_NIST_P256 for SIGN_VERIFY: ", "HMAC_256: "}},
		{"Encapsulate", []string{"ML_KEM"}, []string{"ML_KEM_1024: ", "ML_KEM_512: ", "ML_KEM_768: "}},
		{"GenerateDataKeyWithoutPlaintext", []string{"AES_256", "AES_128"},
			[]string{"Keeping data keys of 16 bytes to itself: ", "Keeping data keys of 32 bytes to itself: ",
				"Keeping data keys of 64 bytes to itself: "}},
		{"GenerateDataKey", []string{"AES_256", "AES_128"}, nil},
		{"ListKeys", nil, nil},
	} {
		got := s.Cannot(OperationNamed(test.operation), test.values)
		same := slices.EqualFunc(got, test.want, func(text, beginning string) bool {
			return strings.HasPrefix(text, beginning+"the token fails the self-test ")
		})
		if !same {
			t.Errorf("%s: %q", test.operation, got)
		}
	}
	got := s.Cannot(OperationNamed("GetParametersForImport"), []string{"RSAES_OAEP_SHA_256"})
	if !slices.Contains(got, "HMAC_256: its key material can't be imported.") {
		t.Errorf("GetParametersForImport: %q", got)
	}
}
