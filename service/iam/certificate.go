package iam

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/record"
)

// Certificate maps a client certificate to a principal.
type Certificate struct {
	Fingerprint  string // SHA-256 of the DER, in hex
	PrincipalARN string
	CreatedAt    time.Time
}

// Fingerprint names a certificate: the SHA-256 of its DER, in hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

var fingerprintPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ParseFingerprint reads the SHA-256 of a certificate in hex, in either case, with or without colons.
func ParseFingerprint(text string) (string, error) {
	fingerprint := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if !fingerprintPattern.MatchString(fingerprint) {
		return "", fmt.Errorf("%q is not the SHA-256 of a certificate in hex "+
			"(openssl x509 -noout -fingerprint -sha256 prints it)", text)
	}
	return fingerprint, nil
}

// CertificateIdentity returns the principal that a client certificate, in DER, is mapped to: a
// user, the root of an account, or a session of a role that has the certificate's fingerprint as
// its name. The caller has verified the certificate.
func (d *Directory) CertificateIdentity(ctx context.Context, der []byte) (*Identity, error) {
	c, err := d.store.Certificate(ctx, Fingerprint(der))
	if errors.Is(err, ErrNoRow) {
		return nil, ErrUnknownCredential
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	who := &Identity{Principal: c.PrincipalARN, Account: arn.AccountOf(c.PrincipalARN)}
	if kindOf(c.PrincipalARN) == KindRole {
		who.Principal = SessionARN(c.PrincipalARN, c.Fingerprint)
		who.Session = &Session{RoleARN: c.PrincipalARN, Name: c.Fingerprint, IssuedAt: d.now()}
	}
	return who, nil
}

// Certificates returns all mappings of client certificates, in order of their fingerprints.
func (d *Directory) Certificates(ctx context.Context) ([]*Certificate, error) {
	all, err := d.store.Certificates(ctx)
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return all, nil
}

// MapCertificate maps a client certificate to a user. One that is mapped to another user must be
// unmapped first.
func (d *Directory) MapCertificate(ctx context.Context, fingerprint string, user *Principal) error {
	old, err := d.store.Certificate(ctx, fingerprint)
	if err == nil && old.PrincipalARN != user.ARN {
		return fmt.Errorf("the certificate is already mapped to %s: run verenc certificate unmap %s first",
			old.PrincipalARN, fingerprint)
	}
	if err != nil && !errors.Is(err, ErrNoRow) {
		return fmt.Errorf("find certificate %s: %w", fingerprint, err)
	}
	return d.putCertificate(ctx, fingerprint, user.ARN)
}

func (d *Directory) putCertificate(ctx context.Context, fingerprint, principal string) error {
	parameters := audit.Object{{Name: "fingerprint", Value: fingerprint}}
	err := d.records.Command(ctx, "MapCertificate", aboutPrincipal(principal), parameters,
		func(ctx context.Context) error {
			return d.store.PutCertificate(ctx, &Certificate{Fingerprint: fingerprint, PrincipalARN: principal,
				CreatedAt: d.now()})
		})
	if err != nil {
		return fmt.Errorf("map certificate %s: %w", fingerprint, err)
	}
	return nil
}

// UnmapCertificate removes the mapping of a certificate.
func (d *Directory) UnmapCertificate(ctx context.Context, fingerprint string) error {
	parameters := audit.Object{{Name: "fingerprint", Value: fingerprint}}
	c := &record.Command{Name: "UnmapCertificate", Parameters: parameters}
	if mapped, err := d.store.Certificate(ctx, fingerprint); err == nil { // or the command fails anyway
		c.Account = arn.AccountOf(mapped.PrincipalARN)
	}
	err := d.records.Run(ctx, c, func(ctx context.Context) error {
		return d.store.RemoveCertificate(ctx, fingerprint)
	})
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("no principal has the certificate %s (verenc certificate list shows all)", fingerprint)
	}
	if err != nil {
		return fmt.Errorf("unmap certificate %s: %w", fingerprint, err)
	}
	return nil
}
