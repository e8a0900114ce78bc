package transport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/transport/sigv4"
)

// lookup returns the key to check a signature with.
func (h *handler) lookup(ctx context.Context, scope sigv4.Scope) (sigv4.Key[iam.Identity], error) {
	who, signing, err := h.iam.Credentials(ctx,
		iam.CredentialScope{AccessKeyID: scope.AccessKeyID, Date: scope.Date,
			Region: scope.Region, Service: scope.Service, SessionToken: scope.SecurityToken},
		func(secret []byte) [32]byte {
			return sigv4.SigningKey(secret, scope)
		})
	if errors.Is(err, iam.ErrUnknownCredential) {
		err = sigv4.ErrUnknownKey
	}
	return sigv4.Key[iam.Identity]{Signing: signing, Principal: who}, err
}

// verifyClient refuses a client whose certificate was valid when the connection was made, and is no longer.
func (h *handler) verifyClient(r *http.Request) error {
	if h.cfg.VerifyClient != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		if err := h.cfg.VerifyClient(r); err != nil {
			return errInvalidCertificate(err)
		}
	}
	return nil
}

// identify finds out who sends a request: by its signature or, if it has none, by a client
// certificate that the listener has verified.
func (h *handler) identify(v *sigv4.Verifier[iam.Identity], r *http.Request, body []byte, x *exchange) error {
	if err := h.verifyClient(r); err != nil {
		return err
	}
	if _, signed := r.Header["Authorization"]; !signed && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		leaf := r.TLS.PeerCertificates[0]
		if h.cfg.Now().After(leaf.NotAfter) { // since the connection was made
			return errExpiredCertificate
		}
		who, err := h.iam.CertificateIdentity(x.ctx, leaf)
		switch {
		case errors.Is(err, iam.ErrUnknownCredential):
			return errUnknownCertificate
		case errors.Is(err, iam.ErrAmbiguousCertificate):
			return errAmbiguousCertificate
		case err != nil:
			return err
		}
		x.caller.Identity, x.caller.Region = *who, defaultRegion(h.cfg.Regions)
		return nil
	}
	who, scope, err := v.VerifyContext(x.ctx, r, body, h.cfg.Now())
	if err != nil {
		return withClaim(err, scope.AccessKeyID)
	}
	x.caller.Identity, x.caller.Region = who, scope.Region
	h.iam.AddUse(&x.caller.Identity, scope.Region, scope.Service)
	return h.iam.UseBreakGlass(x.ctx, &x.caller.Identity)
}

// accessKeyID is the form of an access key id. What is not of this form may be a secret in the wrong place.
var accessKeyID = regexp.MustCompile(`^[A-Z0-9]{16,32}$`)

// withClaim adds to the refusal of a signature why it was refused, and the access key that the request names, for the
// log: nobody else tells the operator. Of an Authorization header that can't be read it tells nothing.
func withClaim(err error, claimed string) error {
	var refusal *sigv4.Error
	if !errors.As(err, &refusal) || !accessKeyID.MatchString(claimed) {
		return err
	}
	p := problemOf(err)
	p.cause = fmt.Errorf("access key %s: %s", claimed, refusal.Message)
	return p
}
