package transport_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// publicOf reads a PKCS#8 structure and gives its public key.
func publicOf(t testing.TB, pkcs8 []byte) any {
	t.Helper()
	if key, err := x509.ParsePKCS8PrivateKey(pkcs8); err == nil {
		return key.(crypto.Signer).Public()
	}
	var outer struct {
		Version   int
		Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
		Private   []byte
	}
	var inner struct {
		Version    int
		Private    []byte
		Parameters asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
		Public     asn1.BitString        `asn1:"optional,explicit,tag:1"`
	}
	if _, err := asn1.Unmarshal(pkcs8, &outer); err != nil ||
		!outer.Algorithm.Curve.Equal(asn1.ObjectIdentifier{1, 3, 132, 0, 10}) {
		t.Fatalf("not PKCS#8: %v", err)
	}
	if _, err := asn1.Unmarshal(outer.Private, &inner); err != nil || len(inner.Private) != 32 {
		t.Fatalf("no private key of 32 bytes (RFC 5915): %d, %v", len(inner.Private), err)
	}
	return secp256k1.PrivKeyFromBytes(inner.Private).PubKey()
}

// TestDataKeyPairs makes pairs of every kind: each private key is that of its public key, and comes back from Decrypt.
func TestDataKeyPairs(t *testing.T) {
	s := newServer(t, options{})
	id, arn := s.newKey(t)
	for spec, form := range map[types.DataKeyPairSpec]byte{"RSA_2048": 3, "RSA_3072": 3, "RSA_4096": 3,
		"ECC_NIST_P256": 3, "ECC_NIST_P384": 3,
		"ECC_NIST_P521": 3, "ECC_SECG_P256K1": 3, "ECC_NIST_EDWARDS25519": 1} { // SoftHSM can't wrap Ed25519 keys
		t.Run(string(spec), func(t *testing.T) {
			opened := func(blob []byte, material *string) []byte {
				t.Helper()
				if blob[1] != form {
					t.Errorf("form %d, not %d", blob[1], form)
				}
				out := ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: blue}))(t)
				if *out.KeyId != arn || *out.KeyMaterialId != *material {
					t.Errorf("%+v", out)
				}
				_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
				wantError(t, err, "InvalidCiphertextException", "")
				return out.Plaintext
			}
			pair := ok(s.GenerateDataKeyPair(t.Context(),
				&kms.GenerateDataKeyPairInput{KeyId: &id, KeyPairSpec: spec, EncryptionContext: blue}))(t)
			if *pair.KeyId != arn || pair.KeyPairSpec != spec || pair.CiphertextForRecipient != nil {
				t.Errorf("%+v", pair)
			}
			if !samePublic(publicOf(t, pair.PrivateKeyPlaintext), parsePublic(t, pair.PublicKey)) {
				t.Error("the private key is another's")
			}
			if !bytes.Equal(opened(pair.PrivateKeyCiphertextBlob, pair.KeyMaterialId), pair.PrivateKeyPlaintext) {
				t.Error("the private key comes back changed")
			}
			without := ok(s.GenerateDataKeyPairWithoutPlaintext(t.Context(),
				&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &arn, KeyPairSpec: spec,
					EncryptionContext: blue}))(t)
			if *without.KeyId != arn || without.KeyPairSpec != spec || bytes.Equal(without.PublicKey, pair.PublicKey) {
				t.Errorf("%+v", without)
			}
			if !samePublic(publicOf(t, opened(without.PrivateKeyCiphertextBlob, without.KeyMaterialId)),
				parsePublic(t, without.PublicKey)) {
				t.Error("the private key is another's")
			}
		})
	}
	_, err := s.GenerateDataKeyPair(t.Context(),
		&kms.GenerateDataKeyPairInput{KeyId: &id, KeyPairSpec: "ECC_NIST_P256", DryRun: aws.Bool(true)})
	wantError(t, err, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}
