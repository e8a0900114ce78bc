package service

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/verenc/kms/service/audit"
)

// maxAccessKeys are of one user (AWS page "IAM and AWS STS quotas"), so that one can take the other's place.
const maxAccessKeys = 2

// AccessKeyStatus is an access key with its last use.
type AccessKeyStatus struct {
	*AccessKey
	LastUse *AccessKeyUse // nil if there was none
}

// AccessKeys returns the access keys of a principal, in order of their ids.
func (s *Service) AccessKeys(ctx context.Context, principal string) ([]AccessKeyStatus, error) {
	keys, err := s.store.AccessKeys(ctx, principal)
	if err != nil {
		return nil, fmt.Errorf("list access keys: %w", err)
	}
	all := make([]AccessKeyStatus, len(keys))
	for i, k := range keys {
		all[i].AccessKey = k
		use, err := s.store.LastAccessKeyUse(ctx, k.ID)
		if err == nil {
			all[i].LastUse = use
		} else if !errors.Is(err, ErrNoRow) {
			return nil, fmt.Errorf("find the last use of %s: %w", k.ID, err)
		}
	}
	return all, nil
}

// RotateAccessKey gives a user who has one access key a second one, and returns the id of the first, which stays as it is
// until whoever uses it has the second.
func (s *Service) RotateAccessKey(ctx context.Context, user *Principal) (created *Credential, first string, err error) {
	keys, err := s.store.AccessKeys(ctx, user.ARN)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("list access keys: %w", err)
	case len(keys) == 0:
		return nil, "", fmt.Errorf("user %s has no access key to rotate: verenc access-key create makes one", user.Name)
	case len(keys) > 1:
		return nil, "", fmt.Errorf("user %s has %d access keys already: delete the one that is out of use first (verenc access-key list shows the last uses)", user.Name, len(keys))
	}
	created, err = s.CreateAccessKey(ctx, user.Account, user.ARN)
	return created, keys[0].ID, err
}

// EnableAccessKey enables or disables an access key. Servers that run refuse, or take, its requests within a second.
func (s *Service) EnableAccessKey(ctx context.Context, id string, enabled bool) error {
	status := map[bool]string{true: "Active", false: "Inactive"}[enabled]
	err := s.records.Command(ctx, "UpdateAccessKey", nil, audit.Object{{Name: "accessKeyId", Value: id}, {Name: "status", Value: status}}, func(ctx context.Context) error {
		return s.store.EnableAccessKey(ctx, id, enabled)
	})
	return accessKeyError(id, err)
}

// DeleteAccessKey ends an access key for ever.
func (s *Service) DeleteAccessKey(ctx context.Context, id string) error {
	err := s.records.Command(ctx, "DeleteAccessKey", nil, audit.Object{{Name: "accessKeyId", Value: id}}, func(ctx context.Context) error {
		return s.store.RemoveAccessKey(ctx, id)
	})
	return accessKeyError(id, err)
}

func accessKeyError(id string, err error) error {
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("there is no access key %s (verenc access-key list shows all)", id)
	}
	if err != nil {
		return fmt.Errorf("change access key %s: %w", id, err)
	}
	return nil
}

var fingerprintPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// ParseFingerprint reads the SHA-256 of a certificate in hex, in either case and with colons or without.
func ParseFingerprint(text string) (string, error) {
	fingerprint := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if !fingerprintPattern.MatchString(fingerprint) {
		return "", fmt.Errorf("%q is not the SHA-256 of a certificate in hex (openssl x509 -noout -fingerprint -sha256 prints it)", text)
	}
	return fingerprint, nil
}

// Certificates returns all mappings of client certificates, in order of their fingerprints.
func (s *Service) Certificates(ctx context.Context) ([]*Certificate, error) {
	all, err := s.store.Certificates(ctx)
	if err != nil {
		return nil, fmt.Errorf("list certificates: %w", err)
	}
	return all, nil
}

// MapCertificate lets a client certificate prove that its holder is a user. One that proves another user must be unmapped
// first.
func (s *Service) MapCertificate(ctx context.Context, fingerprint string, user *Principal) error {
	old, err := s.store.Certificate(ctx, fingerprint)
	if err == nil && old.PrincipalARN != user.ARN {
		return fmt.Errorf("the certificate is mapped to %s already: run verenc certificate unmap %s first", old.PrincipalARN, fingerprint)
	}
	if err != nil && !errors.Is(err, ErrNoRow) {
		return fmt.Errorf("find certificate %s: %w", fingerprint, err)
	}
	return s.putCertificate(ctx, fingerprint, user.ARN)
}

func (s *Service) putCertificate(ctx context.Context, fingerprint, principal string) error {
	err := s.records.Command(ctx, "MapCertificate", aboutPrincipal(principal), audit.Object{{Name: "fingerprint", Value: fingerprint}}, func(ctx context.Context) error {
		return s.store.PutCertificate(ctx, &Certificate{Fingerprint: fingerprint, PrincipalARN: principal, CreatedAt: s.now()})
	})
	if err != nil {
		return fmt.Errorf("map certificate %s: %w", fingerprint, err)
	}
	return nil
}

// UnmapCertificate ends what a certificate proves.
func (s *Service) UnmapCertificate(ctx context.Context, fingerprint string) error {
	err := s.records.Command(ctx, "UnmapCertificate", nil, audit.Object{{Name: "fingerprint", Value: fingerprint}}, func(ctx context.Context) error {
		return s.store.RemoveCertificate(ctx, fingerprint)
	})
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("no principal has the certificate %s (verenc certificate list shows all)", fingerprint)
	}
	if err != nil {
		return fmt.Errorf("unmap certificate %s: %w", fingerprint, err)
	}
	return nil
}
