package selftest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// rsaTests are the self-tests of RSA.
var rsaTests = []Test{
	{
		CheckRSA, "RSA key pairs", optional,
		withRSA(func(*session.Session, pkcs11.ObjectHandle, *rsa.PublicKey) error { return nil }),
	},
	testRSASignature(CheckPKCS1v15SHA256, session.Scheme{Algorithm: session.PKCS1v15, Hash: crypto.SHA256}),
	testRSASignature(CheckPKCS1v15SHA384, session.Scheme{Algorithm: session.PKCS1v15, Hash: crypto.SHA384}),
	testRSASignature(CheckPKCS1v15SHA512, session.Scheme{Algorithm: session.PKCS1v15, Hash: crypto.SHA512}),
	testRSASignature(CheckPSSSHA256, session.Scheme{Algorithm: session.PSS, Hash: crypto.SHA256}),
	testRSASignature(CheckPSSSHA384, session.Scheme{Algorithm: session.PSS, Hash: crypto.SHA384}),
	testRSASignature(CheckPSSSHA512, session.Scheme{Algorithm: session.PSS, Hash: crypto.SHA512}),
	{CheckOAEPSHA1, "RSA decryption with SHA-1", optional, testOAEP(crypto.SHA1)},
	{CheckOAEPInToken, "OAEP of SHA-256 all in the token", optional, withRSA(testOAEPInToken)},
	{CheckOAEPSHA256, "RSA decryption with SHA-256", optional, testOAEP(crypto.SHA256)},
	{CheckWrappedRSA, "RSA data key pairs that are born and wrapped in the token", optional, withRSA(testWrappedRSA)},
	testImportSecret(CheckImportAESSHA1, keyobject.Seal, crypto.SHA1),
	testImportSecret(CheckImportAESSHA256, keyobject.Seal, crypto.SHA256),
	testImportSecret(CheckImportMACSHA1, keyobject.MAC256, crypto.SHA1),
	testImportSecret(CheckImportMACSHA256, keyobject.MAC256, crypto.SHA256),
	{CheckImportRSA, "import of RSA keys", optional, withRSA(testImportRSA)},
	testImportCurve(CheckImportCurve, keyobject.P256),
	testImportCurve(CheckImportEd25519, keyobject.Ed25519),
}

// testRSATemplate is the template of a private key with every permission that ends with its session.
func testRSATemplate() []*pkcs11.Attribute {
	return []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
	}
}

// withRSA is a self-test with the shared pair.
func withRSA(
	f func(s *session.Session, private pkcs11.ObjectHandle, public *rsa.PublicKey) error,
) func(*session.Session, *Keys) error {
	return func(s *session.Session, k *Keys) error {
		private, spki, err := k.RSA(s)
		if err != nil {
			return err
		}
		key, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			return err
		}
		return f(s, private, key.(*rsa.PublicKey))
	}
}

func testRSASignature(name string, scheme session.Scheme) Test {
	return Test{
		name,
		"RSA signatures of this kind",
		optional,
		withRSA(func(s *session.Session, private pkcs11.ObjectHandle, public *rsa.PublicKey) error {
			digest := bytes.Repeat([]byte{0x5a}, scheme.Hash.Size())
			call, err := scheme.Call(keyobject.RSA2048, digest)
			if err != nil {
				return err
			}
			signature, err := s.Sign(private, call)
			if err != nil {
				return err
			}
			if scheme.Algorithm == session.PSS {
				return rsa.VerifyPSS(
					public, scheme.Hash, digest, signature,
					&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
				)
			}
			return rsa.VerifyPKCS1v15(public, scheme.Hash, digest, signature)
		}),
	}
}

func testOAEPInToken(s *session.Session, private pkcs11.ObjectHandle, _ *rsa.PublicKey) error {
	refused, err := s.RefusesOAEPOf(private)
	if err == nil && refused {
		err = fmt.Errorf("%w: the padding is taken off outside of it", ckr.ErrUnsupported)
	}
	return err
}

func testOAEP(hash crypto.Hash) func(*session.Session, *Keys) error {
	return withRSA(func(s *session.Session, private pkcs11.ObjectHandle, _ *rsa.PublicKey) error {
		decrypt, err := s.OAEPDecrypter(hash)
		if err != nil {
			return err
		}
		want := []byte("RSAES-OAEP")
		ciphertext, err := s.EncryptOAEP(private, keyobject.RSA2048.Info(), hash, want)
		if err != nil {
			return err
		}
		got, err := s.CheckedOAEP(private, keyobject.RSA2048.Info(), hash, ciphertext, decrypt)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return errors.New("another plaintext came back")
		}
		ciphertext[len(ciphertext)-1] ^= 1
		if _, err := s.CheckedOAEP(private,
			keyobject.RSA2048.Info(), hash, ciphertext, decrypt); !errors.Is(err, ckr.ErrAuthentication) {
			return fmt.Errorf("a changed ciphertext: %w", accepted(err))
		}
		return nil
	})
}

func testWrappedRSA(s *session.Session, private pkcs11.ObjectHandle, public *rsa.PublicKey) error {
	mechanism, wrapping, err := s.NewKWPKey()
	if err != nil {
		return err
	}
	wrapped, err := s.WrapKey(mechanism, nil, wrapping, private, session.KWPSize(keyobject.PrivateKeyBound))
	if err != nil {
		return err
	}
	pkcs8, err := s.UnwrapDER([]uint{mechanism}, wrapping, wrapped)
	if err != nil {
		return err
	}
	defer clear(pkcs8)
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return err
	}
	if unwrapped, ok := key.(*rsa.PrivateKey); !ok || !unwrapped.PublicKey.Equal(public) {
		return errors.New("another key was wrapped")
	}
	return nil
}
