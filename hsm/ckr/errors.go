// Package ckr makes errors of the return values of PKCS#11 calls (CKR_), of a few kinds that
// callers can act on: the token is lost, it does not support this, the ciphertext is wrong. It
// knows of no session and no key.
package ckr

import (
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"
)

// Kinds of failure, for errors.Is. A failure of none of these kinds is a fault of the token or of
// this program.
var (
	// ErrAuthentication: the ciphertext, its tag or the additional data are not what was encrypted.
	// The token works.
	ErrAuthentication = errors.New("ciphertext does not authenticate")
	// ErrNoObject: the token works and has no object with that CKA_ID.
	ErrNoObject = errors.New("no such object in the token")
	// ErrUnavailable: the token is lost or refuses to serve; the same call may succeed later.
	ErrUnavailable = errors.New("token is not available")
	// ErrTimeout: the token did not answer in time; the call may still happen.
	ErrTimeout = errors.New("token did not answer in time")
	// ErrUnsupported: the token cannot do this.
	ErrUnsupported = errors.New("token does not support this")
	// ErrFull: the token has no room for another object. Keys of residency wrapped need none.
	ErrFull = errors.New(
		"token is full: destroy keys, give it more room, or keep new keys outside of it (token.residency: wrapped)",
	)
	// ErrMaterial: the imported key material has the wrong size, type or curve.
	ErrMaterial = errors.New("key material does not fit")
	// ErrPIN: the token refused the PIN, or is locked by such refusals. It is not tried again,
	// since tokens lock after a few failures.
	ErrPIN = errors.New("token refused the PIN")
)

// Error is a failed C call.
type Error struct {
	Call string
	RV   pkcs11.Error
	Kind error // nil for a plain fault
}

func (e *Error) Error() string {
	if e.Kind == nil {
		return fmt.Sprintf("%s: %v", e.Call, e.RV)
	}
	return fmt.Sprintf("%s: %v: %v", e.Call, e.Kind, e.RV)
}

func (e *Error) Is(target error) bool { return target == e.Kind && e.Kind != nil }

func (e *Error) Unwrap() error { return e.RV }

// kindError is an error of a kind with its own text.
type kindError struct {
	text string
	kind error
}

// OfKind gives an error of a kind with its own text.
func OfKind(kind error, text string) error { return &kindError{text, kind} }

func (e *kindError) Error() string { return e.text }

func (e *kindError) Is(target error) bool { return target == e.kind }

// Failed gives the error of a C call, nil for CKR_OK.
func Failed(call string, err error) error {
	if err == nil {
		return nil
	}
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return fmt.Errorf("%s: %w", call, err)
	}
	kind := kindOf(rv)
	switch {
	case kind == ErrFull && !creates[call]:
		kind = ErrUnavailable // a call that makes no object lacks the memory for itself
	case kind == nil && creates[call] && templateRefusals[rv]:
		kind = ErrUnsupported
	}
	return &Error{Call: call, RV: rv, Kind: kind}
}

// Name gives the name of the return value of a C call, such as CKR_DEVICE_ERROR: empty for CKR_OK, and _OTHER for what
// is none.
func Name(err error) string {
	if err == nil {
		return ""
	}
	var rv pkcs11.Error
	if !errors.As(err, &rv) {
		return "_OTHER"
	}
	text := rv.Error() // pkcs11: 0x30: CKR_DEVICE_ERROR
	if i := strings.LastIndex(text, "CKR_"); i >= 0 {
		return text[i:]
	}
	return fmt.Sprintf("CKR_%#x", uint(rv))
}

// Has reports whether an error is that of a C call with one of these return values.
func Has(err error, codes ...pkcs11.Error) bool {
	if err == nil {
		return false // before e is allocated: this is asked after every call
	}
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.RV == c {
			return true
		}
	}
	return false
}

// Lost reports whether an error means that the connection is lost.
func Lost(err error) bool {
	if err == nil {
		return false
	}
	var e *Error
	return errors.As(err, &e) && lostCodes[e.RV] && e.Kind != ErrUnsupported
}
