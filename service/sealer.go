package service

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// purposeSelf is the token object under which the service seals secrets of its own: those of access
// keys and sessions, passwords of custom key stores, import tokens. Each use has additional data of
// its own.
const purposeSelf = "self"

// InitServiceObjects makes the token objects that the service needs for itself, if they do not
// exist. Only one process may run it at a time, before any server runs. The row comes first, as in
// CreateKey, so that a crash leaves no unknown object; running it again finishes the work.
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
		key := hsm.SecretKey{ID: id, Label: "verenc/service/" + purposeSelf, Purpose: hsm.Seal}
		err = s.token.GenerateSecretKey(ctx, key)
	}
	if err != nil {
		return fmt.Errorf("make the service's own sealing key: %w", err)
	}
	return nil
}

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

// sealer is the iam.Sealer: it seals the secrets of access keys and sessions.
type sealer struct{ s *Service }

func (x sealer) Seal(ctx context.Context, secret []byte, use string) ([]byte, error) {
	return x.s.sealForSelf(ctx, secret, use)
}

func (x sealer) Open(ctx context.Context, sealed []byte, use string) ([]byte, error) {
	secret, err := x.s.openForSelf(ctx, sealed, use)
	if errors.Is(err, hsm.ErrAuthentication) {
		return nil, fmt.Errorf("%w: %w", iam.ErrNotAuthentic, err)
	}
	if err != nil {
		return nil, dependencyError(err)
	}
	return secret, nil
}
