package hsm

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"
)

// probes are what must be known of a token before it can be used right, found out once a connection: by SelfTest, or
// when they are needed first.
type probes struct {
	refusesSHA256  probe[bool] // CKM_RSA_PKCS_OAEP does not take SHA-256
	ignoresPrehash probe[bool] // CKM_EDDSA signs Ed25519 when it is asked for Ed25519ph
	kwp            probe[kwpMechanism]
	ivSource       probe[ivSource]
	secretSizes    secretSizes
}

// probe is one fact. An attempt that fails leaves it unknown.
type probe[T any] struct {
	finding sync.Mutex
	known   atomic.Pointer[T] // changed under finding
}

func (p *probe[T]) get(find func() (T, error)) (value T, err error) {
	if known := p.known.Load(); known != nil {
		return *known, nil
	}
	p.finding.Lock()
	defer p.finding.Unlock()
	if known := p.known.Load(); known != nil {
		return *known, nil
	}
	if value, err = find(); err == nil {
		p.known.Store(&value)
	}
	return value, err
}

// supportsEd25519ph gives ErrUnsupported on a token that signs something else.
func (t *Token) supportsEd25519ph(ctx context.Context) error {
	ignored, err := run(ctx, t, func(s *session) (bool, error) { return s.ignoresPrehash.get(s.findPrehash) })
	if err == nil && ignored {
		err = fmt.Errorf("%w: it takes Ed25519ph for Ed25519", ErrUnsupported)
	}
	return err
}

func (s *session) findPrehash() (ignored bool, err error) {
	h, spki, err := s.generateTestPair(Ed25519, SignPair)
	if err != nil {
		return false, err
	}
	defer func() { _ = s.destroy(h) }() // the session is closed when it fails
	return s.signsPureForPrehash(h, spki)
}

// signsPureForPrehash signs with Ed25519ph and has the host verify it. RFC 8032 section 5.1 puts the distinction into
// both hashes of the signature, so nothing that the token leaves out can be put right outside.
func (s *session) signsPureForPrehash(h pkcs11.ObjectHandle, spki []byte) (bool, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return false, err
	}
	digest := sha512.Sum512([]byte("Ed25519ph"))
	call, err := Scheme{HashEdDSA, crypto.SHA512}.call(Ed25519, digest[:])
	if err != nil {
		return false, err
	}
	signature, err := s.sign(h, call)
	if err != nil {
		return false, err
	}
	err = ed25519.VerifyWithOptions(key.(ed25519.PublicKey), digest[:], signature, &ed25519.Options{Hash: crypto.SHA512})
	return err != nil, nil
}

// generateTestPair makes a session key of one purpose that ends with the session.
func (s *session) generateTestPair(kt KeyType, purpose PairPurpose) (pkcs11.ObjectHandle, []byte, error) {
	k, err := kt.known()
	if err != nil {
		return 0, nil, err
	}
	return s.generatePair(k, append(pairTemplate(k, purpose, purpose == DecryptPair),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)))
}

// generateTestKey makes a session key of one purpose that ends with the session.
func (s *session) generateTestKey(p Purpose) (pkcs11.ObjectHandle, error) {
	return s.generate(p.mechanism(), testKeyTemplate(p))
}

func testKeyTemplate(p Purpose) []*pkcs11.Attribute {
	return append(p.template(),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.size()))
}
