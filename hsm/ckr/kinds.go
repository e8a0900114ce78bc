package ckr

import "github.com/miekg/pkcs11"

// creates are the calls that make an object from a template.
var creates = map[string]bool{
	"C_GenerateKey": true, "C_GenerateKeyPair": true, "C_CreateObject": true,
	"C_UnwrapKey": true, "C_DeriveKey": true, "C_DecapsulateKey": true,
}

// templateRefusals are the answers of a token that does not support what a template asks for. All
// templates are hsm's own: no caller's value is in them but private keys, which are checked before.
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
