package service_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
)

// TestDeriveSharedSecretVectors: what DeriveSharedSecret makes of an imported private key and a peer's public key.
//
// Of the "acceptable" vectors, compressed points and curves without a name are refused. InvalidAsn
// may go either way, if only the secret is right: crypto/x509 reads over what is appended within a
// SEQUENCE, and nothing depends on the encoding.
func TestDeriveSharedSecretVectors(t *testing.T) {
	s := newVectorService(t)
	for _, test := range []struct {
		size  int // bits
		curve ecdh.Curve
		want  tally
	}{
		{256, ecdh.P256(), tally{accepted: 346, refused: 266}},
		{384, ecdh.P384(), tally{accepted: 787, refused: 260}},
		{521, ecdh.P521(), tally{accepted: 648, refused: 268}},
	} {
		spec := fmt.Sprintf("ECC_NIST_P%d", test.size)
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			keys := map[string]string{} // ids by private key
			judgeVectors(t, fmt.Sprintf("ecdh_secp%dr1", test.size), test.want, func(n *tally, g *vectorGroup) {
				for _, v := range g.Tests {
					private := new(big.Int).SetBytes(v.Private).FillBytes(make([]byte, (test.size+7)/8))
					key, known := keys[string(private)]
					if !known {
						key = s.importKey(t, spec, "KEY_AGREEMENT", pkcs8(t, test.curve, private))
						keys[string(private)] = key
					}
					out, err := s.DeriveSharedSecret(t.Context(), root, &service.DeriveSharedSecretRequest{KeyId: key,
						KeyAgreementAlgorithm: "ECDH", PublicKey: v.Public})
					if err == nil && !bytes.Equal(out.SharedSecret, v.Shared) {
						t.Errorf("%v: secret %x", &v, []byte(out.SharedSecret))
					}
					good := v.Result == "valid" || err == nil && slices.Contains(v.Flags, "InvalidAsn")
					n.judge(t, &v, good, err, apierror.Validation)
				}
			})
		})
	}
}

func pkcs8(t *testing.T, curve ecdh.Curve, private []byte) []byte {
	t.Helper()
	key, err := curve.NewPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestDecryptVectors: what Decrypt opens of RSAES-OAEP with an imported private key. KMS has no
// label, and MGF1 of the same hash; all else is refused, however valid.
func TestDecryptVectors(t *testing.T) {
	s := newVectorService(t)
	for _, test := range []struct {
		file      string
		spec      string
		algorithm string
		want      tally
	}{
		{"rsa_oaep_2048_sha1_mgf1sha1", "RSA_2048", "RSAES_OAEP_SHA_1", tally{accepted: 10, refused: 26}},
		{"rsa_oaep_2048_sha256_mgf1sha256", "RSA_2048", "RSAES_OAEP_SHA_256", tally{accepted: 10, refused: 27}},
		{"rsa_oaep_3072_sha256_mgf1sha256", "RSA_3072", "RSAES_OAEP_SHA_256", tally{accepted: 10, refused: 27}},
		{"rsa_oaep_4096_sha256_mgf1sha256", "RSA_4096", "RSAES_OAEP_SHA_256", tally{accepted: 10, refused: 27}},
		{"rsa_oaep_2048_sha256_mgf1sha1", "RSA_2048", "RSAES_OAEP_SHA_256", tally{refused: 31}},
	} {
		t.Run(test.file, func(t *testing.T) {
			t.Parallel()
			judgeVectors(t, test.file, test.want, func(n *tally, g *vectorGroup) {
				key := s.importKey(t, test.spec, "ENCRYPT_DECRYPT", g.PrivateKeyPKCS8)
				for _, v := range g.Tests {
					out, err := s.Decrypt(t.Context(), root, &service.DecryptRequest{KeyId: key, CiphertextBlob: v.CT,
						EncryptionAlgorithm: test.algorithm})
					if err == nil && !bytes.Equal(out.Plaintext, v.Msg) {
						t.Errorf("%v: plaintext %x", &v, []byte(out.Plaintext))
					}
					n.judge(t, &v, v.Result == "valid" && len(v.Label) == 0 && g.MGFSHA == g.SHA, err,
						apierror.InvalidCiphertext)
				}
			})
		})
	}
}

// TestMacVectors: what GenerateMac makes of a message, and VerifyMac of a tag, with an imported
// key. KMS's keys and tags are as long as the hash: shorter tags are refused, however valid.
func TestMacVectors(t *testing.T) {
	s := newVectorService(t)
	for _, test := range []struct {
		size int // of hash, key and tag, in bits
		want tally
	}{
		{224, tally{accepted: 27, refused: 133, outside: 12}},
		{256, tally{accepted: 27, refused: 135, outside: 12}},
		{384, tally{accepted: 27, refused: 135, outside: 12}},
		{512, tally{accepted: 27, refused: 135, outside: 12}},
	} {
		spec, algorithm := fmt.Sprintf("HMAC_%d", test.size), fmt.Sprintf("HMAC_SHA_%d", test.size)
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			keys := map[string]string{} // ids by key material
			judgeVectors(t, fmt.Sprintf("hmac_sha%d", test.size), test.want, func(n *tally, g *vectorGroup) {
				if g.KeySize != test.size {
					n.outside += len(g.Tests)
					return
				}
				for _, v := range g.Tests {
					key, known := keys[string(v.Key)]
					if !known {
						key = s.importKey(t, spec, "GENERATE_VERIFY_MAC", v.Key)
						keys[string(v.Key)] = key
					}
					good := v.Result == "valid" && g.TagSize == test.size
					made, err := s.GenerateMac(t.Context(), root,
						&service.GenerateMacRequest{KeyId: key, Message: v.Msg, MacAlgorithm: algorithm})
					if err != nil || bytes.Equal(made.Mac, v.Tag) != good {
						t.Errorf("%v: %+v, %v", &v, made, err)
					}
					_, err = s.VerifyMac(t.Context(), root,
						&service.VerifyMacRequest{KeyId: key, Message: v.Msg, Mac: v.Tag, MacAlgorithm: algorithm})
					n.judge(t, &v, good, err, apierror.InvalidMac)
				}
			})
		})
	}
}
