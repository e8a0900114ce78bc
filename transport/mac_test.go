package transport_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// macs returns the hash of each KeySpec; its size in bits is in the name.
var macs = map[types.KeySpec]func() hash.Hash{"HMAC_224": sha256.New224, "HMAC_256": sha256.New,
	"HMAC_384": sha512.New384, "HMAC_512": sha512.New}

func macAlgorithm(spec types.KeySpec) types.MacAlgorithmSpec {
	return types.MacAlgorithmSpec(strings.Replace(string(spec), "HMAC_", "HMAC_SHA_", 1))
}

func TestMACs(t *testing.T) {
	s := newServer(t, options{})
	message := bytes.Repeat([]byte("m"), 4096)
	for spec, newHash := range macs {
		t.Run(string(spec), func(t *testing.T) {
			secret := make([]byte, newHash().Size())
			_, _ = rand.Read(secret)
			imported := s.importKey(t, kms.CreateKeyInput{KeySpec: spec,
				KeyUsage: types.KeyUsageTypeGenerateVerifyMac}, secret)
			own := s.makeKey(t, kms.CreateKeyInput{KeySpec: spec, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
			if !slices.Equal(own.MacAlgorithms, []types.MacAlgorithmSpec{macAlgorithm(spec)}) ||
				own.EncryptionAlgorithms != nil || own.CurrentKeyMaterialId != nil {
				t.Errorf("%+v", own)
			}
			known := hmac.New(newHash, secret)
			known.Write(message)
			got := s.checkMAC(t, imported, message)
			if !bytes.Equal(got, known.Sum(nil)) {
				t.Errorf("%x is not the HMAC of the imported secret", got)
			}
			if other := s.checkMAC(t, own, message); len(other) != newHash().Size() || bytes.Equal(other, got) {
				t.Errorf("%x", other)
			}
			for other := range macs {
				if other != spec {
					_, err := s.GenerateMac(t.Context(),
						&kms.GenerateMacInput{KeyId: own.KeyId, Message: message, MacAlgorithm: macAlgorithm(other)})
					wantError(t, err, "InvalidKeyUsageException",
						fmt.Sprintf("Algorithm %s is incompatible with key spec %s.", macAlgorithm(other), spec))
				}
			}
		})
	}
}

func (s *server) checkMAC(t *testing.T, m *types.KeyMetadata, message []byte) []byte {
	t.Helper()
	algorithm := macAlgorithm(m.KeySpec)
	out := ok(s.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: m.KeyId, Message: message,
		MacAlgorithm: algorithm}))(t)
	if *out.KeyId != *m.Arn || out.MacAlgorithm != algorithm {
		t.Errorf("%+v", out)
	}
	in := kms.VerifyMacInput{KeyId: m.KeyId, Message: message, MacAlgorithm: algorithm, Mac: out.Mac}
	if v := ok(s.VerifyMac(t.Context(), &in))(t); !v.MacValid || *v.KeyId != *m.Arn || v.MacAlgorithm != algorithm {
		t.Errorf("%+v", v)
	}
	changed := slices.Clone(out.Mac)
	changed[0] ^= 1
	for _, mac := range [][]byte{changed, out.Mac[:len(out.Mac)-1], append(slices.Clone(out.Mac), 0)} {
		in.Mac = mac
		_, err := s.VerifyMac(t.Context(), &in)
		wantError(t, err, "KMSInvalidMacException", "")
	}
	return out.Mac
}
