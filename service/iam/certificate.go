package iam

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/record"
)

// Certificate maps client certificates to a principal.
type Certificate struct {
	Name         string // as ParseCertificateName returns it
	PrincipalARN string
	CreatedAt    time.Time
}

// Fingerprint names a certificate: the SHA-256 of its DER, in hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// ErrAmbiguousCertificate is returned for a client certificate whose names are mapped to several principals.
var ErrAmbiguousCertificate = errors.New("the certificate is mapped to several principals")

// CertificateIdentity returns the principal that a client certificate is mapped to: a user, the root of an account, or
// a session of a role that has the certificate's fingerprint as its name. The caller has verified the certificate.
func (d *Directory) CertificateIdentity(ctx context.Context, leaf *x509.Certificate) (*Identity, error) {
	names := CertificateNames(leaf)
	mappings, err := d.store.CertificatesNamed(ctx, names)
	switch {
	case err != nil:
		return nil, apierror.FromStore(err)
	case len(mappings) == 0:
		return nil, ErrUnknownCredential
	}
	c := mappings[0]
	for _, other := range mappings[1:] {
		if other.PrincipalARN != c.PrincipalARN {
			return nil, ErrAmbiguousCertificate
		}
	}
	who := &Identity{Principal: c.PrincipalARN, Account: arn.AccountOf(c.PrincipalARN), IssuedAt: leaf.NotBefore,
		ExpiresAt: leaf.NotAfter}
	if c.Name != names[0] {
		who.Certificate = &CertificateUse{Fingerprint: names[0], Serial: leaf.SerialNumber.Text(16), Names: names[1:],
			MappedBy: c.Name}
	}
	if kindOf(c.PrincipalARN) == KindRole {
		who.Principal = SessionARN(c.PrincipalARN, names[0])
		// Unless it is a fingerprint, the name is the same after a renewal.
		who.Session = &Session{RoleARN: c.PrincipalARN, Name: names[0], IssuedAt: d.now(),
			AssumedBy: []string{"certificate " + c.Name}}
	}
	return who, nil
}

// CertificateUse is a certificate that is mapped by something else than its fingerprint.
type CertificateUse struct {
	Fingerprint, Serial string   // in hex
	Names               []string // all that it could be mapped by, but the fingerprint
	MappedBy            string
}

// parameters describe the certificate in a record: which workload it was, of those that a mapping names.
func (c *CertificateUse) parameters() audit.Object {
	if c == nil {
		return nil
	}
	o := audit.Object{{Name: "sha256", Value: c.Fingerprint}, {Name: "serialNumber", Value: c.Serial},
		{Name: "mappedBy", Value: c.MappedBy}}
	if i := slices.IndexFunc(c.Names, func(name string) bool { return strings.HasPrefix(name, spiffePrefix) }); i >= 0 {
		o = append(o, audit.Member{Name: "spiffeId", Value: c.Names[i]})
	}
	return o
}

// Certificates returns all mappings of client certificates, in order of their names.
func (d *Directory) Certificates(ctx context.Context) ([]*Certificate, error) {
	all, err := d.store.Certificates(ctx)
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return all, nil
}

// MapCertificate maps client certificates of a name, which ParseCertificateName has read, to a user. One that is mapped
// to another user must be unmapped first.
func (d *Directory) MapCertificate(ctx context.Context, name string, user *Principal) error {
	old, err := d.store.Certificate(ctx, name)
	if err == nil && old.PrincipalARN != user.ARN {
		return fmt.Errorf("the certificate is already mapped to %s: run verenc certificate unmap %s first",
			old.PrincipalARN, name)
	}
	if err != nil && !errors.Is(err, ErrNoRow) {
		return fmt.Errorf("find certificate %s: %w", name, err)
	}
	return d.putCertificate(ctx, name, user.ARN)
}

func (d *Directory) putCertificate(ctx context.Context, name, principal string) error {
	parameters := nameParameter(name)
	err := d.records.Command(ctx, "MapCertificate", aboutPrincipal(principal), parameters,
		func(ctx context.Context) error {
			return d.store.PutCertificate(ctx, &Certificate{Name: name, PrincipalARN: principal,
				CreatedAt: d.now()})
		})
	if err != nil {
		return fmt.Errorf("map certificate %s: %w", name, err)
	}
	return nil
}

// UnmapCertificate removes the mapping of a certificate.
func (d *Directory) UnmapCertificate(ctx context.Context, name string) error {
	c := &record.Command{Name: "UnmapCertificate", Parameters: nameParameter(name)}
	mapped, err := d.store.Certificate(ctx, name)
	if err == nil {
		c.Account = arn.AccountOf(mapped.PrincipalARN)
	}
	if err == nil || errors.Is(err, ErrNoRow) { // no guard could be asked otherwise
		err = d.records.Run(ctx, c, func(ctx context.Context) error {
			return d.store.RemoveCertificate(ctx, name)
		})
	}
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("no principal has the certificate %s (verenc certificate list shows all)", name)
	}
	if err != nil {
		return fmt.Errorf("unmap certificate %s: %w", name, err)
	}
	return nil
}

// nameParameter is the name of certificates in a record.
func nameParameter(name string) audit.Object {
	if fingerprintPattern.MatchString(name) {
		return audit.Object{{Name: "fingerprint", Value: name}}
	}
	return audit.Object{{Name: "certificates", Value: name}}
}
