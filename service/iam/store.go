package iam

import (
	"context"
	"errors"
	"time"

	"github.com/verenc/kms/service/iam/breakglass"
)

// Errors of a Store. Everything else that it returns is an internal failure.
var (
	ErrNoRow = errors.New("no such row")
	ErrLimit = errors.New("limit reached")
)

// Store keeps principals and their credentials. Its contract is that of service.Store, of which it
// is a part: a change is whole and durable when its method returns nil, and seen by every process
// within a second. Principal, AccessKey, CertificatesNamed and Guard are served from memory when they
// can be; what they return is shared, and must not be modified.
type Store interface {
	PrincipalStore
	AccessKeyStore
	CertificateStore
	GuardStore
	BreakGlassStore
}

// BreakGlassStore keeps the public part of the sealed credential, and its openings. Nothing is served from memory.
type BreakGlassStore interface {
	// InsertBreakGlassKey makes a credential the one in force. Those before it stay.
	InsertBreakGlassKey(ctx context.Context, k *breakglass.Key) error
	// BreakGlassKey returns the credential in force; ErrNoRow when there is none.
	BreakGlassKey(ctx context.Context) (*breakglass.Key, error)
	// InsertBreakGlassOpening adds an opening; an error when its id exists.
	InsertBreakGlassOpening(ctx context.Context, o *BreakGlassOpening) error
	// BreakGlassOpening returns an opening; ErrNoRow when there is none.
	BreakGlassOpening(ctx context.Context, id string) (*BreakGlassOpening, error)
	// BreakGlassOpenings returns up to limit openings, the newest first.
	BreakGlassOpenings(ctx context.Context, limit int) ([]*BreakGlassOpening, error)
	// UnclosedBreakGlassOpenings returns up to limit openings that end after a time, and were not closed.
	UnclosedBreakGlassOpenings(ctx context.Context, after time.Time, limit int) ([]*BreakGlassOpening, error)
	// UpdateBreakGlassOpening changes ClosedAt and UsedAt of an opening; ErrNoRow when there is none.
	UpdateBreakGlassOpening(ctx context.Context, id string, change func(*BreakGlassOpening) error) error
}

// PrincipalStore keeps users and roles.
type PrincipalStore interface {
	// PutPrincipal adds a principal, or replaces the details of the one with its ARN.
	PutPrincipal(ctx context.Context, p *Principal) error
	// Principal returns a principal; ErrNoRow when there is none.
	Principal(ctx context.Context, principal string) (*Principal, error)
	// Principals returns all principals, in order of their ARNs.
	Principals(ctx context.Context) ([]*Principal, error)
	// RemovePrincipal deletes a principal with its access keys and certificates; ErrNoRow when there
	// is none.
	RemovePrincipal(ctx context.Context, principal string) error
}

// AccessKeyStore keeps access keys and their last uses.
type AccessKeyStore interface {
	// InsertAccessKey adds an access key; an error when its id exists, ErrLimit when its principal is
	// not the root of its account and has maxPerUser already, ErrNoRow when its principal is neither
	// that root nor stored.
	InsertAccessKey(ctx context.Context, k *AccessKey, maxPerUser int) error
	// AccessKey returns an access key, enabled or not; ErrNoRow when there is none.
	AccessKey(ctx context.Context, id string) (*AccessKey, error)
	// AccessKeys returns the access keys of a principal, in order of their ids.
	AccessKeys(ctx context.Context, principal string) ([]*AccessKey, error)
	// EnableAccessKey enables or disables an access key; ErrNoRow when there is none.
	EnableAccessKey(ctx context.Context, id string, enabled bool) error
	// RemoveAccessKey deletes an access key; ErrNoRow when there is none.
	RemoveAccessKey(ctx context.Context, id string) error
	// RecordAccessKeyUses stores the last use of each; one that is older than the stored one changes
	// nothing.
	RecordAccessKeyUses(ctx context.Context, uses []AccessKeyUse) error
	// LastAccessKeyUse returns the last use of an access key; ErrNoRow when there is none.
	LastAccessKeyUse(ctx context.Context, id string) (*AccessKeyUse, error)
}

// CertificateStore keeps the mappings of client certificates to principals, by the names of certificates.
type CertificateStore interface {
	// PutCertificate maps a certificate to a principal, in place of the one that it was mapped to.
	PutCertificate(ctx context.Context, c *Certificate) error
	// Certificate returns a mapping; ErrNoRow when there is none.
	Certificate(ctx context.Context, name string) (*Certificate, error)
	// CertificatesNamed returns the mappings of any of the names of one certificate, in order of their names; none when
	// there is none. The first name is the certificate's fingerprint, which determines the others.
	CertificatesNamed(ctx context.Context, names []string) ([]*Certificate, error)
	// Certificates returns all mappings, in order of their names.
	Certificates(ctx context.Context) ([]*Certificate, error)
	// RemoveCertificate deletes a mapping; ErrNoRow when there is none.
	RemoveCertificate(ctx context.Context, name string) error
}
