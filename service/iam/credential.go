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
	derive func(secret []byte) [sha256.Size]byte) (Identity, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	who, sealed, err := d.credential(ctx, scope)
	if err != nil {
		return Identity{}, none, err
	}
	id := signingKeyID{scope.AccessKeyID, scope.Date, scope.Region, scope.Service}
	if derived, ok := d.signingKeys.Get(id); ok {
		return who, derived, nil
	}
	secret, err := d.open(ctx, sealed)
	if err != nil {
		return Identity{}, none, err
	}
	defer clear(secret)
	derived := derive(secret)
	d.signingKeys.Add(id, derived)
	return who, derived, nil
}

// sealedCredential is where the secret of an access key is: in the key's row, or in a session token.
type sealedCredential struct {
	key   *AccessKey // nil for a session
	token string
}

func (d *Directory) open(ctx context.Context, c sealedCredential) ([]byte, error) {
	if c.key == nil {
		opened, err := d.openSession(ctx, c.token)
		if err != nil {
			return nil, err
		}
		return opened.Secret, nil
	}
	secret, err := d.sealer.Open(ctx, c.key.SealedSecret, accessKeyData(c.key.ID))
	if errors.Is(err, ErrNotAuthentic) { // the store was tampered with
		return nil, apierror.InternalError(fmt.Errorf("access key %s: %w", c.key.ID, err))
	}
	return secret, err
}

// credential finds whom an access key belongs to, and where its secret is.
func (d *Directory) credential(ctx context.Context, scope CredentialScope) (
	who Identity, sealed sealedCredential, err error) {
	if scope.SessionToken != "" {
		return d.sessionCredential(ctx, scope)
	}
	k, err := d.accessKey(ctx, scope.AccessKeyID)
	if err != nil {
		return who, sealed, err
	}
	return Identity{Principal: k.PrincipalARN, Account: k.Account, AccessKeyID: k.ID, IssuedAt: k.CreatedAt,
		ExpiresAt: k.ExpiresAt}, sealedCredential{key: k}, nil
}

// accessKey returns an access key that may be used. One that is expired has the error of an expired session, which
// makes clients look for new credentials, and operators look at the end and not at the secret.
func (d *Directory) accessKey(ctx context.Context, id string) (*AccessKey, error) {
	k, err := d.store.AccessKey(ctx, id)
	switch {
	case errors.Is(err, ErrNoRow), err == nil && !k.Enabled:
		return nil, ErrUnknownCredential
	case err != nil:
		return nil, apierror.FromStore(err)
	case k.Expired(d.now()):
		return nil, apierror.New(apierror.ExpiredToken, msgExpiredToken)
	}
	return k, nil
}

func (d *Directory) sessionCredential(ctx context.Context, scope CredentialScope) (
	who Identity, sealed sealedCredential, err error) {
	session, err := d.session(ctx, scope.SessionToken)
	if err != nil {
		return who, sealed, err
	}
	if session.AccessKeyID != scope.AccessKeyID {
		return who, sealed, ErrUnknownCredential
	}
	if session.Opening != "" {
		who, err = d.breakGlassIdentity(ctx, session)
		return who, sealedCredential{token: scope.SessionToken}, err
	}
	who = Identity{Principal: session.UserARN, AccessKeyID: session.AccessKeyID, Session: session,
		IssuedAt: session.IssuedAt, ExpiresAt: session.ExpiresAt}
	if session.ofRole() {
		who.Principal = SessionARN(session.RoleARN, session.Name)
	} else {
		k, err := d.accessKey(ctx, session.AskedWith)
		if err != nil {
			return Identity{}, sealed, err // a session does not outlive the access key that it was asked for with
		}
		who.IssuedAt, who.ExpiresAt = k.CreatedAt, k.ExpiresAt
	}
	who.Account = arn.AccountOf(who.Principal)
	return who, sealedCredential{token: scope.SessionToken}, nil
}
