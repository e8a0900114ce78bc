package hsm

import (
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Kinds of failure, for errors.Is. A failure of none of these kinds is a fault of the token or of this program.
var (
	// ErrAuthentication: the ciphertext, its tag or the additional data are not what was encrypted. The
	// token itself was seen to work.
	ErrAuthentication = errors.New("ciphertext does not authenticate")
	// ErrNoObject: the token answers and has no object of that CKA_ID.
	ErrNoObject = errors.New("no such object in the token")
	// ErrUnavailable: the token is lost or refuses to serve; the same call may succeed later.
	ErrUnavailable = errors.New("token is not available")
	// ErrTimeout: the token did not answer in time; the call may still happen.
	ErrTimeout = errors.New("token did not answer in time")
	// ErrUnsupported: the token cannot do this.
	ErrUnsupported = errors.New("token does not support this")
	// ErrFull: the token has no room for another object. Keys of residency wrapped need none.
	ErrFull = errors.New("token is full: destroy keys, give it more room, or keep new keys outside of it (token.residency: wrapped)")
	// ErrMaterial: what is to be imported is of the wrong size, type or curve.
	ErrMaterial = errors.New("key material does not fit")
	// ErrPIN: the token refused the PIN, or is locked by such refusals. It is not tried again, since tokens lock after a few
	// failures.
	ErrPIN = errors.New("token refused the PIN")
)

// ErrGivenUp: the module can't be brought back within this process.
var ErrGivenUp = errors.New("the PKCS#11 module can't be used any more in this process")

// callError is a failed C call: which, with what return value, and of what kind.
type callError struct {
	call string
	rv   pkcs11.Error
	kind error // nil for a plain fault
}

func (e *callError) Error() string {
	if e.kind == nil {
		return fmt.Sprintf("%s: %v", e.call, e.rv)
	}
	return fmt.Sprintf("%s: %v: %v", e.call, e.kind, e.rv)
}

func (e *callError) Is(target error) bool { return target == e.kind && e.kind != nil }

func (e *callError) Unwrap() error { return e.rv }

// kindError is an error of a kind with words of its own.
type kindError struct {
	text string
	kind error
}

func (e *kindError) Error() string        { return e.text }
func (e *kindError) Is(target error) bool { return target == e.kind }

// failed gives the error of a C call, nil for CKR_OK. Errors that are no CKR are passed on.
func failed(call string, err error) error {
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
	return &callError{call: call, rv: rv, kind: kind}
}

// creates has the calls that make an object from a template.
var creates = map[string]bool{"C_GenerateKey": true, "C_GenerateKeyPair": true, "C_CreateObject": true, "C_UnwrapKey": true,
	"C_DeriveKey": true, "C_DecapsulateKey": true}

// templateRefusals are the answers of a token that does not make an object as a template asks for it. The templates are all
// this package's own; the only values of others in them are private keys, which are checked before.
var templateRefusals = map[pkcs11.Error]bool{
	pkcs11.CKR_ATTRIBUTE_READ_ONLY:     true,
	pkcs11.CKR_ATTRIBUTE_TYPE_INVALID:  true,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID: true,
	pkcs11.CKR_DOMAIN_PARAMS_INVALID:   true,
	pkcs11.CKR_TEMPLATE_INCOMPLETE:     true,
	pkcs11.CKR_TEMPLATE_INCONSISTENT:   true,
}

func kindOf(rv pkcs11.Error) error {
	if lostCodes[rv] {
		return ErrUnavailable
	}
	switch rv {
	case pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE,
		pkcs11.CKR_WRAPPED_KEY_INVALID, pkcs11.CKR_WRAPPED_KEY_LEN_RANGE:
		return ErrAuthentication
	case pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID,
		pkcs11.CKR_UNWRAPPING_KEY_HANDLE_INVALID:
		return ErrUnavailable // the handle is stale, or the object was destroyed behind our back
	case pkcs11.CKR_SESSION_COUNT, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_CANCELED:
		return ErrUnavailable
	case pkcs11.CKR_DEVICE_MEMORY:
		return ErrFull
	case pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
		pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_NOT_WRAPPABLE, pkcs11.CKR_CURVE_NOT_SUPPORTED:
		return ErrUnsupported
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED,
		pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_USER_PIN_NOT_INITIALIZED:
		return ErrPIN
	}
	return nil
}

// lostCodes mean that the connection (login, sessions, handles) is gone and must be made anew.
var lostCodes = map[pkcs11.Error]bool{
	pkcs11.CKR_DEVICE_REMOVED:           true,
	pkcs11.CKR_DEVICE_ERROR:             true,
	pkcs11.CKR_TOKEN_NOT_PRESENT:        true,
	pkcs11.CKR_TOKEN_NOT_RECOGNIZED:     true,
	pkcs11.CKR_SLOT_ID_INVALID:          true,
	pkcs11.CKR_SESSION_HANDLE_INVALID:   true,
	pkcs11.CKR_SESSION_CLOSED:           true,
	pkcs11.CKR_USER_NOT_LOGGED_IN:       true,
	pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED: true,
}

// lost tells whether err means that the connection is gone.
func lost(err error) bool {
	var e *callError
	return errors.As(err, &e) && lostCodes[e.rv] && e.kind != ErrUnsupported
}

func hasCode(err error, codes ...pkcs11.Error) bool {
	var e *callError
	if !errors.As(err, &e) {
		return false
	}
	for _, c := range codes {
		if e.rv == c {
			return true
		}
	}
	return false
}
