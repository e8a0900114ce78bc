package iam

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/service/apierror"
)

// Proof is a signed request that is kept, so that its signature can be verified again when it matters: whoever can
// write to the database can't make one. It has no secret. A session token in it is sealed, and signs nothing.
type Proof struct {
	Scope     CredentialScope
	At        time.Time // of the signature
	Request   string    // the canonical request of SigV4, which has the hash of Body
	Signature []byte    // 32 bytes
	Body      []byte
}

// ErrNotProven is returned for a proof that proves nothing: any more, or since it was forged.
var ErrNotProven = errors.New("the signature is not valid, or its credential is not any more")

// Proven returns who signed the request that a proof keeps. A credential that is disabled, deleted or expired proves
// nothing; ErrNotProven.
func (d *Directory) Proven(ctx context.Context, p *Proof) (*Identity, error) {
	if p == nil || d.verifyProof == nil {
		return nil, ErrNotProven
	}
	who, sealed, err := d.credential(ctx, p.Scope)
	if errors.Is(err, ErrUnknownCredential) || apierror.Is(err, apierror.ExpiredToken) {
		return nil, ErrNotProven
	}
	if err != nil {
		return nil, err
	}
	secret, err := d.open(ctx, sealed)
	if err != nil {
		return nil, fmt.Errorf("open the secret of %s: %w", p.Scope.AccessKeyID, err)
	}
	defer clear(secret)
	if !d.verifyProof(secret, p) {
		return nil, ErrNotProven
	}
	return &who, nil
}
