package hsm

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
)

// testImportSecret imports a secret, as Import does, into a session object. Some tokens make an object
// of it that can leave them, whatever the template says.
func testImportSecret(name string, p Purpose, hash crypto.Hash) selfTest {
	what := "encryption keys"
	if p.hash() != 0 {
		what = "MAC keys"
	}
	return selfTest{name, fmt.Sprintf("import of %s under OAEP of %v", what, hash), optional,
		withRSA(func(s *session, private pkcs11.ObjectHandle, _ *rsa.PublicKey) error {
			u, err := s.unwrapper(private, keyTypes[RSA2048], hash)
			if err != nil {
				return err
			}
			secret := make([]byte, p.size())
			if _, err := rand.Read(secret); err != nil {
				return err
			}
			wrapped, err := s.encryptOAEP(private, keyTypes[RSA2048], hash, secret)
			if err != nil {
				return err
			}
			h, err := u.secret(append(p.template(), sessionObject()...), p.size(), wrapped)
			if err != nil {
				return err
			}
			if err := s.staysInside(h); err != nil {
				return err
			}
			_, err = s.checkValue(h, p)
			return err
		})}
}

// testImportRSA imports the test key itself, wrapped in the token under an AES key that the host has made.
func (s *session) testImportRSA(private pkcs11.ObjectHandle, public *rsa.PublicKey) error {
	mechanism, err := s.kwp()
	if err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		u, err := s.unwrapper(private, keyTypes[RSA2048], hash)
		if err != nil {
			return err
		}
		aes := make([]byte, aesKeySize)
		if _, err := rand.Read(aes); err != nil {
			return err
		}
		front, err := s.encryptOAEP(private, keyTypes[RSA2048], hash, aes)
		if err != nil {
			return err
		}
		wrapping, err := u.secret(append(Wrap.template(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)), aesKeySize, front)
		if err != nil {
			return fmt.Errorf("%v: %w", hash, err)
		}
		wrapped, err := s.wrapKey(mechanism, nil, wrapping, private, kwpSize(privateKeyBound))
		if err != nil {
			return err
		}
		h, imported, err := u.rsaPair(KeyPair{Type: RSA2048, Purpose: SignPair}, keyTypes[RSA2048],
			append(pairTemplate(keyTypes[RSA2048], SignPair, false), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)), append(front, wrapped...))
		if err != nil {
			return fmt.Errorf("%v: %w", hash, err)
		}
		if !bytes.Equal(imported, spki) {
			return errors.New("another key came out")
		}
		if err := s.staysInside(h); err != nil {
			return err
		}
	}
	return nil
}

// testImportCurve creates a private key that the host has made.
func testImportCurve(name string, kt KeyType) selfTest {
	return selfTest{name, fmt.Sprintf("import of %s private keys and those of its kind", kt), optional, func(s *session, _ *testKeys) error {
		private, err := hostKey(kt)
		if err != nil {
			return err
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return err
		}
		defer clear(pkcs8)
		h, spki, err := s.createPair(keyTypes[kt], append(pairTemplate(keyTypes[kt], SignPair, false),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)), pkcs8)
		if err != nil {
			return err
		}
		scheme := Scheme{ECDSA, crypto.SHA256}
		if kt == Ed25519 {
			scheme = Scheme{Algorithm: PureEdDSA}
		}
		return errors.Join(s.signsForHost(h, spki, kt, scheme), s.staysInside(h))
	}}
}

func hostKey(kt KeyType) (any, error) {
	if kt == Ed25519 {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		return private, err
	}
	return ecdh.P256().GenerateKey(rand.Reader)
}
