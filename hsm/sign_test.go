package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/miekg/pkcs11"
)

// secp256k1Key reads a SubjectPublicKeyInfo that crypto/x509 does not know.
func secp256k1Key(t testing.TB, spki []byte) *secp256k1.PublicKey {
	t.Helper()
	var info struct {
		Algorithm struct{ EC, Curve asn1.ObjectIdentifier }
		PublicKey asn1.BitString
	}
	rest, err := asn1.Unmarshal(spki, &info)
	if err != nil || len(rest) != 0 {
		t.Fatalf("%x: %v", spki, err)
	}
	if info.Algorithm.EC.String() != "1.2.840.10045.2.1" || info.Algorithm.Curve.String() != "1.3.132.0.10" {
		t.Errorf("%v", info.Algorithm)
	}
	public, err := secp256k1.ParsePubKey(info.PublicKey.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// verify is Go's word on a signature.
func verify(t testing.TB, spki []byte, kt KeyType, s Scheme, message, signature []byte) error {
	t.Helper()
	if kt == Secp256k1 {
		parsed, err := secp256k1ecdsa.ParseDERSignature(signature)
		if err != nil {
			return err
		}
		if !parsed.Verify(message, secp256k1Key(t, spki)) {
			return errors.New("wrong signature")
		}
		return nil
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	switch key := key.(type) {
	case *rsa.PublicKey:
		if s.Algorithm == PSS {
			return rsa.VerifyPSS(key, s.Hash, message, signature, &rsa.PSSOptions{SaltLength: s.Hash.Size()})
		}
		return rsa.VerifyPKCS1v15(key, s.Hash, message, signature)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(key, message, signature) {
			return errors.New("wrong signature")
		}
		return nil
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(key, message, signature, &ed25519.Options{Hash: s.Hash})
	}
	return fmt.Errorf("a %T", key)
}

func TestSignatures(t *testing.T) {
	token := connect(t)
	hashes := []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}
	for _, kt := range allTypes {
		key, spki := newKeyPair(t, token, kt, SignPair)
		var schemes []Scheme
		switch {
		case kt.Info().RSA():
			for _, hash := range hashes {
				schemes = append(schemes, Scheme{Algorithm: PKCS1v15, Hash: hash}, Scheme{Algorithm: PSS, Hash: hash})
			}
		case kt == Ed25519:
			schemes = append(schemes, Scheme{Algorithm: PureEdDSA})
		default:
			for _, hash := range hashes {
				schemes = append(schemes, Scheme{Algorithm: ECDSA, Hash: hash})
			}
		}
		for _, scheme := range schemes {
			message := bytes.Repeat([]byte{0x5a}, 4096)
			if scheme.Hash != 0 {
				message = message[:scheme.Hash.Size()]
			}
			for i := range 8 { // r and s are short now and then
				if scheme.Hash == 0 {
					message = message[:i] // nothing at all is a message too
				}
				signature, err := token.Sign(t.Context(), key, kt, scheme, message)
				if err != nil {
					t.Errorf("%v %v: %v", kt, scheme, err)
					break
				}
				if err := verify(t, spki, kt, scheme, message, signature); err != nil {
					t.Errorf("%v %v: %v", kt, scheme, err)
				}
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	token := connect(t)
	p256, _ := newKeyPair(t, token, P256, SignPair)
	derives, _ := newKeyPair(t, token, P256, DerivePair)
	decrypts, _ := newKeyPair(t, token, RSA2048, DecryptPair)
	for name, test := range map[string]struct {
		key     ObjectID
		kt      KeyType
		scheme  Scheme
		message int
	}{
		"short digest":     {p256, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, 31},
		"long digest":      {p256, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, 33},
		"no hash":          {p256, P256, Scheme{Algorithm: ECDSA}, 32},
		"SHA-1":            {p256, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA1}, 20},
		"RSA's":            {p256, P256, Scheme{Algorithm: PSS, Hash: crypto.SHA256}, 32},
		"no algorithm":     {p256, P256, Scheme{Hash: crypto.SHA256}, 32},
		"hash of EdDSA":    {p256, Ed25519, Scheme{Algorithm: PureEdDSA, Hash: crypto.SHA512}, 64},
		"no type":          {p256, 0, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, 32},
		"another purpose":  {derives, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, 32},
		"a decrypting key": {decrypts, RSA2048, Scheme{Algorithm: PKCS1v15, Hash: crypto.SHA256}, 32},
		"another type":     {p256, P384, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, 32},
	} {
		if _, err := token.Sign(t.Context(), test.key, test.kt, test.scheme, make([]byte, test.message)); err == nil {
			t.Errorf("%s: it was signed", name)
		}
	}
}

// TestNoPureSignatureForEd25519ph: SoftHSM ignores the parameters of CKM_EDDSA.
func TestNoPureSignatureForEd25519ph(t *testing.T) {
	token := connect(t)
	key, spki := newKeyPair(t, token, Ed25519, SignPair)
	digest := make([]byte, 64)
	for range 2 {
		signature, err := token.Sign(
			t.Context(), key, Ed25519, Scheme{Algorithm: HashEdDSA, Hash: crypto.SHA512}, digest,
		)
		if err == nil {
			err = verify(t, spki, Ed25519, Scheme{Algorithm: HashEdDSA, Hash: crypto.SHA512}, digest, signature)
		} else if errors.Is(err, ErrUnsupported) {
			err = nil
		}
		if err != nil {
			t.Error(err)
		}
	}
}

var macPurposes = map[Purpose]crypto.Hash{
	MAC224: crypto.SHA224, MAC256: crypto.SHA256, MAC384: crypto.SHA384, MAC512: crypto.SHA512,
}

func TestMAC(t *testing.T) {
	token := connect(t)
	for purpose, hash := range macPurposes {
		one, two := newSecret(t, token, purpose), newSecret(t, token, purpose)
		for _, message := range [][]byte{nil, []byte("m"), bytes.Repeat([]byte{7}, 4096)} {
			a, err := token.MAC(t.Context(), one, hash, message)
			if err != nil || len(a) != hash.Size() {
				t.Fatalf("%v: %x, %v", hash, a, err)
			}
			again, err := token.MAC(t.Context(), one, hash, message)
			if err != nil || !bytes.Equal(a, again) {
				t.Errorf("%v: %x then %x, %v", hash, a, again, err)
			}
			b, err := token.MAC(t.Context(), two, hash, message)
			if err != nil || bytes.Equal(a, b) {
				t.Errorf("%v: two keys give %x, %v", hash, b, err)
			}
		}
		want := map[uint]bool{
			pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false,
			pkcs11.CKA_NEVER_EXTRACTABLE: true, pkcs11.CKA_MODIFIABLE: false,
			pkcs11.CKA_SIGN: true, pkcs11.CKA_VERIFY: true,
			pkcs11.CKA_ENCRYPT: false, pkcs11.CKA_DECRYPT: false,
			pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false,
			pkcs11.CKA_DERIVE: false,
		}
		checkAttributes(t, token, one, want)
	}
	seal := newSecret(t, token, Seal)
	checkAttributes(
		t, token, seal,
		map[uint]bool{pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_DERIVE: false},
	)
	if mac, err := token.MAC(t.Context(), seal, crypto.SHA256, nil); err == nil {
		t.Errorf("a sealing key gives the MAC %x", mac)
	}
	if mac, err := token.MAC(t.Context(), newSecret(t, token, MAC512), crypto.SHA1, nil); err == nil {
		t.Errorf("SHA-1 gives %x", mac)
	}
	if err := token.GenerateSecretKey(t.Context(), SecretKey{ID: newID(t), Purpose: MAC512 + 1}); err == nil {
		t.Error("a purpose that is none was taken")
	}
}

func BenchmarkSign(b *testing.B) {
	token := connect(b)
	for kt, scheme := range map[KeyType]Scheme{RSA2048: {Algorithm: PSS, Hash: crypto.SHA256},
		P256: {Algorithm: ECDSA, Hash: crypto.SHA256}, Secp256k1: {Algorithm: ECDSA, Hash: crypto.SHA256},
		Ed25519: {Algorithm: PureEdDSA}} {
		key, _ := newKeyPair(b, token, kt, SignPair)
		b.Run(kt.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := token.Sign(b.Context(), key, kt, scheme, make([]byte, 32)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
