package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"testing"
)

var curves = map[KeyType]ecdh.Curve{P256: ecdh.P256(), P384: ecdh.P384(), P521: ecdh.P521()}

func TestDerive(t *testing.T) {
	token := connect(t)
	for kt, curve := range curves {
		key, spki := newKeyPair(t, token, kt, DerivePair)
		parsed, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			t.Fatal(err)
		}
		public, err := parsed.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		zeros := 0
		for range 16 { // half of P-521's secrets begin with a zero
			peer, err := curve.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			want, err := peer.ECDH(public)
			if err != nil {
				t.Fatal(err)
			}
			got, err := token.Derive(t.Context(), key, kt, peer.PublicKey().Bytes())
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v: %x, %v instead of %x", kt, got, err, want)
			}
			if want[0] == 0 {
				zeros++
			}
		}
		if kt == P521 && zeros == 0 {
			t.Error("no secret began with a zero")
		}

		good := public.Bytes()
		off := bytes.Clone(good)
		off[len(off)-1] ^= 1
		for name, peer := range map[string][]byte{"nothing": nil, "short": good[:len(good)-1],
			"long":       append(bytes.Clone(good), 0),
			"compressed": append([]byte{2}, good[1:len(good)/2+1]...), "off the curve": off, "infinity": {0},
			"zeros": append([]byte{4}, make([]byte, len(good)-1)...)} {
			if z, err := token.Derive(t.Context(), key, kt, peer); err == nil {
				t.Errorf("%v: %s gives %x", kt, name, z)
			}
		}
		signs, _ := newKeyPair(t, token, kt, SignPair)
		if z, err := token.Derive(t.Context(), signs, kt, good); err == nil {
			t.Errorf("%v: a signing key gives %x", kt, z)
		}
	}
	for _, kt := range []KeyType{0, RSA2048, Secp256k1, Ed25519} {
		if z, err := token.Derive(t.Context(), newID(t), kt, nil); err == nil {
			t.Errorf("%v gives %x", kt, z)
		}
	}
}
