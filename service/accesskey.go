package service

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
)

// purposeSelf is the token object under which the service seals secrets of its own: of access keys, passwords of custom
// key stores, import tokens. Each use has additional data of its own.
const purposeSelf = "self"

// ErrUnknownAccessKey: there is no such access key, or it is disabled.
var ErrUnknownAccessKey = errors.New("access key is unknown or disabled")

// Credential is an access key with its secret, as it is shown once.
type Credential struct {
	AccessKeyID     string
	SecretAccessKey Secret
}

// InitServiceObjects makes the token objects that the service needs for itself, if they are not there. It is
// for one process at a time, before any server runs. The row comes first, as in CreateKey, so that a crash
// leaves no object that nobody knows of; running it again finishes the work.
func (s *Service) InitServiceObjects(ctx context.Context) error {
	id, err := s.store.ServiceObject(ctx, purposeSelf)
	if errors.Is(err, ErrNoRow) {
		if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
			return fmt.Errorf("draw an object id: %w", err)
		}
		err = s.store.InsertServiceObject(ctx, purposeSelf, id, s.now())
	}
	if err != nil {
		return fmt.Errorf("record the service's own sealing key: %w", err)
	}
	_, err = s.token.Encrypt(ctx, id, []byte{0}, nil)
	if errors.Is(err, hsm.ErrNoObject) {
		err = s.token.GenerateSecretKey(ctx, hsm.SecretKey{ID: id, Label: "verenc/service/" + purposeSelf, Purpose: hsm.Seal})
	}
	if err != nil {
		return fmt.Errorf("make the service's own sealing key: %w", err)
	}
	return nil
}

// CreateAccessKey makes a SigV4 credential of a user, or of an account's root principal. Its secret is stored sealed by the
// token, bound to its id, and returned this once.
func (s *Service) CreateAccessKey(ctx context.Context, account, principal string) (*Credential, error) {
	if kindOf(principal) == KindRole {
		return nil, fmt.Errorf("%s is a role, whose credentials are temporary: AssumeRole gives them", principal)
	}
	var random [40]byte // 10 for the id, 30 for the secret
	if _, err := io.ReadFull(s.cfg.Rand, random[:]); err != nil {
		return nil, fmt.Errorf("draw an access key: %w", err)
	}
	defer clear(random[:])
	id := "AKIA" + base32.StdEncoding.EncodeToString(random[:10])
	secret := base64.StdEncoding.AppendEncode(nil, random[10:])
	sealed, err := s.sealForSelf(ctx, secret, accessKeyData(id))
	if err != nil {
		return nil, fmt.Errorf("seal access key: %w", err)
	}
	err = s.records.Command(ctx, "CreateAccessKey", aboutPrincipal(principal), audit.Object{{Name: "accessKeyId", Value: id}}, func(ctx context.Context) error {
		return s.store.InsertAccessKey(ctx, &AccessKey{ID: id, Account: account, PrincipalARN: principal, SealedSecret: sealed,
			Enabled: true, CreatedAt: s.now()}, maxAccessKeys)
	})
	if err != nil {
		clear(secret)
	}
	switch {
	case errors.Is(err, ErrLimit):
		return nil, fmt.Errorf("%s has %d access keys already, the most that a user can have: delete one first (verenc access-key list shows the last uses)", principal, maxAccessKeys)
	case errors.Is(err, ErrNoRow):
		return nil, fmt.Errorf("there is no %s: create the user first", principal)
	case err != nil:
		return nil, fmt.Errorf("store access key: %w", err)
	}
	return &Credential{AccessKeyID: id, SecretAccessKey: secret}, nil
}

// CreateRootAccessKey makes a credential of an account's root principal.
func (s *Service) CreateRootAccessKey(ctx context.Context, account string) (*Credential, error) {
	if !arn.IsAccount(account) {
		return nil, fmt.Errorf("create access key: account %q is not 12 digits", account)
	}
	return s.CreateAccessKey(ctx, account, arn.Root(account))
}

// accessKeyData is the additional data that binds a sealed secret to its access key and to this use.
func accessKeyData(id string) string { return "verenc-kms/access-key/1|" + id }

// sealForSelf seals a secret of the service's own; use is what it is for, and is needed to open it.
func (s *Service) sealForSelf(ctx context.Context, secret []byte, use string) ([]byte, error) {
	sealer, err := s.store.ServiceObject(ctx, purposeSelf)
	if err != nil {
		return nil, apierror.InternalError(fmt.Errorf("find the service's own sealing key: %w (run verenc init)", err))
	}
	sealed, err := s.token.Encrypt(ctx, sealer, secret, []byte(use))
	if err != nil {
		return nil, dependencyError(err)
	}
	return sealed, nil
}

