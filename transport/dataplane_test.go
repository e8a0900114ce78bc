package transport_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestDataPlaneNeedsTokenOnly: once a key and its alias are known, requests of the data plane ask
// neither the database, which is closed here, nor the token's C_FindObjects.
func TestDataPlaneNeedsTokenOnly(t *testing.T) {
	s := newServer(t, options{faults: true})
	id, arn := s.newKey(t)
	if _, err := s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/a"),
		TargetKeyId: &id}); err != nil {
		t.Fatal(err)
	}
	signing, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeSignVerify})
	if err != nil {
		t.Fatal(err)
	}
	mac, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecHmac256,
		KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	if err != nil {
		t.Fatal(err)
	}
	requests := func(name *string) {
		t.Helper()
		sealed, err := s.Encrypt(t.Context(),
			&kms.EncryptInput{KeyId: name, Plaintext: []byte("x"), EncryptionContext: blue})
		if err != nil {
			t.Fatal(err)
		}
		hidden, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: name, KeySpec: types.DataKeySpecAes256,
				EncryptionContext: blue})
		if err != nil {
			t.Fatal(err)
		}
		for what, f := range map[string]func() error{
			"Decrypt": func() error {
				return second(s.Decrypt(t.Context(),
					&kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: blue}))
			},
			"Decrypt of form 2": func() error {
				return second(s.Decrypt(t.Context(),
					&kms.DecryptInput{CiphertextBlob: hidden.CiphertextBlob, EncryptionContext: blue}))
			},
			"GenerateDataKey": func() error {
				return second(s.GenerateDataKey(t.Context(),
					&kms.GenerateDataKeyInput{KeyId: name, NumberOfBytes: aws.Int32(8)}))
			},
			"ReEncrypt": func() error {
				return second(s.ReEncrypt(t.Context(),
					&kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, SourceEncryptionContext: blue,
						DestinationKeyId: name}))
			},
			"GenerateRandom": func() error {
				return second(s.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)}))
			},
			"Sign": func() error {
				return second(s.Sign(t.Context(),
					&kms.SignInput{KeyId: signing.KeyMetadata.KeyId, Message: []byte("m"),
						SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}))
			},
			"GenerateMac": func() error {
				return second(s.GenerateMac(t.Context(),
					&kms.GenerateMacInput{KeyId: mac.KeyMetadata.KeyId, Message: []byte("m"),
						MacAlgorithm: types.MacAlgorithmSpecHmacSha256}))
			},
		} {
			if err := f(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	names := []*string{&id, &arn, aws.String("alias/a")}
	for _, name := range names {
		requests(name)
	}
	searched := s.Faults.Calls("C_FindObjectsInit")
	if err := s.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		requests(name)
	}
	if n := s.Faults.Calls("C_FindObjectsInit") - searched; n != 0 {
		t.Errorf("%d searches of the token", n)
	}
	if _, err := s.ListKeys(t.Context(), &kms.ListKeysInput{}); err == nil {
		t.Error("the database was not closed")
	}
}
