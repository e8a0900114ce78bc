package keyobject

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// FuzzParsePKCS8: what is taken is a key whose public key is on the curve, and is taken by no other
// type.
func FuzzParsePKCS8(f *testing.F) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(edwards)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pkcs8)
	for kt, size := range map[Type]int{P256: 32, P384: 48, P521: 65, Secp256k1: 31} { // some are short
		f.Add(encodeEC(f, kt, bytes.Repeat([]byte{0x5a}, size)))
	}
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		taken := 0
		for kt, k := range keyTypes {
			if k.RSA() {
				continue
			}
			private, public, err := k.ParsePKCS8(bytes.Clone(der))
			if err != nil {
				continue
			}
			taken++
			if err := k.CheckPoint(public); err != nil || len(private) != k.Size {
				t.Errorf("%v: %d bytes, %v", kt, len(private), err)
			}
		}
		if taken > 1 {
			t.Errorf("%x is of %d types", der, taken)
		}
	})
}

// encodeEC is a PKCS#8 without a public key.
func encodeEC(t testing.TB, kt Type, d []byte) []byte {
	t.Helper()
	k := kt.Info()
	inner, err := asn1.Marshal(ecPrivateKey{Version: 1, PrivateKey: d})
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := asn1.Marshal(struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		PrivateKey []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: k.Algorithm, Parameters: asn1.RawValue{FullBytes: k.ECParams()}}, inner})
	if err != nil {
		t.Fatal(err)
	}
	return pkcs8
}

// FuzzTrimDER: what comes out is the beginning of what went in, and one DER element.
func FuzzTrimDER(f *testing.F) {
	f.Add([]byte{0x30, 1, 7})
	f.Add([]byte{0x30, 1, 7, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x30, 1, 7, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0x30, 0x82, 0xff, 0xff})
	f.Add([]byte{0x04, 0})
	f.Fuzz(func(t *testing.T, padded []byte) {
		der, err := TrimDER(padded)
		if err != nil {
			return
		}
		if len(padded)-len(der) >= 8 || !bytes.HasPrefix(padded, der) {
			t.Errorf("%x of %x", der, padded)
		}
		again, err := TrimDER(append(bytes.Clone(der), 0, 0))
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("%x became %x, %v", der, again, err)
		}
	})
}
