package transport_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestMessages has messages that were recorded from AWS, word for word; others are in the tests of their operations.
func TestMessages(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	other, _ := s.newKey(t)
	signing := s.makeKey(t, kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: "SIGN_VERIFY"})
	mac := s.makeKey(t, kms.CreateKeyInput{KeySpec: "HMAC_224", KeyUsage: "GENERATE_VERIFY_MAC"})
	external := s.makeKey(t, kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	sealed := s.sealedBy(t, &id)
	for _, test := range []struct {
		op            string
		in            any
		code, message string
	}{
		{"GenerateRandom", &kms.GenerateRandomInput{}, "ValidationException", "NumberOfBytes is required."},
		{"GenerateRandom", &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(0)}, "ValidationException",
			"1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"GenerateRandom", &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1025)}, "ValidationException",
			"1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024"},
		{"Encrypt", &kms.EncryptInput{KeyId: &id, Plaintext: make([]byte, 4097)}, "ValidationException",
			"1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		{"CreateKey", &kms.CreateKeyInput{KeyUsage: "RANDOM"}, "ValidationException",
			"1 validation error detected: Value 'RANDOM' at 'keyUsage' failed to satisfy constraint: Member must satisfy enum value set: " +
				"[SIGN_VERIFY, ENCRYPT_DECRYPT, GENERATE_VERIFY_MAC, KEY_AGREEMENT, ENCAPSULATE_DECAPSULATE]"},
		{"GenerateDataKey", &kms.GenerateDataKeyInput{KeyId: &id}, "ValidationException",
			"Please specify either number of bytes or key spec."},
		{"Encrypt", &kms.EncryptInput{KeyId: signing.KeyId, Plaintext: []byte("x")}, "InvalidKeyUsageException",
			*signing.Arn + " key usage is SIGN_VERIFY which is not valid for Encrypt."},
		{"GenerateMac", &kms.GenerateMacInput{KeyId: mac.KeyId, Message: []byte("x"), MacAlgorithm: "HMAC_SHA_256"},
			"InvalidKeyUsageException",
			"Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224."},
		{"Decrypt", &kms.DecryptInput{KeyId: &other, CiphertextBlob: sealed}, "IncorrectKeyException",
			"The key ID in the request does not identify a CMK that can perform this operation."},
		{"Encrypt", &kms.EncryptInput{KeyId: external.KeyId, Plaintext: []byte("x")}, "KMSInvalidStateException",
			*external.Arn + " is pending import."},
		{"ImportKeyMaterial", &kms.ImportKeyMaterialInput{KeyId: &id, ImportToken: []byte("x"),
			EncryptedKeyMaterial: []byte("x")}, "UnsupportedOperationException",
			arn + " origin is AWS_KMS which is not valid for this operation."},
		{"ReplicateKey", &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String(otherRegion)},
			"UnsupportedOperationException", arn + " is not a multi-region primary key."},
		{"DisableKey", &kms.DisableKeyInput{KeyId: aws.String("arn:aws:kms:us-east-1:" + account + ":alias/a")},
			"InvalidArnException",
			"Key Aliases are not supported for this operation"},
		{"Decrypt", &kms.DecryptInput{CiphertextBlob: []byte("nonsense")}, "InvalidCiphertextException", ""},
		// A dry run may leave the ciphertext out; nothing else may.
		{"Decrypt", &kms.DecryptInput{KeyId: &id, DryRun: aws.Bool(true),
			DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}}, "DryRunOperationException",
			"The request would have succeeded, but the DryRun option is set."},
		{"ReEncrypt", &kms.ReEncryptInput{SourceKeyId: &id, DestinationKeyId: &other, DryRun: aws.Bool(true),
			DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}},
			"DryRunOperationException", "The request would have succeeded, but the DryRun option is set."},
		{"Decrypt", &kms.DecryptInput{KeyId: &id, DryRunModifiers: []types.DryRunModifierType{"IGNORE_CIPHERTEXT"}},
			"ValidationException", "*"},
		{"Decrypt", &kms.DecryptInput{KeyId: &id, DryRun: aws.Bool(true)}, "ValidationException",
			"1 validation error detected: Value null at 'ciphertextBlob' failed to satisfy constraint: Member must not be null"},
	} {
		t.Run(test.op+" "+test.code, func(t *testing.T) {
			wantError(t, invoke(t.Context(), s.Client, test.op, test.in), test.code, test.message)
		})
	}
}
