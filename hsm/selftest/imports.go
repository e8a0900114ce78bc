package selftest

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// testImportSecret imports a secret, as Import does, into a session object. Some tokens make it
// extractable, whatever the template says.
func testImportSecret(name string, p keyobject.Purpose, hash crypto.Hash) Test {
	what := "encryption keys"
	if p.Hash() != 0 {
		what = "MAC keys"
	}
	return Test{name, fmt.Sprintf("import of %s under OAEP of %v", what, hash), optional,
		withRSA(func(s *session.Session, private pkcs11.ObjectHandle, _ *rsa.PublicKey) error {
			u, err := s.Unwrapper(private, keyobject.RSA2048.Info(), hash)
			if err != nil {
				return err
			}
			secret := make([]byte, p.Size())
			if _, err := rand.Read(secret); err != nil {
				return err
			}
			wrapped, err := s.EncryptOAEP(private, keyobject.RSA2048.Info(), hash, secret)
			if err != nil {
				return err
			}
			h, err := u.Secret(append(p.Template(), keyobject.SessionObject()...), p.Size(), wrapped)
			if err != nil {
				return err
			}
			if err := s.CheckNotExtractable(h); err != nil {
				return err
			}
			_, err = s.CheckValue(h, p)
			return err
		})}
}

// testImportRSA imports the test key itself, wrapped in the token under an AES key that the host
// has made.
func testImportRSA(s *session.Session, private pkcs11.ObjectHandle, public *rsa.PublicKey) error {
	mechanism, err := s.KWP()
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		u, err := s.Unwrapper(private, keyobject.RSA2048.Info(), hash)
		if err != nil {
			return err
		}
		aes := make([]byte, keyobject.AESKeySize)
		if _, err := rand.Read(aes); err != nil {
			return err
		}
		front, err := s.EncryptOAEP(private, keyobject.RSA2048.Info(), hash, aes)
		if err != nil {
			return err
		}
		wrapping, err := u.Secret(
			append(keyobject.Wrap.Template(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)),
			keyobject.AESKeySize, front,
		)
		if err != nil {
			return fmt.Errorf("%v: %w", hash, err)
		}
		wrapped, err := s.WrapKey(mechanism, nil, wrapping, private, session.KWPSize(keyobject.PrivateKeyBound))
		if err != nil {
			return err
		}
		h, imported, err := u.RSAPair(
			keyobject.Pair{Type: keyobject.RSA2048, Purpose: keyobject.SignPair},
			keyobject.RSA2048.Info(),
			append(
				keyobject.PairTemplate(keyobject.RSA2048.Info(), keyobject.SignPair, false),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			),
			append(front, wrapped...),
		)
		if err != nil {
			return fmt.Errorf("%v: %w", hash, err)
		}
		if !bytes.Equal(imported, spki) {
			return errors.New("another key came out")
		}
		if err := s.CheckNotExtractable(h); err != nil {
			return err
		}
	}
	return nil
}

// testImportCurve creates an object of a private key that the host has generated.
func testImportCurve(name string, kt keyobject.Type) Test {
	return Test{
		name,
		fmt.Sprintf("import of %s private keys and those of its kind", kt),
		optional,
		func(s *session.Session, _ *Keys) error {
			private, err := hostKey(kt)
			if err != nil {
				return err
			}
			pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
			if err != nil {
				return err
			}
			defer clear(pkcs8)
			h, spki, err := s.CreatePair(kt.Info(), append(
				keyobject.PairTemplate(kt.Info(), keyobject.SignPair, false),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
			), pkcs8)
			if err != nil {
				return err
			}
			scheme := session.Scheme{Algorithm: session.ECDSA, Hash: crypto.SHA256}
			if kt == keyobject.Ed25519 {
				scheme = session.Scheme{Algorithm: session.PureEdDSA}
			}
			return errors.Join(signsForHost(s, h, spki, kt, scheme), s.CheckNotExtractable(h))
		},
	}
}

func hostKey(kt keyobject.Type) (any, error) {
	if kt == keyobject.Ed25519 {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return ecdh.P256().GenerateKey(rand.Reader)
}
