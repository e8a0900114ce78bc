package service

import (
	"errors"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
)

// tokenError maps an error of hsm in an operation that uses a key's material.
func tokenError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, hsm.ErrAuthentication):
		return apierror.NoMessage(apierror.InvalidCiphertext).WithCause(err) // AWS sends no message
	case errors.Is(err, hsm.ErrTimeout):
		return apierror.New(apierror.DependencyTimeout, apierror.MessageTimeout).WithCause(err)
	case errors.Is(err, hsm.ErrUnavailable), errors.Is(err, hsm.ErrNoObject):
		return apierror.New(apierror.KeyUnavailable, apierror.MessageUnavailable).WithCause(err)
	}
	return apierror.InternalError(err)
}

// dependencyError maps an error of hsm in an operation that does not declare
// KeyUnavailableException.
func dependencyError(err error) error {
	switch {
	case errors.Is(err, hsm.ErrUnavailable):
		return apierror.New(apierror.DependencyTimeout, apierror.MessageTimeout).WithCause(err)
	case errors.Is(err, hsm.ErrFull):
		return apierror.New(apierror.LimitExceeded,
			"The token has no room for another key. Delete keys, or give the token more room.").WithCause(err)
	}
	return tokenError(err)
}
