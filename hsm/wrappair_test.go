package hsm

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

func TestWrappedPairs(t *testing.T) {
	token := connect(t)
	keys := newPair(t, token)
	aad := []byte("aad")
	for _, kt := range allTypes {
		spki, box, err := token.GenerateWrappedPair(t.Context(), keys, kt, aad)
		if kt == Ed25519 {
			if !errors.Is(err, ErrUnsupported) {
				t.Errorf("%v: %v", kt, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%v: %v", kt, err)
			continue
		}
		pkcs8, err := token.DecryptWrappedPair(t.Context(), keys, box, aad)
		if err != nil {
			t.Errorf("%v: %v", kt, err)
			continue
		}
		if got := publicOf(t, kt, pkcs8); !bytes.Equal(got, spki) {
			t.Errorf("%v: the private key is of %x, not %x", kt, got, spki)
		}
		changed := bytes.Clone(box)
		changed[len(changed)/2] ^= 1
		for name, err := range map[string]error{
			"changed":     second(token.DecryptWrappedPair(t.Context(), keys, changed, aad)),
			"other aad":   second(token.DecryptWrappedPair(t.Context(), keys, box, nil)),
			"short":       second(token.DecryptWrappedPair(t.Context(), keys, box[:20], aad)),
			"very long":   second(token.DecryptWrappedPair(t.Context(), keys, make([]byte, 5000), aad)),
			"a seal only": second(token.DecryptWrappedPair(t.Context(), newPair(t, token), box, aad)),
		} {
			if !errors.Is(err, ErrAuthentication) {
				t.Errorf("%v, %s: %v", kt, name, err)
			}
		}
	}
	if _, _, err := token.GenerateWrappedPair(t.Context(), keys, 0, nil); err == nil {
		t.Error("a key type that is none was taken")
	}
}

// publicOf reads a PKCS#8 private key as Go and decred do, and gives its SubjectPublicKeyInfo.
func publicOf(t testing.TB, kt KeyType, pkcs8 []byte) []byte {
	t.Helper()
	if kt != Secp256k1 {
		key, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			t.Fatalf("%v: %v", kt, err)
		}
		signer := key.(crypto.Signer)
		spki, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		return spki
	}
	var outer struct {
		Version   int
		Algorithm struct{ EC, Curve asn1.ObjectIdentifier }
		Private   []byte
	}
	var inner struct {
		Version int
		D       []byte
	}
	if rest, err := asn1.Unmarshal(pkcs8, &outer); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	if rest, err := asn1.Unmarshal(outer.Private, &inner); err != nil || len(rest) != 0 {
		t.Fatal(err)
	}
	spki, err := kt.Info().MarshalPoint(secp256k1.PrivKeyFromBytes(inner.D).PubKey().SerializeUncompressed())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}
