package session

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// capabilities is what a token can do, as far as operations depend on it. Each is found out once
// for each connection: by SelfTest, or when it is first needed.
type capabilities struct {
	refusesSHA256  probe[bool] // CKM_RSA_PKCS_OAEP does not take SHA-256
	ignoresPrehash probe[bool] // CKM_EDDSA signs Ed25519 when it is asked for Ed25519ph
	kwp            probe[kwpMechanism]
	ivSource       probe[ivSource]
	secretSizes    secretSizes
}

// Proved is what a token has proved to do in any connection so far. When it is to be proved again,
// in the next connection, an error means that the token fails, and not that it lacks what it had.
type Proved struct {
	ivs, kwp atomic.Bool
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

// tryTwice tries again if the first error may be a temporary one.
func (s *Session) tryTwice(try func() error) error {
	err := try()
	if err != nil && (ambiguous(err) || ckr.Has(err, pkcs11.CKR_DEVICE_ERROR)) {
		err = try()
	}
	return err
}

// isRefusal reports whether an error means that the token does not do what was tried, and not that
// the session or the connection is lost.
func (s *Session) isRefusal(err error) bool {
	if ckr.Has(err, pkcs11.CKR_DEVICE_ERROR) {
		return s.Alive()
	}
	return !errors.Is(err, ckr.ErrUnavailable) && !errors.Is(err, ckr.ErrTimeout)
}
