package transport_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"hash"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

var (
	rsaSigning = []types.SigningAlgorithmSpec{"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384",
		"RSASSA_PKCS1_V1_5_SHA_512",
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}
	rsaSpecs = []types.KeySpec{"RSA_2048", "RSA_3072", "RSA_4096"}
	curves   = map[types.KeySpec]ecdh.Curve{"ECC_NIST_P256": ecdh.P256(), "ECC_NIST_P384": ecdh.P384(),
		"ECC_NIST_P521": ecdh.P521()}
)

// parsePublic reads a SubjectPublicKeyInfo, also of secp256k1, which crypto/x509 does not know.
func parsePublic(t testing.TB, spki []byte) any {
	t.Helper()
	if public, err := x509.ParsePKIXPublicKey(spki); err == nil {
		return public
	}
	var info struct {
		Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 ||
		!info.Algorithm.Curve.Equal(asn1.ObjectIdentifier{1, 3, 132, 0, 10}) {
		t.Fatalf("not a public key: %x, %v", spki, err)
	}
	public, err := secp256k1.ParsePubKey(info.Key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func hashOf(algorithm types.SigningAlgorithmSpec) crypto.Hash {
	switch a := string(algorithm); {
	case strings.HasSuffix(a, "256"):
		return crypto.SHA256
	case strings.HasSuffix(a, "384"):
		return crypto.SHA384
	}
	return crypto.SHA512
}

func digestOf(h crypto.Hash, message []byte) []byte {
	state := h.New()
	state.Write(message)
	return state.Sum(nil)
}

// verifies checks a signature without the service.
func verifies(t testing.TB, public any, algorithm types.SigningAlgorithmSpec, message, signature []byte) bool {
	t.Helper()
	h := hashOf(algorithm)
	digest := digestOf(h, message)
	switch public := public.(type) {
	case *rsa.PublicKey:
		if strings.HasPrefix(string(algorithm), "RSASSA_PSS") {
			return rsa.VerifyPSS(public, h, digest, signature,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, h, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case *secp256k1.PublicKey:
		s, err := secp256k1ecdsa.ParseDERSignature(signature)
		return err == nil && s.Verify(digest, public)
	case ed25519.PublicKey:
		return ed25519.Verify(public, message, signature)
	}
	t.Fatalf("a public key of type %T", public)
	return false
}

func TestSignatures(t *testing.T) {
	s := newServer(t, options{})
	message := bytes.Repeat([]byte("m"), 4096)
	for _, test := range []struct {
		spec       types.KeySpec
		algorithms []types.SigningAlgorithmSpec
		other      types.SigningAlgorithmSpec // of no use to the key
	}{
		{"RSA_2048", rsaSigning, "ECDSA_SHA_256"}, {"RSA_3072", rsaSigning, "ECDSA_SHA_256"},
		{"RSA_4096", rsaSigning, "ECDSA_SHA_256"},
		{"ECC_NIST_P256", []types.SigningAlgorithmSpec{"ECDSA_SHA_256"}, "ECDSA_SHA_384"},
		{"ECC_NIST_P384", []types.SigningAlgorithmSpec{"ECDSA_SHA_384"}, "ECDSA_SHA_512"},
		{"ECC_NIST_P521", []types.SigningAlgorithmSpec{"ECDSA_SHA_512"}, "ECDSA_SHA_256"},
		{"ECC_SECG_P256K1", []types.SigningAlgorithmSpec{"ECDSA_SHA_256"}, "ECDSA_SHA_512"},
	} {
		t.Run(string(test.spec), func(t *testing.T) {
			made := s.makeKey(t, kms.CreateKeyInput{KeySpec: test.spec, KeyUsage: types.KeyUsageTypeSignVerify})
			checkAsymmetric(t, made, test.spec)
			if !slices.Equal(made.SigningAlgorithms, test.algorithms) || made.EncryptionAlgorithms != nil ||
				made.KeyAgreementAlgorithms != nil {
				t.Errorf("%+v", made)
			}
			public := s.publicKey(t, made)
			for _, algorithm := range test.algorithms {
				digest := digestOf(hashOf(algorithm), message)
				for kind, input := range map[types.MessageType][]byte{"": message, types.MessageTypeRaw: message,
					types.MessageTypeDigest: digest} {
					out := ok(s.Sign(t.Context(),
						&kms.SignInput{KeyId: made.KeyId, Message: input, MessageType: kind,
							SigningAlgorithm: algorithm}))(t)
					if *out.KeyId != *made.Arn || out.SigningAlgorithm != algorithm {
						t.Errorf("%+v", out)
					}
					if !verifies(t, public, algorithm, message, out.Signature) {
						t.Errorf("%s, MessageType %q: the signature is wrong", algorithm, kind)
					}
					s.checkVerify(t, kms.VerifyInput{KeyId: made.KeyId, Message: message, SigningAlgorithm: algorithm,
						Signature: out.Signature}, *made.Arn)
					s.checkVerify(t, kms.VerifyInput{KeyId: made.Arn, Message: digest,
						MessageType: types.MessageTypeDigest, SigningAlgorithm: algorithm,
						Signature: out.Signature}, *made.Arn)
				}
				_, err := s.Sign(t.Context(),
					&kms.SignInput{KeyId: made.KeyId, Message: digest[1:], MessageType: types.MessageTypeDigest,
						SigningAlgorithm: algorithm})
				wantError(t, err, "ValidationException",
					fmt.Sprintf("Digest is invalid length for algorithm %s.", algorithm))
			}
			_, err := s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: message,
				SigningAlgorithm: test.other})
			wantError(t, err, "InvalidKeyUsageException",
				fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", test.other, test.spec))
			_, err = s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: made.KeyId, Plaintext: []byte("x")})
			wantError(t, err, "InvalidKeyUsageException",
				*made.Arn+" key usage is SIGN_VERIFY which is not valid for Encrypt.")
		})
	}
}

// checkAsymmetric checks what the metadata of all asymmetric keys have in common.
func checkAsymmetric(t *testing.T, m *types.KeyMetadata, spec types.KeySpec) {
	t.Helper()
	//lint:ignore SA1019 AWS still sends the deprecated member
	if m.KeySpec != spec || string(m.CustomerMasterKeySpec) != string(spec) || m.CurrentKeyMaterialId != nil ||
		m.KeyState != types.KeyStateEnabled || m.MacAlgorithms != nil {
		t.Errorf("%+v", m)
	}
}

// publicKey calls GetPublicKey, whose answer must agree with the key's metadata.
func (s *server) publicKey(t *testing.T, m *types.KeyMetadata) any {
	t.Helper()
	out := ok(s.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: m.KeyId}))(t)
	//lint:ignore SA1019 AWS still sends the deprecated member
	if out.CustomerMasterKeySpec != m.CustomerMasterKeySpec {
		t.Errorf("%+v", out)
	}
	if *out.KeyId != *m.Arn || out.KeySpec != m.KeySpec || out.KeyUsage != m.KeyUsage ||
		!slices.Equal(out.SigningAlgorithms, m.SigningAlgorithms) ||
		!slices.Equal(out.EncryptionAlgorithms, m.EncryptionAlgorithms) ||
		!slices.Equal(out.KeyAgreementAlgorithms, m.KeyAgreementAlgorithms) {
		t.Errorf("%+v", out)
	}
	return parsePublic(t, out.PublicKey)
}

