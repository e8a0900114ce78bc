package transport_test

import (
	"bytes"
	"crypto/sha3"
	"encoding/asn1"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/cloudflare/circl/sign/schemes"

	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service"
)

// publicBits parses a SubjectPublicKeyInfo whose algorithm has no parameters.
func publicBits(t *testing.T, spki []byte) (algorithm string, public []byte) {
	t.Helper()
	var info struct {
		Algorithm struct{ Algorithm asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		t.Fatalf("%x: %v", spki, err)
	}
	return info.Algorithm.Algorithm.String(), info.Key.Bytes
}

// verifiesMLDSA checks a signature with a library that neither the service nor the token uses.
func verifiesMLDSA(t *testing.T, spec types.KeySpec, spki, message, signature []byte) bool {
	t.Helper()
	algorithm, key := publicBits(t, spki)
	// RFC 9881 section 2.
	if want := map[types.KeySpec]string{"ML_DSA_44": "17", "ML_DSA_65": "18",
		"ML_DSA_87": "19"}[spec]; algorithm != "2.16.840.1.101.3.4.3."+want {
		t.Errorf("%s is %s", spec, algorithm)
	}
	scheme := schemes.ByName(strings.ReplaceAll(string(spec), "_", "-"))
	public, err := scheme.UnmarshalBinaryPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return scheme.Verify(public, message, signature, nil)
}

func TestMLDSA(t *testing.T) {
	s := newServer(t, options{quantum: true})
	algorithms := []types.SigningAlgorithmSpec{types.SigningAlgorithmSpecMlDsaShake256}
	for spec, size := range map[types.KeySpec]int{"ML_DSA_44": 2420, "ML_DSA_65": 3309, "ML_DSA_87": 4627} {
		t.Run(string(spec), func(t *testing.T) {
			made := s.makeKey(t, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeSignVerify})
			if made.KeySpec != spec || made.KeyState != types.KeyStateEnabled || made.CurrentKeyMaterialId != nil ||
				!slices.Equal(made.SigningAlgorithms, algorithms) {
				t.Errorf("%+v", made)
			}
			public := ok(s.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: made.KeyId}))(t)
			if public.KeySpec != spec || public.KeyUsage != types.KeyUsageTypeSignVerify ||
				!slices.Equal(public.SigningAlgorithms, algorithms) {
				t.Errorf("%+v", public)
			}
			message := bytes.Repeat([]byte("m"), 4096)
			for _, kind := range []types.MessageType{"", types.MessageTypeRaw} {
				out := ok(s.Sign(t.Context(),
					&kms.SignInput{KeyId: made.KeyId, Message: message, MessageType: kind,
						SigningAlgorithm: algorithms[0]}))(t)
				if *out.KeyId != *made.Arn || out.SigningAlgorithm != algorithms[0] || len(out.Signature) != size {
					t.Errorf("%s, %s, %d bytes", *out.KeyId, out.SigningAlgorithm, len(out.Signature))
				}
				if !verifiesMLDSA(t, spec, public.PublicKey, message, out.Signature) {
					t.Errorf("MessageType %q: the signature is wrong", kind)
				}
				s.checkVerify(t, kms.VerifyInput{KeyId: made.KeyId, Message: message, MessageType: kind,
					SigningAlgorithm: algorithms[0], Signature: out.Signature}, *made.Arn)
			}
			s.signsRepresentatives(t, made, public.PublicKey)
			s.refusesMLDSA(t, made)
		})
	}
	_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: "ML_DSA_65", KeyUsage: "SIGN_VERIFY",
		Origin: types.OriginTypeExternal})
	wantError(t, err, "UnsupportedOperationException", "Key material of KeySpec ML_DSA_65 can't be imported.")
	_, err = s.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: "ML_DSA_65", KeyUsage: "ENCRYPT_DECRYPT"})
	wantError(t, err, "ValidationException", "KeyUsage ENCRYPT_DECRYPT is not compatible with KeySpec ML_DSA_65")
}

