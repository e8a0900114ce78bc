package transport_test

import (
	"bytes"
	"crypto/mlkem"
	"encoding/asn1"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var mlkemSpecs = map[types.KeySpec]struct {
	oid        string // RFC 9935 section 3
	ciphertext int    // bytes; FIPS 203 table 3
}{
	"ML_KEM_512": {"2.16.840.1.101.3.4.4.1", 768}, "ML_KEM_768": {"2.16.840.1.101.3.4.4.2", 1088},
	"ML_KEM_1024": {"2.16.840.1.101.3.4.4.3", 1568},
}

// mlkemPublic returns the public key of RFC 9935's SubjectPublicKeyInfo.
func mlkemPublic(t *testing.T, spec types.KeySpec, spki []byte) []byte {
	t.Helper()
	algorithm, public := publicBits(t, spki)
	if algorithm != mlkemSpecs[spec].oid {
		t.Fatalf("%s is %s", spec, algorithm)
	}
	return public
}

// encapsulateElsewhere is the peer's part, with a library that the service does not use. The
// standard library has no ML-KEM-512.
func encapsulateElsewhere(t *testing.T, spec types.KeySpec, public []byte) (secret, ciphertext []byte) {
	t.Helper()
	if spec == "ML_KEM_768" {
		secret, ciphertext = ok(mlkem.NewEncapsulationKey768(public))(t).Encapsulate()
	}
	if spec == "ML_KEM_1024" {
		secret, ciphertext = ok(mlkem.NewEncapsulationKey1024(public))(t).Encapsulate()
	}
	return secret, ciphertext
}

func TestMLKEM(t *testing.T) {
	s := newServer(t, options{quantum: true})
	for spec, want := range mlkemSpecs {
		t.Run(string(spec), func(t *testing.T) {
			made := s.makeKey(t, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeEncapsulateDecapsulate})
			if !slices.Equal(made.EncapsulationAlgorithms, []types.EncapsulationAlgorithmSpec{"ML_KEM"}) ||
				made.SigningAlgorithms != nil {
				t.Errorf("%+v", made)
			}
			answer := ok(s.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: made.KeyId}))(t)
			public := mlkemPublic(t, spec, answer.PublicKey)
			decapsulate := func(ciphertext []byte) []byte {
				t.Helper()
				out := ok(s.Decapsulate(t.Context(),
					&kms.DecapsulateInput{KeyId: made.KeyId, EncapsulationAlgorithm: "ML_KEM",
						SharedSecretCiphertextBlob: ciphertext}))(t)
				if *out.KeyId != *made.Arn || out.EncapsulationAlgorithm != "ML_KEM" || len(out.SharedSecret) != 32 {
					t.Errorf("%s, %s, %d bytes", *out.KeyId, out.EncapsulationAlgorithm, len(out.SharedSecret))
				}
				return out.SharedSecret
			}
			out := ok(s.Encapsulate(t.Context(),
				&kms.EncapsulateInput{KeyId: made.KeyId, EncapsulationAlgorithm: "ML_KEM"}))(t)
			if *out.KeyId != *made.Arn || out.EncapsulationAlgorithm != "ML_KEM" || len(out.SharedSecret) != 32 ||
				len(out.SharedSecretCiphertextBlob) != want.ciphertext {
				t.Errorf("%s, %s, %d and %d bytes", *out.KeyId, out.EncapsulationAlgorithm, len(out.SharedSecret),
					len(out.SharedSecretCiphertextBlob))
			}
			if !bytes.Equal(decapsulate(out.SharedSecretCiphertextBlob), out.SharedSecret) {
				t.Error("another secret comes back")
			}
			if secret, ciphertext := encapsulateElsewhere(t, spec, public); secret != nil &&
				!bytes.Equal(decapsulate(ciphertext), secret) {
				t.Error("another secret than the peer's")
			}
			changed := slices.Clone(out.SharedSecretCiphertextBlob)
			changed[0] ^= 1
			if bytes.Equal(decapsulate(changed), out.SharedSecret) {
				t.Error("a changed ciphertext has the same secret")
			}
			_, err := s.Decapsulate(t.Context(),
				&kms.DecapsulateInput{KeyId: made.KeyId, EncapsulationAlgorithm: "ML_KEM",
					SharedSecretCiphertextBlob: append(changed, 0)})
			wantError(t, err, "InvalidCiphertextException", "")
		})
	}
	_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: "ML_KEM_768", KeyUsage: "ENCAPSULATE_DECAPSULATE",
		Origin: types.OriginTypeExternal})
	wantError(t, err, "UnsupportedOperationException", "Key material of KeySpec ML_KEM_768 can't be imported.")
}

// TestMLKEMDataKeyPairs need no ML-KEM of the token. The private key is its seed (API Reference, GenerateDataKeyPair).
func TestMLKEMDataKeyPairs(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	seedOf := func(pkcs8 []byte) []byte {
		t.Helper()
		var info struct {
			Version   int
			Algorithm struct{ Algorithm asn1.ObjectIdentifier }
			Key       []byte
		}
		var seed asn1.RawValue
		if rest, err := asn1.Unmarshal(pkcs8, &info); err != nil || len(rest) > 0 || info.Version != 0 {
			t.Fatalf("%x: %v", pkcs8, err)
		}
		if rest, err := asn1.Unmarshal(info.Key, &seed); err != nil || len(rest) > 0 ||
			seed.Class != asn1.ClassContextSpecific || seed.Tag != 0 || len(seed.Bytes) != 64 {
			t.Fatalf("%x: %v", info.Key, err)
		}
		return seed.Bytes
	}
	for spec := range mlkemSpecs {
		made := ok(s.GenerateDataKeyPair(t.Context(),
			&kms.GenerateDataKeyPairInput{KeyId: &id, KeyPairSpec: types.DataKeyPairSpec(spec)}))(t)
		public, seed := mlkemPublic(t, spec, made.PublicKey), seedOf(made.PrivateKeyPlaintext)
		var want []byte
		switch spec {
		case "ML_KEM_768":
			want = ok(mlkem.NewDecapsulationKey768(seed))(t).EncapsulationKey().Bytes()
		case "ML_KEM_1024":
			want = ok(mlkem.NewDecapsulationKey1024(seed))(t).EncapsulationKey().Bytes()
		}
		if want != nil && !bytes.Equal(public, want) {
			t.Errorf("%s: the public key is none of the seed", spec)
		}
		if opened := ok(s.Decrypt(t.Context(),
			&kms.DecryptInput{CiphertextBlob: made.PrivateKeyCiphertextBlob}))(t); !bytes.Equal(opened.Plaintext,
			made.PrivateKeyPlaintext) {
			t.Errorf("%s: another private key comes back", spec)
		}
		hidden := ok(s.GenerateDataKeyPairWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &id, KeyPairSpec: types.DataKeyPairSpec(spec)}))(t)
		if len(seedOf(ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: hidden.PrivateKeyCiphertextBlob}))(t).
			Plaintext)) != 64 || len(mlkemPublic(t, spec, hidden.PublicKey)) != len(public) {
			t.Errorf("%s: without plaintext: another private key", spec)
		}
	}
}