// checkVerify lets the service verify a signature, and refuse changed ones.
func (s *server) checkVerify(t *testing.T, in kms.VerifyInput, arn string) {
	t.Helper()
	out := ok(s.Verify(t.Context(), &in))(t)
	if !out.SignatureValid || *out.KeyId != arn || out.SigningAlgorithm != in.SigningAlgorithm {
		t.Errorf("%+v", out)
	}
	for name, change := range map[string]func(*kms.VerifyInput){
		"signature": func(in *kms.VerifyInput) {
			in.Signature = slices.Clone(in.Signature)
			in.Signature[len(in.Signature)-1] ^= 1
		},
		"length":  func(in *kms.VerifyInput) { in.Signature = in.Signature[:len(in.Signature)-1] },
		"message": func(in *kms.VerifyInput) { in.Message = slices.Clone(in.Message); in.Message[0] ^= 1 },
	} {
		changed := in
		change(&changed)
		_, err := s.Verify(t.Context(), &changed)
		if err == nil {
			t.Errorf("%s: with another %s it is good, too", in.SigningAlgorithm, name)
		}
		wantError(t, err, "KMSInvalidSignatureException", "")
	}
}

func TestEd25519(t *testing.T) {
	s := newServer(t, options{})
	made := s.makeKey(t, kms.CreateKeyInput{KeySpec: "ECC_NIST_EDWARDS25519", KeyUsage: types.KeyUsageTypeSignVerify})
	checkAsymmetric(t, made, "ECC_NIST_EDWARDS25519")
	public := s.publicKey(t, made)
	message := []byte("message")
	sign := kms.SignInput{KeyId: made.KeyId, Message: message, MessageType: types.MessageTypeRaw,
		SigningAlgorithm: "ED25519_SHA_512"}
	out := ok(s.Sign(t.Context(), &sign))(t)
	if !verifies(t, public, "ED25519_SHA_512", message, out.Signature) {
		t.Error("the signature is wrong")
	}
	s.checkVerify(t, kms.VerifyInput{KeyId: made.KeyId, Message: message, SigningAlgorithm: "ED25519_SHA_512",
		Signature: out.Signature}, *made.Arn)
	sign.Message, sign.MessageType = digestOf(crypto.SHA512, message), types.MessageTypeDigest
	_, err := s.Sign(t.Context(), &sign)
	wantError(t, err, "ValidationException", "*")
	sign.SigningAlgorithm = "ED25519_PH_SHA_512"
	_, err = s.Sign(t.Context(), &sign)
	wantUnsupported(t, err, "ED25519_PH_SHA_512 is not supported: ")
	sign.Message, sign.MessageType = message, types.MessageTypeRaw // is for DIGEST only
	_, err = s.Sign(t.Context(), &sign)
	wantError(t, err, "ValidationException", "*")
}

