package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
)

// GenerateWrappingKey generates a token object that wraps keys to be kept outside: AES-256,
// CKA_WRAP and CKA_UNWRAP. Its CKA_UNWRAP_TEMPLATE has the token unwrap them into sensitive keys
// that are not extractable, and into nothing else. A token that does not keep to that gives
// ErrUnsupported, and no object is left. Like GenerateSecretKey, the call must not be repeated.
func (t *Token) GenerateWrappingKey(ctx context.Context, id ObjectID, label string) error {
	_, err := connection.Run(ctx, t.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.GenerateWrappingKey(keyobject.TokenObject(id, label))
		if err != nil {
			return struct{}{}, err
		}
		if err := s.KeepsUnwrapTemplate(h); err != nil {
			return struct{}{}, errors.Join(err, s.Destroy(h))
		}
		return struct{}{}, s.Remember(id, h)
	})
	if err != nil {
		return fmt.Errorf("generate wrapping key: %w", err)
	}
	return nil
}

// GenerateWrappedKey generates a key in the token and wraps it there. Name, Under and Purpose or
// Pair say which. It is unwrapped once before it is returned, so that it is known to work. The
// token keeps only the session object that it is used through. spki is as with GenerateKeyPair, nil
// for a secret key; pairs have the deadline of that.
func (t *Token) GenerateWrappedKey(ctx context.Context, k WrappedKey) (wrapped, spki []byte, err error) {
	if _, err := k.Template(); err != nil {
		return nil, nil, fmt.Errorf("generate wrapped key: %w", err)
	}
	inTime := connection.Run[[2][]byte]
	if k.Purpose == 0 {
		inTime = connection.RunGenerate[[2][]byte]
	}
	both, err := inTime(ctx, t.link, func(s *connection.Session) (both [2][]byte, err error) {
		wrapping, err := s.LookupObject(k.Under)
		if err != nil {
			return both, err
		}
		k := k
		if k.Purpose != 0 {
			k.Wrapped, err = s.GenerateWrappedKey(wrapping, k.Purpose)
		} else {
			both[1], k.Wrapped, err = s.GenerateWrappedPair(wrapping, k.Pair.Type.Info())
		}
		if err == nil {
			_, err = s.Hold(k)
		}
		both[0] = k.Wrapped
		return both, err
	})
	return both[0], both[1], err
}

// Persist makes a token object of a wrapped key: of the same value, sensitive, not extractable, not
// modifiable. Like GenerateSecretKey, the call must not be repeated.
func (t *Token) Persist(ctx context.Context, k WrappedKey, id ObjectID, label string) error {
	template, err := k.Template()
	if err != nil {
		return fmt.Errorf("persist key: %w", err)
	}
	_, err = connection.Run(ctx, t.link, func(s *connection.Session) (struct{}, error) {
		wrapping, err := s.LookupObject(k.Under)
		if err != nil {
			return struct{}{}, err
		}
		mechanisms, err := s.UnwrapMechanisms(k.Mechanism)
		if err != nil {
			return struct{}{}, err
		}
		h, err := s.UnwrapAny(mechanisms, wrapping, k.Wrapped, append(template, keyobject.TokenObject(id, label)...))
		if err != nil {
			return struct{}{}, k.UnwrapError(err)
		}
		if err := s.DestroyIfExtractable(h); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, s.Remember(id, h)
	})
	return err
}

// Evict destroys the session object that a wrapped key was used through, if there is one.
func (t *Token) Evict(ctx context.Context, k WrappedKey) error {
	_, err := connection.Run(
		ctx, t.link, func(s *connection.Session) (struct{}, error) { return struct{}{}, s.Evict(k.Name) },
	)
	return err
}
