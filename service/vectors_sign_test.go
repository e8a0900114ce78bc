package service_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
)

// TestVerifyVectors: what Verify says of signatures by keys that a vector brings along.
//
// The rules, where KMS is narrower than the vectors:
//   - RSASSA-PSS has salt as long as the hash, and MGF1 of the same hash (API Reference, Sign). Signatures with another
//     salt or MGF are refused, however valid; and one that a vector calls wrong for a salt of that length is right.
//   - RSASSA-PKCS1-v1_5 without the NULL of the hash's AlgorithmIdentifier is "acceptable" to the vectors; RFC 8017
//     section 9.2 has the NULL, and it is refused.
//   - ML-DSA has no context, and public keys have the length of their parameter set: vectors with another are outside.
func TestVerifyVectors(t *testing.T) {
	s := newVectorService(t)
	for _, test := range []struct {
		file      string
		spec      string
		algorithm string
		want      tally
	}{
		{"ecdsa_secp256r1_sha256", "ECC_NIST_P256", "ECDSA_SHA_256", tally{accepted: 174, refused: 310}},
		{"ecdsa_secp384r1_sha384", "ECC_NIST_P384", "ECDSA_SHA_384", tally{accepted: 194, refused: 310}},
		{"ecdsa_secp521r1_sha512", "ECC_NIST_P521", "ECDSA_SHA_512", tally{accepted: 232, refused: 310}},
		{"ecdsa_secp256k1_sha256", "ECC_SECG_P256K1", "ECDSA_SHA_256", tally{accepted: 168, refused: 308}},
		{"ed25519", "ECC_NIST_EDWARDS25519", "ED25519_SHA_512", tally{accepted: 88, refused: 63}},

		{"mldsa_44_verify", "ML_DSA_44", "ML_DSA_SHAKE_256", tally{accepted: 75, refused: 94, outside: 11}},
		{"mldsa_65_verify", "ML_DSA_65", "ML_DSA_SHAKE_256", tally{accepted: 77, refused: 122, outside: 11}},
		{"mldsa_87_verify", "ML_DSA_87", "ML_DSA_SHAKE_256", tally{accepted: 69, refused: 161, outside: 11}},

		{"rsa_signature_2048_sha256", "RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256", tally{accepted: 9, refused: 250}},
		{"rsa_signature_2048_sha384", "RSA_2048", "RSASSA_PKCS1_V1_5_SHA_384", tally{accepted: 7, refused: 251}},
		{"rsa_signature_2048_sha512", "RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512", tally{accepted: 8, refused: 251}},
		{"rsa_signature_3072_sha256", "RSA_3072", "RSASSA_PKCS1_V1_5_SHA_256", tally{accepted: 8, refused: 251}},
		{"rsa_signature_3072_sha384", "RSA_3072", "RSASSA_PKCS1_V1_5_SHA_384", tally{accepted: 7, refused: 252}},
		{"rsa_signature_3072_sha512", "RSA_3072", "RSASSA_PKCS1_V1_5_SHA_512", tally{accepted: 8, refused: 252}},
		{"rsa_signature_4096_sha256", "RSA_4096", "RSASSA_PKCS1_V1_5_SHA_256", tally{accepted: 7, refused: 251}},
		{"rsa_signature_4096_sha384", "RSA_4096", "RSASSA_PKCS1_V1_5_SHA_384", tally{accepted: 7, refused: 252}},
		{"rsa_signature_4096_sha512", "RSA_4096", "RSASSA_PKCS1_V1_5_SHA_512", tally{accepted: 7, refused: 252}},

		{"rsa_pss_2048_sha256_mgf1_32", "RSA_2048", "RSASSA_PSS_SHA_256", tally{accepted: 63, refused: 45}},
		{"rsa_pss_2048_sha384_mgf1_48", "RSA_2048", "RSASSA_PSS_SHA_384", tally{accepted: 95, refused: 46}},
		{"rsa_pss_3072_sha256_mgf1_32", "RSA_3072", "RSASSA_PSS_SHA_256", tally{accepted: 63, refused: 45}},
		{"rsa_pss_4096_sha256_mgf1_32", "RSA_4096", "RSASSA_PSS_SHA_256", tally{accepted: 63, refused: 45}},
		{"rsa_pss_4096_sha384_mgf1_48", "RSA_4096", "RSASSA_PSS_SHA_384", tally{accepted: 95, refused: 46}},
		{"rsa_pss_4096_sha512_mgf1_64", "RSA_4096", "RSASSA_PSS_SHA_512", tally{accepted: 132, refused: 47}},
		{"rsa_pss_2048_sha256_mgf1_0", "RSA_2048", "RSASSA_PSS_SHA_256", tally{accepted: 1, refused: 102}},
		{"rsa_pss_2048_sha256_mgf1sha1_20", "RSA_2048", "RSASSA_PSS_SHA_256", tally{refused: 108}},
		{"rsa_pss_4096_sha512_mgf1_32", "RSA_4096", "RSASSA_PSS_SHA_512", tally{refused: 177}},
		{"rsa_pss_misc", "RSA_2048", "RSASSA_PSS_SHA_256", tally{accepted: 1, refused: 29, outside: 120}},
		{"rsa_pss_misc", "RSA_2048", "RSASSA_PSS_SHA_384", tally{accepted: 1, refused: 29, outside: 120}},
		{"rsa_pss_misc", "RSA_2048", "RSASSA_PSS_SHA_512", tally{accepted: 1, refused: 29, outside: 120}},
	} {
		t.Run(test.file+"/"+test.algorithm, func(t *testing.T) {
			t.Parallel()
			size, err := strconv.Atoi(test.algorithm[len(test.algorithm)-3:]) // of the hash, in bits
			if err != nil {
				t.Fatal(err)
			}
			pss := strings.HasPrefix(test.algorithm, "RSASSA_PSS")
			judgeVectors(t, test.file, test.want, func(n *tally, g *vectorGroup) {
				if g.SHA != "" && g.SHA != fmt.Sprintf("SHA-%d", size) ||
					g.KeySize != 0 && test.spec != fmt.Sprintf("RSA_%d", g.KeySize) {
					n.outside += len(g.Tests)
					return
				}
				key := s.insertPublicKey(t, test.spec, g.PublicKeyDER)
				for _, v := range g.Tests {
					if len(v.Ctx) > 0 || slices.Contains(v.Flags, "IncorrectPublicKeyLength") {
						n.outside++
						continue
					}
					good := v.Result == "valid"
					if pss {
						ourSalt := good && 8*g.SLen == size || v.Comment == fmt.Sprintf("s_len changed to %d", size/8)
						good = ourSalt && g.MGFSHA == g.SHA
					}
					out, err := s.Verify(t.Context(), root,
						&service.VerifyRequest{KeyId: key, Message: v.Msg, MessageType: "RAW",
							Signature: v.Sig, SigningAlgorithm: test.algorithm})
					if err == nil && !out.SignatureValid {
						t.Errorf("%v: neither valid nor refused", &v)
					}
					n.judge(t, &v, good, err, apierror.InvalidSignature)
				}
			})
		})
	}
}