// wantUnsupported expects a reason behind the words that begin the message.
func wantUnsupported(t *testing.T, err error, words string) {
	t.Helper()
	wantError(t, err, "UnsupportedOperationException", "*")
	if _, reason, said := strings.Cut(fmt.Sprint(err), words); !said || len(reason) < 10 {
		t.Errorf("%v gives no reason", err)
	}
}

// TestWhatTheTokenCannot: SoftHSM supports none of these, and no other kind of key is created
// instead.
func TestWhatTheTokenCannot(t *testing.T) {
	s := newServer(t, options{})
	for spec, usage := range map[types.KeySpec]types.KeyUsageType{
		"ML_DSA_44": "SIGN_VERIFY", "ML_DSA_65": "SIGN_VERIFY", "ML_DSA_87": "SIGN_VERIFY", "SM2": "SIGN_VERIFY",
		"ML_KEM_512": "ENCAPSULATE_DECAPSULATE", "ML_KEM_768": "ENCAPSULATE_DECAPSULATE",
		"ML_KEM_1024": "ENCAPSULATE_DECAPSULATE",
	} {
		for _, origin := range []types.OriginType{types.OriginTypeAwsKms, types.OriginTypeExternal} {
			_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Origin: origin})
			if err == nil {
				t.Errorf("%s, %s: made", spec, origin)
				continue
			}
			wantUnsupported(t, err, fmt.Sprintf("KeySpec %s is not supported: ", spec))
		}
	}
	id, arn := s.newKey(t)
	_, err := s.GenerateDataKeyPair(t.Context(), &kms.GenerateDataKeyPairInput{KeyId: &id, KeyPairSpec: "SM2"})
	wantUnsupported(t, err, "SM2 is not supported: ")
	_, err = s.Encapsulate(t.Context(), &kms.EncapsulateInput{KeyId: &id, EncapsulationAlgorithm: "ML_KEM"})
	wantError(t, err, "InvalidKeyUsageException",
		arn+" key usage is ENCRYPT_DECRYPT which is not valid for Encapsulate.")
	_, err = s.Decapsulate(t.Context(), &kms.DecapsulateInput{KeyId: &id, EncapsulationAlgorithm: "ML_KEM",
		SharedSecretCiphertextBlob: []byte("x")})
	wantError(t, err, "InvalidKeyUsageException",
		arn+" key usage is ENCRYPT_DECRYPT which is not valid for Decapsulate.")
}

