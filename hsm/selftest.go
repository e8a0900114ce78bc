package hsm

import (
	"context"
	"io"

	"github.com/miekg/pkcs11"
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
	CheckSeal    = "CKM_AES_GCM seals and opens"
	CheckTamper  = "CKM_AES_GCM refuses what was changed"
	CheckWrapped = "CKM_AES_KEY_WRAP_PAD in the token"
	CheckHidden  = "sensitive keys can't be read"
	CheckInside  = "CKA_UNWRAP_TEMPLATE is kept to"

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
	CheckOAEPInToken    = "CKM_RSA_PKCS_OAEP of SHA-256"                        // its failure only selects CKM_RSA_X_509
	CheckImport         = "CKM_RSA_PKCS_OAEP and CKM_AES_KEY_WRAP_PAD unwrap an RSA key"

	CheckECDSAP256      = "CKM_ECDSA on P-256"
	CheckECDSAP384      = "CKM_ECDSA on P-384"
	CheckECDSAP521      = "CKM_ECDSA on P-521"
	CheckECDSASecp256k1 = "CKM_ECDSA on secp256k1"
	CheckEd25519        = "CKM_EDDSA of Ed25519"
	CheckEd25519ph      = "CKM_EDDSA of Ed25519ph"
	CheckECDHP256       = "CKM_ECDH1_DERIVE on P-256"
	CheckECDHP384       = "CKM_ECDH1_DERIVE on P-384"
	CheckECDHP521       = "CKM_ECDH1_DERIVE on P-521"

	CheckWrappedRSA       = "CKM_AES_KEY_WRAP_PAD of RSA keys"
	CheckWrappedP256      = "CKM_AES_KEY_WRAP_PAD of P-256 keys"
	CheckWrappedP384      = "CKM_AES_KEY_WRAP_PAD of P-384 keys"
	CheckWrappedP521      = "CKM_AES_KEY_WRAP_PAD of P-521 keys"
	CheckWrappedSecp256k1 = "CKM_AES_KEY_WRAP_PAD of secp256k1 keys"
	CheckWrappedEd25519   = "CKM_AES_KEY_WRAP_PAD of Ed25519 keys"

	CheckMLDSA44 = "CKM_ML_DSA of ML-DSA-44"
	CheckMLDSA65 = "CKM_ML_DSA of ML-DSA-65"
	CheckMLDSA87 = "CKM_ML_DSA of ML-DSA-87"
	CheckMLDSAMu = "CKM_ML_DSA_EXTERNAL_MU"

	CheckMLKEM512  = "CKM_ML_KEM of ML-KEM-512"
	CheckMLKEM768  = "CKM_ML_KEM of ML-KEM-768"
	CheckMLKEM1024 = "CKM_ML_KEM of ML-KEM-1024"

	// CheckSM2 never passes, since PKCS#11 has no SM2. Its error says what the token makes of the curve.
	CheckSM2 = "SM2"
)

// Whether a token must pass a self-test.
const (
	required = false
	optional = true
)

type selfTest struct {
	name, need string
	optional   bool
	f          func(*session, *testKeys) error
}

// testKeys are session objects that the self-tests of a group share.
type testKeys struct {
	rand       io.Reader
	seal, wrap pkcs11.ObjectHandle
	rsa        pkcs11.ObjectHandle
	rsaPublic  []byte // SubjectPublicKeyInfo
}

// SelfTest tries every algorithm with throw-away session keys, since the mechanism list of a token tells neither
// whether a mechanism works nor whether it is the algorithm that it is called. What it finds of the token's ways is
// remembered for the connection.
func (t *Token) SelfTest(ctx context.Context) []Check {
	var checks []Check
	for _, group := range []struct {
		prepare func(*session, *testKeys) error
		tests   []selfTest
	}{
		{(*session).makeTestKeys, secretTests},
		{(*session).makeTestRSA, rsaTests},
		{(*session).makeTestKeys, curveTests},
	} {
		results, err := runGenerate(ctx, t, func(s *session) ([]Check, error) {
			s.broken = true // closing the session destroys its keys
			k := &testKeys{rand: t.cfg.Rand}
			if err := group.prepare(s, k); err != nil {
				return nil, err
			}
			var results []Check
			for _, test := range group.tests {
				err := test.f(s, k)
				if lost(err) {
					return nil, err
				}
				results = append(results, test.check(err))
			}
			return results, nil
		})
		if err != nil {
			results = nil
			for _, test := range group.tests {
				results = append(results, test.check(err))
			}
		}
		checks = append(checks, results...)
	}
	return checks
}

func (t selfTest) check(err error) Check {
	return Check{Name: t.name, Need: t.need, Optional: t.optional, Err: err}
}
