// Package selftest tries what a token can really do, one test for each thing that the service may
// want of it. A token's list of mechanisms does not say whether one works, nor whether it is the
// algorithm of its name, so each is tried with throw-away keys and compared with the host's own
// cryptography.
package selftest

import (
	"errors"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// Check is the result of one self-test.
type Check struct {
	Name     string // what was tried, with its mechanism
	Need     string // what does not work without it
	Optional bool   // the token is of use without it
	Err      error  // nil when the token does it right
}

// Checks of SelfTest, by name.
const (
	CheckRandom  = "C_GenerateRandom"
	CheckObjects = "token objects are made and destroyed"
	CheckCallers = "token objects are made and destroyed by several callers at once"
	CheckSeal    = "CKM_AES_GCM seals and opens"
	CheckTamper  = "CKM_AES_GCM refuses what was changed"
	CheckHidden  = "sensitive keys can't be read"
	CheckKWP     = "AES-KWP (RFC 5649), against the host"
	CheckInside  = "CKA_UNWRAP_TEMPLATE is kept to"

	CheckDataKey16 = "data keys of 16 bytes are born and wrapped in the token"
	CheckDataKey32 = "data keys of 32 bytes are born and wrapped in the token"
	CheckDataKey64 = "data keys of 64 bytes are born and wrapped in the token"

	CheckMAC224 = "CKM_SHA224_HMAC"
	CheckMAC256 = "CKM_SHA256_HMAC"
	CheckMAC384 = "CKM_SHA384_HMAC"
	CheckMAC512 = "CKM_SHA512_HMAC"

	CheckRSA            = "CKM_RSA_PKCS_KEY_PAIR_GEN"
	CheckPKCS1v15SHA256 = "CKM_RSA_PKCS of SHA-256"
	CheckPKCS1v15SHA384 = "CKM_RSA_PKCS of SHA-384"
	CheckPKCS1v15SHA512 = "CKM_RSA_PKCS of SHA-512"
	CheckPSSSHA256      = "CKM_RSA_PKCS_PSS of SHA-256"
	CheckPSSSHA384      = "CKM_RSA_PKCS_PSS of SHA-384"
	CheckPSSSHA512      = "CKM_RSA_PKCS_PSS of SHA-512"
	CheckOAEPSHA1       = "CKM_RSA_PKCS_OAEP of SHA-1"
	CheckOAEPSHA256     = "OAEP of SHA-256, in the token or with CKM_RSA_X_509" // what DecryptOAEP does
	CheckOAEPInToken    = "CKM_RSA_PKCS_OAEP of SHA-256"                        // else CKM_RSA_X_509

	CheckImportAESSHA1   = "CKM_RSA_PKCS_OAEP of SHA-1 unwraps an AES key"
	CheckImportAESSHA256 = "OAEP of SHA-256 unwraps an AES key"
	CheckImportMACSHA1   = "CKM_RSA_PKCS_OAEP of SHA-1 unwraps a MAC key"
	CheckImportMACSHA256 = "OAEP of SHA-256 unwraps a MAC key"
	CheckImportRSA       = "CKM_RSA_PKCS_OAEP and AES-KWP unwrap an RSA key"
	CheckImportCurve     = "C_CreateObject makes a P-256 private key"
	CheckImportEd25519   = "C_CreateObject makes an Ed25519 private key"

	CheckECDSAP256      = "CKM_ECDSA on P-256"
	CheckECDSAP384      = "CKM_ECDSA on P-384"
	CheckECDSAP521      = "CKM_ECDSA on P-521"
	CheckECDSASecp256k1 = "CKM_ECDSA on secp256k1"
	CheckEd25519        = "CKM_EDDSA of Ed25519"
	CheckEd25519ph      = "CKM_EDDSA of Ed25519ph"
	CheckECDHP256       = "CKM_ECDH1_DERIVE on P-256"
	CheckECDHP384       = "CKM_ECDH1_DERIVE on P-384"
	CheckECDHP521       = "CKM_ECDH1_DERIVE on P-521"

	CheckWrappedRSA       = "AES-KWP of RSA keys"
	CheckWrappedP256      = "AES-KWP of P-256 keys"
	CheckWrappedP384      = "AES-KWP of P-384 keys"
	CheckWrappedP521      = "AES-KWP of P-521 keys"
	CheckWrappedSecp256k1 = "AES-KWP of secp256k1 keys"
	CheckWrappedEd25519   = "AES-KWP of Ed25519 keys"

	CheckMLDSA44 = "CKM_ML_DSA of ML-DSA-44"
	CheckMLDSA65 = "CKM_ML_DSA of ML-DSA-65"
	CheckMLDSA87 = "CKM_ML_DSA of ML-DSA-87"
	CheckMLDSAMu = "CKM_ML_DSA_EXTERNAL_MU"

	CheckMLKEM512  = "CKM_ML_KEM of ML-KEM-512"
	CheckMLKEM768  = "CKM_ML_KEM of ML-KEM-768"
	CheckMLKEM1024 = "CKM_ML_KEM of ML-KEM-1024"

	// CheckSM2 never passes, since PKCS#11 has no SM2. Its error says whether the token knows the
	// curve.
	CheckSM2 = "SM2"
)

// Whether a token must pass a self-test.
const (
	required = false
	optional = true
)

// Test is one self-test. It has a session to itself, which is closed afterwards.
type Test struct {
	name, need string
	optional   bool
	f          func(*session.Session, *Keys) error
}

// Tests gives all self-tests.
func Tests() []Test { return slices.Concat(secretTests, rsaTests, curveTests) }

// Run runs the test in a session. Closing the session destroys the test's keys.
func (t Test) Run(s *session.Session, k *Keys) error {
	s.Broken = true
	return t.f(s, k)
}

// Check gives the result of the test.
func (t Test) Check(err error) Check {
	return Check{Name: t.name, Need: t.need, Optional: t.optional, Err: err}
}

// Keys makes the session objects that the tests use. They end with a test's session, but for the
// RSA pair, which takes long to make and which the tests share.
type Keys struct {
	rsa sharedPair
}

// sharedPair is an RSA-2048 key pair with every permission, an object of the keeper's session.
type sharedPair struct {
	connection *session.Shared
	private    pkcs11.ObjectHandle
	spki       []byte
}

// RSA gives the shared pair. If the token lets only the session use an object that made it, the
// test gets a pair of its own.
func (k *Keys) RSA(s *session.Session) (private pkcs11.ObjectHandle, spki []byte, err error) {
	if k.rsa.connection != s.Shared {
		if err := k.makeRSA(s); err != nil {
			return 0, nil, err
		}
	}
	_, err = s.Attributes(k.rsa.private, pkcs11.CKA_MODULUS)
	if ckr.Has(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
		return s.GeneratePair(keyobject.RSA2048.Info(), testRSATemplate())
	}
	return k.rsa.private, k.rsa.spki, err
}

func (k *Keys) makeRSA(s *session.Session) error {
	return s.InKeeper(func(keeper *session.Session) (err error) {
		k.rsa.private, k.rsa.spki, err = keeper.GeneratePair(keyobject.RSA2048.Info(), testRSATemplate())
		if err == nil {
			k.rsa.connection = s.Shared
		}
		return err
	})
}

// Destroy ends the shared pair. After a loss of its connection it has ended already.
func (k *Keys) Destroy(s *session.Session) error {
	if k.rsa.connection != s.Shared {
		return nil
	}
	return s.InKeeper(func(keeper *session.Session) error { return keeper.Destroy(k.rsa.private) })
}

// accepted is for a call that should have failed.
func accepted(err error) error {
	if err == nil {
		return errors.New("it was accepted")
	}
	return err
}