func TestKeySpecsAndUsages(t *testing.T) {
	s := newServer(t, options{})
	for _, test := range []struct {
		spec    types.KeySpec
		usage   types.KeyUsageType
		message string
	}{
		{"RSA_2048", "", "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."},
		{"HMAC_256", "", "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys."},
		{"RSA_2048", "KEY_AGREEMENT", "KeyUsage KEY_AGREEMENT is not compatible with KeySpec RSA_2048"},
		{"", "SIGN_VERIFY", "KeyUsage SIGN_VERIFY is not compatible with KeySpec SYMMETRIC_DEFAULT"},
		{"ECC_NIST_P256", "ENCRYPT_DECRYPT", "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec ECC_NIST_P256"},
		{"ECC_SECG_P256K1", "KEY_AGREEMENT", "KeyUsage KEY_AGREEMENT is not compatible with KeySpec ECC_SECG_P256K1"},
		{"ECC_NIST_EDWARDS25519", "KEY_AGREEMENT",
			"KeyUsage KEY_AGREEMENT is not compatible with KeySpec ECC_NIST_EDWARDS25519"},
		{"HMAC_224", "SIGN_VERIFY", "KeyUsage SIGN_VERIFY is not compatible with KeySpec HMAC_224"},
	} {
		_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: test.spec, KeyUsage: test.usage})
		wantError(t, err, "ValidationException", test.message)
	}
	//lint:ignore SA1019 the deprecated member works as the new one
	made := s.makeKey(t, kms.CreateKeyInput{CustomerMasterKeySpec: types.CustomerMasterKeySpecHmac224,
		KeyUsage: "GENERATE_VERIFY_MAC"})
	if made.KeySpec != types.KeySpecHmac224 {
		t.Errorf("%+v", made)
	}
}

