package hsm

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

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
	CheckObjects = "token objects are made and destroyed"
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
	CheckOAEPInToken    = "CKM_RSA_PKCS_OAEP of SHA-256"                        // its failure only selects CKM_RSA_X_509

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

// testKeys makes the session objects that a self-test uses. They end with the test's session, but for the
// RSA pair, which takes long to make and which the tests share.
type testKeys struct {
	rand   io.Reader
	shared *sharedPair
}

// sharedPair is an RSA-2048 key pair with every permission, an object of the keeper's session.
type sharedPair struct {
	conn    *conn
	private pkcs11.ObjectHandle
	spki    []byte
}

// SelfTest tries every algorithm with throw-away session keys, since the mechanism list of a token tells neither
// whether a mechanism works nor whether it is the algorithm that it is called. Each test has a session and a deadline
// of its own (Config.GenerateTimeout), and fails alone. What it finds of the token's ways is remembered for the connection.
//
// When the connection is lost meanwhile, the tests begin again, once.
func (t *Token) SelfTest(ctx context.Context) []Check {
	before := t.current.Load()
	checks := t.selfTest(ctx)
	if t.current.Load() != before {
		checks = t.selfTest(ctx)
	}
	return checks
}

func (t *Token) selfTest(ctx context.Context) (checks []Check) {
	shared := &sharedPair{}
	for _, test := range slices.Concat(secretTests, rsaTests, curveTests) {
		_, err := runGenerate(ctx, t, func(s *session) (struct{}, error) {
			s.broken = true // closing the session destroys its keys
			return struct{}{}, test.f(s, &testKeys{rand: t.cfg.Rand, shared: shared})
		})
		checks = append(checks, Check{Name: test.name, Need: test.need, Optional: test.optional, Err: err})
		if errors.Is(err, ErrUnavailable) {
			t.awaitConnection(ctx)
		}
	}
	if shared.conn != nil {
		_, _ = run(ctx, t, func(s *session) (struct{}, error) { return struct{}{}, shared.destroy(s) }) // else it ends with the connection
	}
	return checks
}

// awaitConnection waits for the next connection after a test that has ended the last one, so that the tests behind it have
// one. A module may crash the process that it has of its own.
func (t *Token) awaitConnection(ctx context.Context) {
	deadline := time.NewTimer(t.cfg.ConnectTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for t.current.Load() == nil {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-poll.C:
		}
	}
}

// rsa gives the shared pair. A token may let only the session use an object that made it; there the test
// gets a pair of its own.
func (k *testKeys) rsa(s *session) (private pkcs11.ObjectHandle, spki []byte, err error) {
	if k.shared.conn != s.conn {
		if err := k.shared.make(s); err != nil {
			return 0, nil, err
		}
	}
	_, err = s.attributes(k.shared.private, pkcs11.CKA_MODULUS)
	if hasCode(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) {
		return s.generatePair(keyTypes[RSA2048], testRSATemplate())
	}
	return k.shared.private, k.shared.spki, err
}

func (p *sharedPair) make(s *session) (err error) {
	s.held.unwrapping.Lock()
	defer s.held.unwrapping.Unlock()
	keeper := session{conn: s.conn, handle: s.keeper}
	p.private, p.spki, err = keeper.generatePair(keyTypes[RSA2048], testRSATemplate())
	if err == nil {
		p.conn = s.conn
	}
	return err
}

func (p *sharedPair) destroy(s *session) error {
	if p.conn != s.conn {
		return nil
	}
	s.held.unwrapping.Lock()
	defer s.held.unwrapping.Unlock()
	keeper := session{conn: s.conn, handle: s.keeper}
	return keeper.destroy(p.private)
}
