package service

import (
	"errors"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
)

// tokenError maps an error of hsm in an operation that uses a key's material.
func tokenError(err error) error { return fromToken(err, true) }

// dependencyError maps an error of hsm in an operation that does not declare
// KeyUnavailableException.
func dependencyError(err error) error { return fromToken(err, false) }

// FromToken maps an error of what a package above this one has made with the token.
func FromToken(err error) error {
	if typed := new(apierror.Error); errors.As(err, &typed) {
		return typed
	}
	return dependencyError(err)
}

func fromToken(err error, usesKey bool) error {
	// An operation that uses a key makes only session objects, and those of others end soon.
	busy := usesKey && errors.Is(err, hsm.ErrFull)
	lost := errors.Is(err, hsm.ErrUnavailable)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hsm.ErrAuthentication):
		return apierror.NoMessage(apierror.InvalidCiphertext).WithCause(err) // AWS sends no message
	case errors.Is(err, hsm.ErrTimeout), lost && !usesKey:
		return apierror.New(apierror.DependencyTimeout, apierror.MessageTimeout).WithCause(err)
	case lost, busy, errors.Is(err, hsm.ErrNoObject):
		return apierror.New(apierror.KeyUnavailable, apierror.MessageUnavailable).WithCause(err)
	case errors.Is(err, hsm.ErrFull):
		return apierror.New(apierror.LimitExceeded,
			"The token has no room for another key. Delete keys, or give the token more room.").WithCause(err)
	case errors.Is(err, hsm.ErrUnsupported): // the checks of the token's capabilities did not foresee it
		return apierror.New(apierror.UnsupportedOperation, msgTokenCannot,
			"The operation", "the token refused it").WithCause(err)
	}
	return apierror.InternalError(err)
}