func TestRSAEncryption(t *testing.T) {
	s := newServer(t, options{})
	symmetric, symmetricARN := s.newKey(t)
	for _, spec := range rsaSpecs {
		t.Run(string(spec), func(t *testing.T) {
			made := s.makeKey(t, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeEncryptDecrypt})
			checkAsymmetric(t, made, spec)
			public := s.publicKey(t, made).(*rsa.PublicKey)
			for _, test := range []struct {
				algorithm types.EncryptionAlgorithmSpec
				hash      func() hash.Hash
				most      int // bytes; API Reference, Encrypt
			}{
				{"RSAES_OAEP_SHA_1", sha1.New,
					map[types.KeySpec]int{"RSA_2048": 214, "RSA_3072": 342, "RSA_4096": 470}[spec]},
				{"RSAES_OAEP_SHA_256", sha256.New,
					map[types.KeySpec]int{"RSA_2048": 190, "RSA_3072": 318, "RSA_4096": 446}[spec]},
			} {
				opens := func(ciphertext, want []byte) {
					t.Helper()
					out := ok(s.Decrypt(t.Context(),
						&kms.DecryptInput{KeyId: made.KeyId, CiphertextBlob: ciphertext,
							EncryptionAlgorithm: test.algorithm}))(t)
					if !bytes.Equal(out.Plaintext, want) || *out.KeyId != *made.Arn ||
						out.EncryptionAlgorithm != test.algorithm || out.KeyMaterialId != nil {
						t.Errorf("%+v", out)
					}
				}
				plaintext := bytes.Repeat([]byte("p"), test.most)
				in := kms.EncryptInput{KeyId: made.KeyId, Plaintext: plaintext, EncryptionAlgorithm: test.algorithm}
				out := ok(s.Encrypt(t.Context(), &in))(t)
				if *out.KeyId != *made.Arn || out.EncryptionAlgorithm != test.algorithm ||
					len(out.CiphertextBlob) != public.Size() {
					t.Errorf("%+v", out)
				}
				opens(out.CiphertextBlob, plaintext)
				opens(wrapOAEP(t, ok(s.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: made.KeyId}))(t).
					PublicKey, test.hash(), plaintext[:1]), plaintext[:1])

				in.Plaintext = append(plaintext, 'x')
				_, err := s.Encrypt(t.Context(), &in)
				wantError(t, err, "ValidationException",
					fmt.Sprintf("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.",
						test.algorithm, spec, test.most))

				changed := slices.Clone(out.CiphertextBlob)
				changed[len(changed)-1] ^= 1
				for name, ciphertext := range map[string][]byte{"changed": changed, "short": changed[1:],
					"zero": make([]byte, public.Size()), "large": bytes.Repeat([]byte{255}, public.Size())} {
					_, err := s.Decrypt(t.Context(),
						&kms.DecryptInput{KeyId: made.KeyId, CiphertextBlob: ciphertext,
							EncryptionAlgorithm: test.algorithm})
					if err == nil {
						t.Errorf("%s: opened", name)
					}
					wantError(t, err, "InvalidCiphertextException", "")
				}
				s.checkRSAReEncrypt(t, made, test.algorithm, symmetric, symmetricARN)
			}
			_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: made.KeyId, Plaintext: []byte("x")})
			wantError(t, err, "InvalidKeyUsageException",
				fmt.Sprintf("Algorithm SYMMETRIC_DEFAULT is incompatible with key spec %s.", spec))
			_, err = s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: made.KeyId, Plaintext: []byte("x"),
				EncryptionAlgorithm: "RSAES_OAEP_SHA_1", EncryptionContext: blue})
			wantError(t, err, "ValidationException", "*")
			_, err = s.GenerateDataKey(t.Context(), &kms.GenerateDataKeyInput{KeyId: made.KeyId, KeySpec: "AES_256"})
			wantError(t, err, "InvalidKeyUsageException", "*")
		})
	}
}

// checkRSAReEncrypt moves a plaintext to a symmetric key and back.
func (s *server) checkRSAReEncrypt(t *testing.T, made *types.KeyMetadata, algorithm types.EncryptionAlgorithmSpec,
	symmetric, symmetricARN string) {
	t.Helper()
	sealed := ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: made.KeyId, Plaintext: []byte("moved"),
		EncryptionAlgorithm: algorithm}))(t)
	there := ok(s.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob,
		SourceKeyId: made.KeyId, SourceEncryptionAlgorithm: algorithm,
		DestinationKeyId: &symmetric, DestinationEncryptionContext: blue}))(t)
	if *there.SourceKeyId != *made.Arn || *there.KeyId != symmetricARN ||
		there.SourceEncryptionAlgorithm != algorithm ||
		there.DestinationEncryptionAlgorithm != "SYMMETRIC_DEFAULT" || there.SourceKeyMaterialId != nil ||
		len(*there.DestinationKeyMaterialId) != 64 {
		t.Errorf("%+v", there)
	}
	back := ok(s.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: there.CiphertextBlob,
		SourceEncryptionContext: blue,
		DestinationKeyId:        made.KeyId, DestinationEncryptionAlgorithm: algorithm}))(t)
	if back.DestinationKeyMaterialId != nil || len(*back.SourceKeyMaterialId) != 64 {
		t.Errorf("%+v", back)
	}
	out := ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: back.CiphertextBlob, KeyId: made.Arn,
		EncryptionAlgorithm: algorithm}))(t)
	if string(out.Plaintext) != "moved" {
		t.Errorf("%q", out.Plaintext)
	}
	// names no key
	_, err := s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob,
		EncryptionAlgorithm: algorithm})
	wantError(t, err, "InvalidCiphertextException", "*")
}

