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
