package hsm

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"testing"
)

// secp256k1Order is the order of the curve: SEC 2 section 2.4.1.
var secp256k1Order = []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe" +
	"\xba\xae\xdc\xe6\xaf\x48\xa0\x3b\xbf\xd2\x5e\x8c\xd0\x36\x41\x41")

// TestImportRefuses tells what does not open from what does not fit, and leaves no object of either.
func TestImportRefuses(t *testing.T) {
	token := connect(t)
	wrapping, spki := newKeyPair(t, token, RSA2048, UnwrapPair)
	public := rsaKey(t, spki)
	_, otherSPKI := newKeyPair(t, token, RSA2048, SignPair)
	other := rsaKey(t, otherSPKI)
	secret := &SecretKey{ID: newID(t), Purpose: Seal}
	pair := func(kt KeyType) *KeyPair { return &KeyPair{ID: newID(t), Type: kt, Purpose: SignPair} }
	p256, _ := hostPair(t, P256)
	p384, _ := hostPair(t, P384)
	k1, _ := hostPair(t, Secp256k1)
	ed25519, _ := hostPair(t, Ed25519)
	rsa2048, _ := hostPair(t, RSA2048)
	mixed := mixedRSA(t)
	before := token.Stats()

	for _, a := range importAlgorithms {
		type wrong struct {
			name    string
			wrapped []byte
			secret  *SecretKey
			pair    *KeyPair
			kind    error
		}
		wrap := func(material []byte) []byte { return wrapMaterial(t, public, a, material) }
		changed := wrap(p256)
		changed[len(changed)-1] ^= 1
		tests := []wrong{
			{"short", make([]byte, 255), nil, pair(P256), ErrAuthentication},
			{"very long", make([]byte, 5000), nil, pair(P256), ErrAuthentication},
			{"noise", bytes.Repeat([]byte{1}, 256), nil, pair(P256), ErrAuthentication},
			{"above the modulus", bytes.Repeat([]byte{0xff}, 256), nil, pair(P256), ErrAuthentication},
			{"changed", changed, nil, pair(P256), ErrAuthentication},
			{"for another key", wrapMaterial(t, other, a, p256), nil, pair(P256), ErrAuthentication},
			{"not DER", wrap(bytes.Repeat([]byte{1}, 64)), nil, pair(P256), ErrMaterial},
			{"other curve", wrap(p384), nil, pair(P256), ErrMaterial},
			{"other curve of the size", wrap(k1), nil, pair(P256), ErrMaterial},
			{"other algorithm", wrap(ed25519), nil, pair(P256), ErrMaterial},
			{"a curve for Ed25519", wrap(p256), nil, pair(Ed25519), ErrMaterial},
			{"zero", wrap(marshalEC(t, P256, make([]byte, 32))), nil, pair(P256), ErrMaterial},
			{"the order", wrap(marshalEC(t, Secp256k1, secp256k1Order)), nil, pair(Secp256k1), ErrMaterial},
		}
		if a.Hybrid() {
			rsaChanged := wrap(rsa2048)
			rsaChanged[300] ^= 1
			tests = append(
				tests,
				wrong{"nothing behind the key", make([]byte, 256), nil, pair(RSA2048), ErrAuthentication},
				wrong{"changed RSA", rsaChanged, nil, pair(RSA2048), ErrAuthentication},
				wrong{"RSA of another size", wrap(rsa2048), nil, pair(RSA3072), ErrMaterial},
				wrong{"a curve for RSA", wrap(p256), nil, pair(RSA2048), ErrMaterial},
				wrong{"RSA for a curve", wrap(rsa2048), nil, pair(P256), ErrMaterial},
				wrong{"not DER for RSA", wrap(bytes.Repeat([]byte{1}, 64)), nil, pair(RSA2048), ErrMaterial},
				wrong{"halves of two keys", wrap(mixed), nil, pair(RSA2048), ErrMaterial},
				wrong{
					"halves of two keys to decrypt", wrap(mixed), nil,
					&KeyPair{ID: newID(t), Type: RSA2048, Purpose: DecryptPair}, ErrMaterial,
				},
			)
		} else {
			tests = append(tests,
				wrong{"long", make([]byte, 257), secret, nil, ErrAuthentication},
				wrong{"noise for a secret", bytes.Repeat([]byte{1}, 256), secret, nil, ErrAuthentication})
		}
		for _, test := range tests {
			in := Import{
				Wrapping: wrapping, WrappingType: RSA2048, Algorithm: a, Wrapped: test.wrapped,
				Secret: test.secret, Pair: test.pair,
			}
			if _, err := token.Import(t.Context(), in); !errors.Is(err, test.kind) ||
				errors.Is(err, ErrMaterial) && errors.Is(err, ErrAuthentication) {
				t.Errorf("%d, %s: %v", a, test.name, err)
			}
		}
	}
	if objects, err := token.Objects(t.Context(), ""); err != nil || len(objects) != 2 {
		t.Errorf("left %v, %v", objects, err)
	}
	if after := token.Stats(); after.Failures != before.Failures || after.Connections != 1 {
		t.Errorf("%+v", after)
	}

	good := wrapMaterial(t, public, OAEPSHA1, make([]byte, 32))
	for name, in := range map[string]Import{
		"nothing": {WrappingType: RSA2048, Algorithm: OAEPSHA1, Wrapped: good},
		"both": {WrappingType: RSA2048, Algorithm: OAEPSHA1, Wrapped: good, Secret: secret,
			Pair: pair(P256)},
		"no algorithm":  {WrappingType: RSA2048, Wrapped: good, Secret: secret},
		"no type":       {Algorithm: OAEPSHA1, Wrapped: good, Secret: secret},
		"under a curve": {WrappingType: P256, Algorithm: OAEPSHA1, Wrapped: good, Secret: secret},
		"a wrapping key": {WrappingType: RSA2048, Algorithm: OAEPSHA1, Wrapped: good,
			Secret: &SecretKey{Purpose: Wrap}},
		"an unwrapping key": {WrappingType: RSA2048, Algorithm: RSAAESKeyWrapSHA1, Wrapped: good,
			Pair: &KeyPair{Type: RSA2048, Purpose: UnwrapPair}},
		"hybrid secret":  {WrappingType: RSA2048, Algorithm: RSAAESKeyWrapSHA1, Wrapped: good, Secret: secret},
		"RSA under OAEP": {WrappingType: RSA2048, Algorithm: OAEPSHA1, Wrapped: good, Pair: pair(RSA2048)},
	} {
		in.Wrapping = wrapping
		if _, err := token.Import(t.Context(), in); err == nil || errors.Is(err, ErrAuthentication) ||
			errors.Is(err, ErrMaterial) {
			t.Errorf("%s: %v", name, err)
		}
	}
	signs, _ := newKeyPair(t, token, RSA2048, SignPair)
	for _, a := range []ImportAlgorithm{OAEPSHA1, OAEPSHA256} {
		in := Import{Wrapping: signs, WrappingType: RSA2048, Algorithm: a, Wrapped: good, Secret: secret}
		if _, err := token.Import(t.Context(), in); err == nil || errors.Is(err, ErrAuthentication) ||
			errors.Is(err, ErrMaterial) {
			t.Errorf("under a signing key with %d: %v", a, err)
		}
	}
}

// mixedRSA is a PKCS#8 with the primes and exponents of one key and the modulus of another.
func mixedRSA(t testing.TB) []byte {
	t.Helper()
	var keys [2]struct {
		Version                   int
		N, E, D, P, Q, Dp, Dq, Qi asn1.RawValue
	}
	for i := range keys {
		pkcs8, _ := hostPair(t, RSA2048)
		key, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := asn1.Unmarshal(x509.MarshalPKCS1PrivateKey(key.(*rsa.PrivateKey)), &keys[i]); err != nil {
			t.Fatal(err)
		}
	}
	keys[0].N = keys[1].N
	pkcs1, err := asn1.Marshal(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := asn1.Marshal(struct {
		Version   int
		Algorithm struct {
			RSA  asn1.ObjectIdentifier
			Null asn1.RawValue
		}
		Private []byte
	}{0, struct {
		RSA  asn1.ObjectIdentifier
		Null asn1.RawValue
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue}, pkcs1})
	if err != nil {
		t.Fatal(err)
	}
	return pkcs8
}