func TestKeyAgreement(t *testing.T) {
	s := newServer(t, options{})
	for spec, curve := range curves {
		t.Run(string(spec), func(t *testing.T) {
			made := s.makeKey(t, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeKeyAgreement})
			other := s.makeKey(t, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeKeyAgreement})
			if !slices.Equal(made.KeyAgreementAlgorithms, []types.KeyAgreementAlgorithmSpec{"ECDH"}) ||
				made.SigningAlgorithms != nil {
				t.Errorf("%+v", made)
			}
			derive := func(m *types.KeyMetadata, spki []byte) []byte {
				t.Helper()
				out := ok(s.DeriveSharedSecret(t.Context(),
					&kms.DeriveSharedSecretInput{KeyId: m.KeyId, KeyAgreementAlgorithm: "ECDH", PublicKey: spki}))(t)
				if *out.KeyId != *m.Arn || out.KeyAgreementAlgorithm != "ECDH" ||
					out.KeyOrigin != types.OriginTypeAwsKms || out.CiphertextForRecipient != nil {
					t.Errorf("%+v", out)
				}
				return out.SharedSecret
			}
			spki := func(m *types.KeyMetadata) []byte {
				return ok(s.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: m.KeyId}))(t).PublicKey
			}
			if a, b := derive(made, spki(other)), derive(other, spki(made)); !bytes.Equal(a, b) {
				t.Errorf("two secrets: %x and %x", a, b)
			}
			peer := ok(curve.GenerateKey(rand.Reader))(t)
			public := ok(s.publicKey(t, made).(*ecdsa.PublicKey).ECDH())(t)
			want := ok(peer.ECDH(public))(t)
			if got := derive(made, ok(x509.MarshalPKIXPublicKey(peer.PublicKey()))(t)); !bytes.Equal(got, want) {
				t.Errorf("%x, not %x", got, want)
			}
			for wrong, c := range curves {
				if wrong != spec {
					der := ok(x509.MarshalPKIXPublicKey(ok(c.GenerateKey(rand.Reader))(t).PublicKey()))(t)
					_, err := s.DeriveSharedSecret(t.Context(),
						&kms.DeriveSharedSecretInput{KeyId: made.KeyId, KeyAgreementAlgorithm: "ECDH", PublicKey: der})
					wantError(t, err, "ValidationException", "*")
				}
			}
			_, err := s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: []byte("x"),
				SigningAlgorithm: "ECDSA_SHA_256"})
			wantError(t, err, "InvalidKeyUsageException",
				*made.Arn+" key usage is KEY_AGREEMENT which is not valid for Sign.")
		})
	}
}

func TestDryRunsOfAsymmetricKeys(t *testing.T) {
	s := newServer(t, options{})
	made := s.makeKey(t, kms.CreateKeyInput{KeySpec: "ECC_NIST_P256", KeyUsage: types.KeyUsageTypeSignVerify})
	_, err := s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: []byte("x"),
		SigningAlgorithm: "ECDSA_SHA_256", DryRun: aws.Bool(true)})
	wantError(t, err, "DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
	_, err = s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: []byte("x"),
		SigningAlgorithm: "ECDSA_SHA_384", DryRun: aws.Bool(true)})
	wantError(t, err, "InvalidKeyUsageException", "*")
}