// signsRepresentatives signs what is too long to be sent, as AWS's page "ML-DSA keys in AWS KMS" has it.
func (s *server) signsRepresentatives(t *testing.T, made *types.KeyMetadata, spki []byte) {
	t.Helper()
	message := bytes.Repeat([]byte("m"), 1<<20)
	mu := representative(t, spki, message)
	out := ok(s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: mu,
		MessageType: types.MessageTypeExternalMu, SigningAlgorithm: "ML_DSA_SHAKE_256"}))(t)
	if !verifiesMLDSA(t, made.KeySpec, spki, message, out.Signature) {
		t.Error("the signature of a representative is none of the message")
	}
	s.checkVerify(t, kms.VerifyInput{KeyId: made.KeyId, Message: mu, MessageType: types.MessageTypeExternalMu,
		SigningAlgorithm: "ML_DSA_SHAKE_256", Signature: out.Signature}, *made.Arn)
	short := ok(s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: message[:9],
		SigningAlgorithm: "ML_DSA_SHAKE_256"}))(t)
	s.checkVerify(t, kms.VerifyInput{KeyId: made.KeyId, Message: representative(t, spki, message[:9]),
		MessageType:      types.MessageTypeExternalMu,
		SigningAlgorithm: "ML_DSA_SHAKE_256", Signature: short.Signature}, *made.Arn)
}

// representative is μ without a context: FIPS 204 algorithm 7 step 6, of algorithm 2's M'.
func representative(t *testing.T, spki, message []byte) []byte {
	t.Helper()
	_, public := publicBits(t, spki)
	tr := sha3.SumSHAKE256(public, 64)
	return sha3.SumSHAKE256(slices.Concat(tr, []byte{0, 0}, message), 64)
}

// TestMLDSAWithoutRepresentatives: PKCS#11 v3.2 has ML-DSA without them.
func TestMLDSAWithoutRepresentatives(t *testing.T) {
	s := newServer(t, options{quantum: true, service: func(c *service.Config) {
		c.Can.Missing = maps.Clone(c.Can.Missing)
		c.Can.Missing["EXTERNAL_MU"] = "the token fails the self-test " + selftest.CheckMLDSAMu
	}})
	made := s.makeKey(t, kms.CreateKeyInput{KeySpec: "ML_DSA_44", KeyUsage: types.KeyUsageTypeSignVerify})
	_, err := s.Sign(t.Context(), &kms.SignInput{KeyId: made.KeyId, Message: make([]byte, 64),
		MessageType: types.MessageTypeExternalMu, SigningAlgorithm: "ML_DSA_SHAKE_256"})
	wantUnsupported(t, err, "MessageType EXTERNAL_MU is not supported: ")
	_, err = s.Verify(t.Context(), &kms.VerifyInput{KeyId: made.KeyId, Message: make([]byte, 64),
		MessageType: types.MessageTypeExternalMu, Signature: []byte("x"), SigningAlgorithm: "ML_DSA_SHAKE_256"})
	wantUnsupported(t, err, "MessageType EXTERNAL_MU is not supported: ")
}

// refusesMLDSA tries what an ML-DSA key is not for.
func (s *server) refusesMLDSA(t *testing.T, made *types.KeyMetadata) {
	t.Helper()
	sign := kms.SignInput{KeyId: made.KeyId, Message: bytes.Repeat([]byte("m"), 64),
		MessageType: types.MessageTypeDigest, SigningAlgorithm: "ML_DSA_SHAKE_256"}
	_, err := s.Sign(t.Context(), &sign)
	wantError(t, err, "ValidationException", "MessageType DIGEST is not valid for algorithm ML_DSA_SHAKE_256.")
	sign.MessageType, sign.Message = types.MessageTypeExternalMu, sign.Message[:63]
	_, err = s.Sign(t.Context(), &sign)
	wantError(t, err, "ValidationException", "Digest is invalid length for algorithm ML_DSA_SHAKE_256.")
	sign.MessageType, sign.SigningAlgorithm = types.MessageTypeRaw, "ED25519_SHA_512"
	_, err = s.Sign(t.Context(), &sign)
	wantError(t, err, "InvalidKeyUsageException",
		"Algorithm ED25519_SHA_512 is incompatible with key spec "+string(made.KeySpec)+".")
	sign.SigningAlgorithm, sign.DryRun = "ML_DSA_SHAKE_256", aws.Bool(true)
	_, err = s.Sign(t.Context(), &sign)
	wantError(t, err, "DryRunOperationException", "*")
}
