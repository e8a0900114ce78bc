package iam

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
)

// ErrUnknownCredential is returned for an access key that does not exist or is disabled, for a
// session token that is not ours, and for a client certificate that is not mapped.
var ErrUnknownCredential = errors.New("the credential is unknown or disabled")

// CredentialScope is what the signature of a request says of its credential.
type CredentialScope struct {
	AccessKeyID, Date, Region, Service string
	SessionToken                       string // X-Amz-Security-Token, or empty
}

// signingKeyID names a derived key of SigV4.
type signingKeyID struct{ accessKeyID, date, region, service string }

// Credentials returns whom an access key belongs to, and the signing key for a scope, which derive
// makes of the secret. The secret is opened only when the derived key is not in the cache.
func (d *Directory) Credentials(ctx context.Context, scope CredentialScope,
	derive func(secret []byte) [sha256.Size]byte) (*Identity, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	who, open, err := d.credential(ctx, scope)
	if err != nil {
		return nil, none, err
	}
	id := signingKeyID{scope.AccessKeyID, scope.Date, scope.Region, scope.Service}
	if derived, ok := d.signingKeys.Get(id); ok {
		return who, derived, nil
	}
	secret, err := open()
	if err != nil {
		return nil, none, err
	}
	defer clear(secret)
	derived := derive(secret)
	d.signingKeys.Add(id, derived)
	return who, derived, nil
}

// credential finds whom an access key belongs to. open returns its secret.
func (d *Directory) credential(ctx context.Context, scope CredentialScope) (
	who *Identity, open func() ([]byte, error), err error) {
	if scope.SessionToken != "" {
		return d.sessionCredential(ctx, scope)
	}
	k, err := d.store.AccessKey(ctx, scope.AccessKeyID)
	if errors.Is(err, ErrNoRow) || (err == nil && !k.Enabled) {
		return nil, nil, ErrUnknownCredential
	}
	if err != nil {
		return nil, nil, apierror.FromStore(err)
	}
	return &Identity{Principal: k.PrincipalARN, Account: k.Account, AccessKeyID: k.ID}, func() ([]byte, error) {
		secret, err := d.sealer.Open(ctx, k.SealedSecret, accessKeyData(k.ID))
		if errors.Is(err, ErrNotAuthentic) { // the store was tampered with
			return nil, apierror.InternalError(fmt.Errorf("access key %s: %w", k.ID, err))
		}
		return secret, err
	}, nil
}

func (d *Directory) sessionCredential(ctx context.Context, scope CredentialScope) (
	who *Identity, open func() ([]byte, error), err error) {
	session, err := d.session(ctx, scope.SessionToken)
	if err != nil {
		return nil, nil, err
	}
	if session.AccessKeyID != scope.AccessKeyID {
		return nil, nil, ErrUnknownCredential
	}
	if session.Opening != "" {
		if who, err = d.breakGlassIdentity(ctx, session); err != nil {
			return nil, nil, err
		}
		return who, d.secretOf(ctx, scope.SessionToken), nil
	}
	who = &Identity{Principal: SessionARN(session.RoleARN, session.Name), Account: arn.AccountOf(session.RoleARN),
		AccessKeyID: session.AccessKeyID, Session: session}
	return who, d.secretOf(ctx, scope.SessionToken), nil
}

// secretOf returns a function that returns the secret of a session.
func (d *Directory) secretOf(ctx context.Context, token string) func() ([]byte, error) {
	return func() ([]byte, error) {
		opened, err := d.openSession(ctx, token)
		if err != nil {
			return nil, err
		}
		return opened.Secret, nil
	}
}
