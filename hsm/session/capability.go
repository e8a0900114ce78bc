package session

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// capabilities are what must be known of a token before it can be used right, found out once a
// connection: by SelfTest, or when they are needed first.
type capabilities struct {
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

// twice tries once more what has failed for a reason that may pass.
func (s *Session) twice(try func() error) error {
	err := try()
	if err != nil && (ambiguous(err) || ckr.Has(err, pkcs11.CKR_DEVICE_ERROR)) {
		err = try()
	}
	return err
}

// refusal tells whether an error is the token's last word on what was tried, and no loss of the
// session or the connection.
func (s *Session) refusal(err error) bool {
	if ckr.Has(err, pkcs11.CKR_DEVICE_ERROR) {
		return s.Well()
	}
	return !errors.Is(err, ckr.ErrUnavailable) && !errors.Is(err, ckr.ErrTimeout)
}
