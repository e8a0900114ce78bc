package transport_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"hash"
	"testing"
)

// wrapOAEP wraps key material as ImportKeyMaterial wants it for RSAES_OAEP_SHA_*.
func wrapOAEP(t testing.TB, spki []byte, h hash.Hash, material []byte) []byte {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := rsa.EncryptOAEP(h, rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}
