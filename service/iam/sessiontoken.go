package iam

import (
	"context"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
)

// Limits of GetSessionToken (AWS STS API Reference, DurationSeconds), in seconds.
const (
	defaultSessionToken = 43200
	maxSessionToken     = 129600
	maxRootSessionToken = 3600 // which is its default, too
)

// AWS's message, and one of ours for what AWS does not have.
const (
	msgSessionOfSession     = "Cannot call GetSessionToken with session credentials"
	msgSessionOfCertificate = "Cannot call GetSessionToken with a client certificate"
)

// GetSessionToken gives temporary credentials to the user, or the root user, who signs the request with an access key.
// They have the user's rights, and end when the access key is disabled, deleted or expired.
func (d *Directory) GetSessionToken(ctx context.Context, c *Caller, durationSeconds int32) (
	*TemporaryCredential, error) {
	seconds, most := int32(defaultSessionToken), int32(maxSessionToken)
	if c.Principal == arn.Root(c.Account) {
		seconds, most = maxRootSessionToken, maxRootSessionToken
	}
	switch {
	case c.Session != nil, c.BreakGlass != "":
		return nil, apierror.New(apierror.AccessDeniedSTS, msgSessionOfSession)
	case c.AccessKeyID == "":
		return nil, apierror.New(apierror.AccessDeniedSTS, msgSessionOfCertificate)
	case durationSeconds != 0 && (durationSeconds < minSession || durationSeconds > maxSessionToken):
		return nil, apierror.New(apierror.STSValidation, msgInvalidDuration, durationSeconds, minSession,
			maxSessionToken)
	case durationSeconds != 0:
		seconds = min(durationSeconds, most) // AWS STS API Reference: of the root user, it is cut to an hour
	}
	own, err := d.CallerPolicies(ctx, c)
	if err != nil {
		return nil, err
	}
	expires := d.now().Add(time.Duration(seconds) * time.Second)
	if !c.ExpiresAt.IsZero() && c.ExpiresAt.Before(expires) {
		expires = c.ExpiresAt
	}
	return d.issue(ctx, &Session{UserARN: c.Principal, AskedWith: c.AccessKeyID, RoleID: own.Principal.UserID}, expires)
}
