// Package apierror holds the errors of the API: AWS's codes, and its sentences where it prints them.
//
// A message is for the client. A cause is for the log only, and may name what no client should see.
package apierror

import (
	"context"
	"errors"
	"fmt"
)

// Code is the name of an AWS exception (API Reference of AWS KMS, "Errors" of each operation, and "Common Errors").
type Code string

// The exceptions that operations return.
const (
	AccessDenied                 Code = "AccessDeniedException"
	AlreadyExists                Code = "AlreadyExistsException"
	CloudHsmClusterInUse         Code = "CloudHsmClusterInUseException"
	CloudHsmClusterNotFound      Code = "CloudHsmClusterNotFoundException"
	CloudHsmClusterNotRelated    Code = "CloudHsmClusterNotRelatedException"
	Conflict                     Code = "ConflictException"
	CustomKeyStoreHasCMKs        Code = "CustomKeyStoreHasCMKsException"
	CustomKeyStoreInvalidState   Code = "CustomKeyStoreInvalidStateException"
	CustomKeyStoreNotFound       Code = "CustomKeyStoreNotFoundException"
	DependencyTimeout            Code = "DependencyTimeoutException"
	Disabled                     Code = "DisabledException"
	DryRun                       Code = "DryRunOperationException"
	ExpiredImportToken           Code = "ExpiredImportTokenException"
	IncorrectKey                 Code = "IncorrectKeyException"
	IncorrectKeyMaterial         Code = "IncorrectKeyMaterialException"
	IncorrectTrustAnchor         Code = "IncorrectTrustAnchorException"
	InvalidAliasName             Code = "InvalidAliasNameException"
	InvalidArn                   Code = "InvalidArnException"
	InvalidCiphertext            Code = "InvalidCiphertextException"
	InvalidGrantID               Code = "InvalidGrantIdException"
	InvalidGrantToken            Code = "InvalidGrantTokenException"
	InvalidImportToken           Code = "InvalidImportTokenException"
	InvalidKeyUsage              Code = "InvalidKeyUsageException"
	InvalidMarker                Code = "InvalidMarkerException"
	Internal                     Code = "KMSInternalException"
	InvalidMac                   Code = "KMSInvalidMacException"
	InvalidSignature             Code = "KMSInvalidSignatureException"
	InvalidState                 Code = "KMSInvalidStateException"
	KeyStoreNameInUse            Code = "CustomKeyStoreNameInUseException"
	KeyUnavailable               Code = "KeyUnavailableException"
	LimitExceeded                Code = "LimitExceededException"
	MalformedPolicyDocument      Code = "MalformedPolicyDocumentException"
	NotAuthorized                Code = "NotAuthorizedException"
	NotFound                     Code = "NotFoundException"
	Tag                          Code = "TagException"
	Throttling                   Code = "ThrottlingException"
	UnsupportedOperation         Code = "UnsupportedOperationException"
	Validation                   Code = "ValidationException"
	XksProxyInvalidConfiguration Code = "XksProxyInvalidConfigurationException"
	XksProxyUnreachable          Code = "XksProxyUriUnreachableException"

	ExpiredToken       Code = "ExpiredTokenException"
	UnrecognizedClient Code = "UnrecognizedClientException"

	// Of AWS STS (API Reference of AWS STS), whose names have no Exception behind them.
	AccessDeniedSTS       Code = "AccessDenied"
	IDPCommunicationError Code = "IDPCommunicationError"
	IDPRejectedClaim      Code = "IDPRejectedClaim"
	InvalidIdentityToken  Code = "InvalidIdentityToken"
	MalformedPolicy       Code = "MalformedPolicyDocument"
	PackedPolicyTooLarge  Code = "PackedPolicyTooLarge"
	STSValidation         Code = "ValidationError"
	// ExpiredWebIdentity is ExpiredTokenException of AssumeRoleWithWebIdentity, which STS calls by that name, and
	// not by the one that it has for the session token of a request: ExpiredToken.
	ExpiredWebIdentity Code = "ExpiredWebIdentityToken"
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

// New returns an error with a message for the client.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// NoMessage returns an error that AWS sends without a message.
func NoMessage(code Code) *Error { return &Error{Code: code} }

// Is reports whether err is an Error with this code.
func Is(err error, code Code) bool {
	e := new(Error)
	return errors.As(err, &e) && e.Code == code
}

// CodeOf is the code of an error as its client sees it: empty for nil, and Internal for an error of another type.
func CodeOf(err error) string {
	e := new(Error)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return string(e.Code)
	}
	return string(Internal)
}

// WithCause keeps the inner error for the log.
func (e *Error) WithCause(err error) *Error {
	e.cause = err
	return e
}

// AWS's sentences for failures that a client may retry (API Reference, section "Errors").
const (
	MessageTimeout     = "The system timed out while trying to fulfill the request. You can retry the request."
	MessageUnavailable = "The request was rejected because the specified KMS key was not available. You can retry the request."
	MessageInternal    = "The request was rejected because an internal exception occurred. The request can be retried."
)

// InternalError is a failure whose cause only the log learns.
func InternalError(err error) *Error { return New(Internal, MessageInternal).WithCause(err) }

// FromStore maps what a store returned, other than its own sentinels.
func FromStore(err error) error {
	if err == nil {
		return nil
	}
	var ours *Error
	switch {
	case errors.As(err, &ours):
		return err
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return New(DependencyTimeout, MessageTimeout).WithCause(err)
	}
	return InternalError(err)
}