// openForSelf opens what sealForSelf made. Its errors are those of hsm. The caller clears the secret.
func (s *Service) openForSelf(ctx context.Context, sealed []byte, use string) ([]byte, error) {
	sealer, err := s.store.ServiceObject(ctx, purposeSelf)
	if err != nil {
		return nil, fmt.Errorf("find the service's own sealing key: %w (run verenc init)", err)
	}
	return s.token.Decrypt(ctx, sealer, sealed, []byte(use))
}

// signingKeyID names a derived key of SigV4.
type signingKeyID struct{ accessKeyID, date, region, service string }

// CredentialScope is what a request's signature says of its credential.
type CredentialScope struct {
	AccessKeyID, Date, Region, Service string
	SessionToken                       string // X-Amz-Security-Token, or empty
}

// Credentials returns who an access key belongs to, and the signing key for a scope, derived from the secret by derive.
// The secret is unsealed only when the derived key is not at hand.
func (s *Service) Credentials(ctx context.Context, scope CredentialScope, derive func(secret []byte) [32]byte) (*Identity, [32]byte, error) {
	var none [32]byte
	who, unseal, err := s.credential(ctx, scope)
	if err != nil {
		return nil, none, err
	}
	id := signingKeyID{scope.AccessKeyID, scope.Date, scope.Region, scope.Service}
	if derived, ok := s.signingKeys.Get(id); ok {
		return who, derived, nil
	}
	secret, err := unseal()
	if err != nil {
		return nil, none, err
	}
	defer clear(secret)
	derived := derive(secret)
	s.signingKeys.Add(id, derived)
	return who, derived, nil
}

// credential finds who an access key belongs to, and how to get at its secret.
func (s *Service) credential(ctx context.Context, scope CredentialScope) (who *Identity, unseal func() ([]byte, error), err error) {
	if scope.SessionToken != "" {
		session, err := s.session(ctx, scope.SessionToken)
		if err != nil {
			return nil, nil, err
		}
		if session.AccessKeyID != scope.AccessKeyID {
			return nil, nil, ErrUnknownAccessKey
		}
		who = &Identity{Principal: sessionARN(session.RoleARN, session.Name), Account: arn.AccountOf(session.RoleARN), AccessKeyID: session.AccessKeyID, Session: session}
		return who, func() ([]byte, error) {
			opened, err := s.openSession(ctx, scope.SessionToken)
			if err != nil {
				return nil, err
			}
			return opened.Secret, nil
		}, nil
	}
	k, err := s.store.AccessKey(ctx, scope.AccessKeyID)
	if errors.Is(err, ErrNoRow) || (err == nil && !k.Enabled) {
		return nil, nil, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, nil, apierror.FromStore(err)
	}
	return &Identity{Principal: k.PrincipalARN, Account: k.Account, AccessKeyID: k.ID}, func() ([]byte, error) {
		secret, err := s.openForSelf(ctx, k.SealedSecret, accessKeyData(k.ID))
		if errors.Is(err, hsm.ErrAuthentication) {
			return nil, apierror.InternalError(fmt.Errorf("access key %s: %w", k.ID, err)) // the store was tampered with
		}
		if err != nil {
			return nil, dependencyError(err)
		}
		return secret, nil
	}, nil
}

// CertificateIdentity returns the principal that a client certificate, in DER, is mapped to: a user or an account's root,
// or a session of a role that is named like the certificate. The caller has verified the certificate.
func (s *Service) CertificateIdentity(ctx context.Context, der []byte) (*Identity, error) {
	c, err := s.store.Certificate(ctx, Fingerprint(der))
	if errors.Is(err, ErrNoRow) {
		return nil, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	who := &Identity{Principal: c.PrincipalARN, Account: arn.AccountOf(c.PrincipalARN)}
	if kindOf(c.PrincipalARN) == KindRole {
		who.Principal = sessionARN(c.PrincipalARN, c.Fingerprint)
		who.Session = &Session{RoleARN: c.PrincipalARN, Name: c.Fingerprint, IssuedAt: s.now()}
	}
	return who, nil
}

// Fingerprint names a certificate: the SHA-256 of its DER, in hex.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// Authenticated notes that an access key has signed a request.
func (s *Service) Authenticated(who *Identity, region, service string) {
	if who.AccessKeyID == "" || who.Session != nil {
		return
	}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	s.uses.accessKeys[who.AccessKeyID] = AccessKeyUse{ID: who.AccessKeyID, At: s.now(), Region: region, Service: service}
}
