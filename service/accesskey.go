package service

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"

	"github.com/verenc/kms/hsm"
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

// CreateAccessKey makes a SigV4 credential of a principal. Its secret is stored sealed by the token, bound to its id,
// and returned this once.
func (s *Service) CreateAccessKey(ctx context.Context, account, principal string) (*Credential, error) {
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
	err = s.store.InsertAccessKey(ctx, &AccessKey{ID: id, Account: account, PrincipalARN: principal, SealedSecret: sealed,
		Enabled: true, CreatedAt: s.now()})
	if err != nil {
		clear(secret)
		return nil, fmt.Errorf("store access key: %w", err)
	}
	return &Credential{AccessKeyID: id, SecretAccessKey: secret}, nil
}

// CreateRootAccessKey makes a credential of an account's root principal.
func (s *Service) CreateRootAccessKey(ctx context.Context, account string) (*Credential, error) {
	if !accountID.MatchString(account) {
		return nil, fmt.Errorf("create access key: account %q is not 12 digits", account)
	}
	return s.CreateAccessKey(ctx, account, rootARN(account))
}

// accessKeyData is the additional data that binds a sealed secret to its access key and to this use.
func accessKeyData(id string) string { return "verenc-kms/access-key/1|" + id }

// sealForSelf seals a secret of the service's own; use is what it is for, and is needed to open it.
func (s *Service) sealForSelf(ctx context.Context, secret []byte, use string) ([]byte, error) {
	sealer, err := s.store.ServiceObject(ctx, purposeSelf)
	if err != nil {
		return nil, internal(fmt.Errorf("find the service's own sealing key: %w (run verenc init)", err))
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
type signingKeyID struct{ accessKeyID, date, region string }

// Credentials returns the access key and its signing key for a date (YYYYMMDD) and region, derived from the secret
// by derive. The secret is unsealed only when the derived key is not at hand.
func (s *Service) Credentials(ctx context.Context, accessKeyID, date, region string, derive func(secret []byte) [32]byte) (*AccessKey, [32]byte, error) {
	var none [32]byte
	k, err := s.store.AccessKey(ctx, accessKeyID)
	if errors.Is(err, ErrNoRow) || (err == nil && !k.Enabled) {
		return nil, none, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, none, storeError(err)
	}
	id := signingKeyID{accessKeyID, date, region}
	if derived, ok := s.signingKeys.Get(id); ok {
		return k, derived, nil
	}
	secret, err := s.openForSelf(ctx, k.SealedSecret, accessKeyData(k.ID))
	if errors.Is(err, hsm.ErrAuthentication) {
		return nil, none, internal(fmt.Errorf("access key %s: %w", k.ID, err)) // the store was tampered with
	}
	if err != nil {
		return nil, none, dependencyError(err)
	}
	defer clear(secret)
	derived := derive(secret)
	s.signingKeys.Add(id, derived)
	return k, derived, nil
}
