package transport_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/miekg/pkcs11"
)

// TestFullToken: every operation that makes a token object says that the token has no room for it.
func TestFullToken(t *testing.T) {
	s := newServer(t, options{faults: true})
	id, _ := s.newKey(t)
	external := s.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal}).KeyId
	imported := s.importInput(t, s.Client, *external, "RSAES_OAEP_SHA_256", "RSA_2048", randomBytes(32))
	s.Faults.LimitObjects(0, pkcs11.CKR_HOST_MEMORY)
	for op, in := range map[string]any{
		"CreateKey": &kms.CreateKeyInput{},
		"GetParametersForImport": &kms.GetParametersForImportInput{KeyId: external,
			WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"},
		"ImportKeyMaterial": imported,
		"RotateKeyOnDemand": &kms.RotateKeyOnDemandInput{KeyId: &id},
	} {
		t.Run(op, func(t *testing.T) {
			wantError(t, invoke(t.Context(), s.Client, op, in), "LimitExceededException",
				"The token has no room for another key. Delete keys, or give the token more room.")
		})
	}
	ok(s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: types.DataKeySpecAes256}))(t)
	s.Faults.LimitObjects(-1)
	ok(s.ImportKeyMaterial(t.Context(), imported))(t)
}

// TestUnsupportedByTheToken: what the token refuses although its self-test has passed is no fault
// that a client may retry.
func TestUnsupportedByTheToken(t *testing.T) {
	f := newFixture(t)
	for op, function := range map[string]string{
		"CreateKey":              "C_GenerateKey",
		"Decapsulate":            "C_DecapsulateKey",
		"Decrypt":                "C_DecryptInit",
		"DeriveSharedSecret":     "C_DeriveKey",
		"Encrypt":                "C_EncryptInit",
		"GenerateDataKey":        "C_EncryptInit",
		"GenerateMac":            "C_SignInit",
		"GetParametersForImport": "C_GenerateKeyPair",
		"ImportKeyMaterial":      "C_CreateObject",
		"ReEncrypt":              "C_DecryptInit",
		"Sign":                   "C_SignInit",
		"VerifyMac":              "C_SignInit",
	} {
		t.Run(op, func(t *testing.T) {
			in := f.request(op)
			f.Faults.Fail(function, pkcs11.CKR_MECHANISM_INVALID)
			defer f.Faults.Clear()
			wantError(t, invoke(t.Context(), f.Client, op, in), "UnsupportedOperationException",
				"The operation is not supported: the token refused it.")
		})
	}
}
