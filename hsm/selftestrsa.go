package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// rsaTests are the self-tests of RSA, with the one key pair of makeTestRSA.
var rsaTests = []selfTest{
	{CheckRSA, "RSA key pairs", optional, func(*session, *testKeys) error { return nil }},
	testRSASignature(CheckPKCS1v15SHA256, Scheme{PKCS1v15, crypto.SHA256}),
	testRSASignature(CheckPKCS1v15SHA384, Scheme{PKCS1v15, crypto.SHA384}),
	testRSASignature(CheckPKCS1v15SHA512, Scheme{PKCS1v15, crypto.SHA512}),
	testRSASignature(CheckPSSSHA256, Scheme{PSS, crypto.SHA256}),
	testRSASignature(CheckPSSSHA384, Scheme{PSS, crypto.SHA384}),
	testRSASignature(CheckPSSSHA512, Scheme{PSS, crypto.SHA512}),
	{CheckOAEPSHA1, "RSA decryption with SHA-1", optional, testOAEP(crypto.SHA1)},
	{CheckOAEPInToken, "OAEP of SHA-256 all in the token", optional, (*session).testOAEPInToken},
	{CheckOAEPSHA256, "RSA decryption with SHA-256", optional, testOAEP(crypto.SHA256)},
	{CheckWrappedRSA, "RSA data key pairs that are born and wrapped in the token", optional, (*session).testWrappedRSA},
	{CheckImport, "import of RSA keys", optional, (*session).testImport},
}

// makeTestRSA makes one key pair for all tests, since it takes long. It has every permission, and ends with the session.
func (s *session) makeTestRSA(k *testKeys) error {
	if err := s.makeTestKeys(k); err != nil {
		return err
	}
	var err error
	k.rsa, k.rsaPublic, err = s.generatePair(keyTypes[RSA2048], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_UNWRAP, true),
	})
	return err
}

func (k *testKeys) public() (*rsa.PublicKey, error) {
	key, err := x509.ParsePKIXPublicKey(k.rsaPublic)
	if err != nil {
		return nil, err
	}
	return key.(*rsa.PublicKey), nil
}

func testRSASignature(name string, scheme Scheme) selfTest {
	return selfTest{name, "RSA signatures of this kind", optional, func(s *session, k *testKeys) error {
		public, err := k.public()
		if err != nil {
			return err
		}
		digest := bytes.Repeat([]byte{0x5a}, scheme.Hash.Size())
		call, err := scheme.call(RSA2048, digest)
		if err != nil {
			return err
		}
		signature, err := s.sign(k.rsa, call)
		if err != nil {
			return err
		}
		if scheme.Algorithm == PSS {
			return rsa.VerifyPSS(public, scheme.Hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.VerifyPKCS1v15(public, scheme.Hash, digest, signature)
	}}
}

func (s *session) testOAEPInToken(k *testKeys) error {
	refused, err := s.refusesSHA256.get(func() (bool, error) { return s.refusesOAEP(k.rsa) })
	if err == nil && refused {
		err = fmt.Errorf("%w: the padding is taken off outside of it", ErrUnsupported)
	}
	return err
}

func testOAEP(hash crypto.Hash) func(*session, *testKeys) error {
	return func(s *session, k *testKeys) error {
		decrypt, err := s.oaepDecrypter(hash)
		if err != nil {
			return err
		}
		want := []byte("RSAES-OAEP")
		ciphertext, err := s.encryptOAEP(k.rsa, keyTypes[RSA2048], hash, want)
		if err != nil {
			return err
		}
		got, err := s.checkedOAEP(k.rsa, keyTypes[RSA2048], hash, ciphertext, decrypt)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return errors.New("another plaintext came back")
		}
		ciphertext[len(ciphertext)-1] ^= 1
		if _, err := s.checkedOAEP(k.rsa, keyTypes[RSA2048], hash, ciphertext, decrypt); !errors.Is(err, ErrAuthentication) {
			return fmt.Errorf("a changed ciphertext: %w", accepted(err))
		}
		return nil
	}
}

func (s *session) testWrappedRSA(k *testKeys) error {
	wrapped, err := s.wrapKey(s.profile.wrap, k.wrap, k.rsa, kwpSize(privateKeyBound))
	if err != nil {
		return err
	}
	pkcs8, err := s.unwrapDER(k.wrap, wrapped)
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return err
	}
	public, err := k.public()
	if private, ok := key.(*rsa.PrivateKey); err == nil && (!ok || !private.PublicKey.Equal(public)) {
		err = errors.New("another key was wrapped")
	}
	return err
}

// testImport brings the test key in once more, wrapped in the token under an AES key that the host has made.
func (s *session) testImport(k *testKeys) error {
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		u, err := s.unwrapper(k.rsa, keyTypes[RSA2048], hash)
		if err != nil {
			return err
		}
		aes := make([]byte, aesKeySize)
		if _, err := rand.Read(aes); err != nil {
			return err
		}
		front, err := s.encryptOAEP(k.rsa, keyTypes[RSA2048], hash, aes)
		if err != nil {
			return err
		}
		wrapping, err := u.secret(append(Wrap.template(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)), aesKeySize, front)
		if err != nil {
			return fmt.Errorf("%v: %w", hash, err)
		}
		wrapped, err := s.wrapKey(s.profile.wrap, wrapping, k.rsa, kwpSize(privateKeyBound))
		if err != nil {
			return err
		}
		h, spki, err := u.rsaPair(KeyPair{Type: RSA2048, Purpose: SignPair}, keyTypes[RSA2048],
			append(pairTemplate(keyTypes[RSA2048], SignPair, false), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)), append(front, wrapped...))
		if err != nil {
			return fmt.Errorf("%v: %w", hash, err)
		}
		if !bytes.Equal(spki, k.rsaPublic) {
			return errors.New("another key came out")
		}
		if err := s.staysInside(h); err != nil {
			return err
		}
	}
	return nil
}