// TestSignVectors: RSASSA-PKCS1-v1_5 is deterministic, so Sign by an imported key gives the vectors' signatures.
func TestSignVectors(t *testing.T) {
	s := newVectorService(t)
	for _, test := range []struct {
		size int // bits of the modulus
		want tally
	}{
		{2048, tally{accepted: 27, outside: 16}}, {3072, tally{accepted: 26}}, {4096, tally{accepted: 24}},
	} {
		spec := fmt.Sprintf("RSA_%d", test.size)
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			judgeVectors(t, fmt.Sprintf("rsa_pkcs1_%d_sig_gen", test.size), test.want, func(n *tally, g *vectorGroup) {
				hash := strings.TrimPrefix(g.SHA, "SHA-")
				if hash == "1" || hash == "224" {
					n.outside += len(g.Tests)
					return
				}
				key := s.importKey(t, spec, "SIGN_VERIFY", g.PrivateKeyPKCS8)
				for _, v := range g.Tests {
					out, err := s.Sign(t.Context(), root,
						&service.SignRequest{KeyId: key, Message: v.Msg, MessageType: "RAW",
							SigningAlgorithm: "RSASSA_PKCS1_V1_5_SHA_" + hash})
					if err == nil && !bytes.Equal(out.Signature, v.Sig) {
						t.Errorf("%v: signature %x", &v, out.Signature)
					}
					n.judge(t, &v, true, err, "")
				}
			})
		})
	}
}
