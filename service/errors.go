package service

import (
	"context"
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm"
)

// Code is the name of an AWS exception (API Reference of AWS KMS, "Errors" of each operation, and "Common Errors").
type Code string

// The exceptions that operations return.
const (
	CodeAccessDenied                 Code = "AccessDeniedException"
	CodeAlreadyExists                Code = "AlreadyExistsException"
	CodeCloudHsmClusterInUse         Code = "CloudHsmClusterInUseException"
	CodeCloudHsmClusterNotFound      Code = "CloudHsmClusterNotFoundException"
	CodeCloudHsmClusterNotRelated    Code = "CloudHsmClusterNotRelatedException"
	CodeConflict                     Code = "ConflictException"
	CodeCustomKeyStoreHasCMKs        Code = "CustomKeyStoreHasCMKsException"
	CodeCustomKeyStoreInvalidState   Code = "CustomKeyStoreInvalidStateException"
	CodeCustomKeyStoreNotFound       Code = "CustomKeyStoreNotFoundException"
	CodeDependencyTimeout            Code = "DependencyTimeoutException"
	CodeDisabled                     Code = "DisabledException"
	CodeDryRun                       Code = "DryRunOperationException"
	CodeExpiredImportToken           Code = "ExpiredImportTokenException"
	CodeIncorrectKey                 Code = "IncorrectKeyException"
	CodeIncorrectKeyMaterial         Code = "IncorrectKeyMaterialException"
	CodeIncorrectTrustAnchor         Code = "IncorrectTrustAnchorException"
	CodeInvalidAliasName             Code = "InvalidAliasNameException"
	CodeInvalidArn                   Code = "InvalidArnException"
	CodeInvalidCiphertext            Code = "InvalidCiphertextException"
	CodeInvalidGrantID               Code = "InvalidGrantIdException"
	CodeInvalidGrantToken            Code = "InvalidGrantTokenException"
	CodeInvalidImportToken           Code = "InvalidImportTokenException"
	CodeInvalidKeyUsage              Code = "InvalidKeyUsageException"
	CodeInvalidMarker                Code = "InvalidMarkerException"
	CodeInternal                     Code = "KMSInternalException"
	CodeInvalidMac                   Code = "KMSInvalidMacException"
	CodeInvalidSignature             Code = "KMSInvalidSignatureException"
	CodeInvalidState                 Code = "KMSInvalidStateException"
	CodeKeyStoreNameInUse            Code = "CustomKeyStoreNameInUseException"
	CodeKeyUnavailable               Code = "KeyUnavailableException"
	CodeLimitExceeded                Code = "LimitExceededException"
	CodeMalformedPolicyDocument      Code = "MalformedPolicyDocumentException"
	CodeNotAuthorized                Code = "NotAuthorizedException"
	CodeNotFound                     Code = "NotFoundException"
	CodeTag                          Code = "TagException"
	CodeUnsupportedOperation         Code = "UnsupportedOperationException"
	CodeValidation                   Code = "ValidationException"
	CodeXksProxyInvalidConfiguration Code = "XksProxyInvalidConfigurationException"
	CodeXksProxyUnreachable          Code = "XksProxyUriUnreachableException"

	CodeExpiredToken       Code = "ExpiredTokenException"
	CodeUnrecognizedClient Code = "UnrecognizedClientException"

	// Of AWS STS (API Reference of AWS STS), whose names have no Exception behind them.
	CodeAccessDeniedSTS      Code = "AccessDenied"
	CodeMalformedPolicy      Code = "MalformedPolicyDocument"
	CodePackedPolicyTooLarge Code = "PackedPolicyTooLarge"
	CodeSTSValidation        Code = "ValidationError"
)

// Error is what an operation returns to its client. The cause is for the log only.
type Error struct {
	Code    Code
	Message string
	cause   error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %s: %v", e.Code, e.Message, e.cause)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

func (e *Error) Unwrap() error { return e.cause }

func refuse(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func isCode(err error, code Code) bool {
	e := new(Error)
	return errors.As(err, &e) && e.Code == code
}

// because keeps the inner error for the log.
func (e *Error) because(err error) *Error {
	e.cause = err
	return e
}

// AWS's sentences for failures that a client may retry (API Reference, section "Errors").
const (
	msgTimeout     = "The system timed out while trying to fulfill the request. You can retry the request."
	msgUnavailable = "The request was rejected because the specified KMS key was not available. You can retry the request."
	msgInternal    = "The request was rejected because an internal exception occurred. The request can be retried."
)

func internal(err error) *Error { return refuse(CodeInternal, msgInternal).because(err) }

// storeError maps what a Store returned, other than its own sentinels.
func storeError(err error) error {
	var ours *Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ours):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuse(CodeDependencyTimeout, msgTimeout).because(err)
	}
	return internal(err)
}

// tokenError maps an error of hsm in an operation that uses a key's material.
func tokenError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hsm.ErrAuthentication):
		return &Error{Code: CodeInvalidCiphertext, cause: err} // AWS sends no message
	case errors.Is(err, hsm.ErrTimeout):
		return refuse(CodeDependencyTimeout, msgTimeout).because(err)
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrNoObject):
		return refuse(CodeKeyUnavailable, msgUnavailable).because(err)
	}
	return internal(err)
}

// dependencyError maps an error of hsm in an operation that does not declare KeyUnavailableException.
func dependencyError(err error) error {
	switch {
	case errors.Is(err, hsm.ErrUnavailable):
		return refuse(CodeDependencyTimeout, msgTimeout).because(err)
	case errors.Is(err, hsm.ErrFull):
		return refuse(CodeLimitExceeded, "The token has no room for another key. Delete keys, or give the token more room.").because(err)
	}
	return tokenError(err)
}
