package tokentest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"hash"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/verenc/kms/hsm"
)

// wrapSecret is RSAES-OAEP with an empty label, by the host.
func wrapSecret(public any, newHash func() hash.Hash, secret []byte) ([]byte, error) {
	return rsa.EncryptOAEP(newHash(), rand.Reader, public.(*rsa.PublicKey), secret, nil)
}

// importSecret imports bytes that the host knows, and has the host check what the token makes with
// them.
func importSecret(p hsm.Purpose, a hsm.ImportAlgorithm, newHash func() hash.Hash) func(*suite) error {
	return func(s *suite) error {
		wrapping, public, _, destroy, err := s.keyPair(hsm.RSA2048, hsm.UnwrapPair)
		defer destroy()
		if err != nil {
			return err
		}
		secret := make([]byte, 32)
		_, _ = rand.Read(secret) // never fails
		wrapped, err := wrapSecret(public, newHash, secret)
		if err != nil {
			return err
		}
		id, destroyImported := s.newID()
		defer destroyImported()
		if _, err = s.token.Import(s.ctx,
			hsm.Import{Wrapping: wrapping, WrappingType: hsm.RSA2048, Algorithm: a, Wrapped: wrapped,
				Secret: &hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: p}}); err != nil {
			return err
		}
		if p == hsm.Seal {
			return s.sealsLikeHost(id, secret)
		}
		got, err := s.token.MAC(s.ctx, id, crypto.SHA256, []byte("message"))
		want := hmac.New(sha256.New, secret)
		want.Write([]byte("message"))
		if err != nil || !hmac.Equal(got, want.Sum(nil)) {
			return wrong(err, "another MAC than the host's")
		}
		return nil
	}
}

// sealsLikeHost opens on the host what the token has sealed, and the other way round.
func (s *suite) sealsLikeHost(id hsm.ObjectID, secret []byte) error {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return err
	}
	box, err := s.token.Encrypt(s.ctx, id, []byte("message"), []byte("aad"))
	if err != nil {
		return err
	}
	if got, err := gcm.Open(nil, box[:gcm.NonceSize()], box[gcm.NonceSize():], []byte("aad")); err != nil ||
		string(got) != "message" {
		return wrong(err, "the host does not open the token's box")
	}
	iv := bytes.Repeat([]byte{9}, gcm.NonceSize())
	box = gcm.Seal(iv, iv, []byte("message"), []byte("aad"))
	if got, err := s.token.Decrypt(s.ctx, id, box, []byte("aad")); err != nil || string(got) != "message" {
		return wrong(err, "the token does not open the host's box")
	}
	return nil
}

// importPair imports a private key of the host's under RSAAESKeyWrap, and has the host verify its
// signature.
func importPair(kt hsm.KeyType, scheme hsm.Scheme, a hsm.ImportAlgorithm, newHash func() hash.Hash) func(*suite) error {
	return func(s *suite) error {
		wrapping, public, _, destroy, err := s.keyPair(hsm.RSA2048, hsm.UnwrapPair)
		defer destroy()
		if err != nil {
			return err
		}
		private, err := hostKey(kt)
		if err != nil {
			return err
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return err
		}
		kek := make([]byte, 32)
		_, _ = rand.Read(kek) // never fails
		first, err := wrapSecret(public, newHash, kek)
		if err != nil {
			return err
		}
		kwp, err := subtle.NewKWP(kek)
		if err != nil {
			return err
		}
		second, err := kwp.Wrap(pkcs8)
		if err != nil {
			return err
		}
		id, destroyImported := s.newID()
		defer destroyImported()
		imported, err := s.token.Import(s.ctx, hsm.Import{Wrapping: wrapping, WrappingType: hsm.RSA2048, Algorithm: a,
			Wrapped: append(
				first,
				second...), Pair: &hsm.KeyPair{ID: id, Label: "verenc/tokentest", Type: kt, Purpose: hsm.SignPair}})
		if err != nil {
			return err
		}
		want, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil || !bytes.Equal(imported.Public, want) {
			return wrong(err, "another public key than the host's")
		}
		return s.signs(id, kt, scheme, imported.Public)
	}
}

// hostKey generates a key pair on the host.
func hostKey(kt hsm.KeyType) (crypto.Signer, error) {
	switch kt {
	case hsm.RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case hsm.P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case hsm.Ed25519:
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return nil, fmt.Errorf("the suite makes no %s on the host", kt)
}
