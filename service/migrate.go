package service

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/record"
)

// Migration is what MigrateKey did.
type Migration struct {
	Persisted int  // materials that became token objects
	Rotated   bool // the key has new material, which is kept outside the token
}

// operationInAnyState is an operation that works in every state of a key.
const operationInAnyState = "DescribeKey"

// MigrateKey changes the residency of a key, if it is another one. The key is named as for Attest.
//
// With ResidencyToken, all materials of the key become token objects; they stay the same materials.
// With ResidencyWrapped, the materials can't move, since a token object never leaves the token. A
// symmetric key gets new material, by a rotation, and needs the old material as long as there are
// ciphertexts of it. Other keys are refused. Each step can be repeated.
func (s *Service) MigrateKey(ctx context.Context, account, region, name string, to Residency) (Migration, error) {
	k, err := s.find(ctx, account, region, name)
	if err == nil && isTransient(k) {
		err = ErrNoRow
	}
	if err != nil {
		return Migration{}, fmt.Errorf("find key %s: %w", name, err)
	}
	if err := s.connectKeyStoreOf(ctx, k); err != nil {
		return Migration{}, err
	}
	move := s.moveToToken
	if to == ResidencyWrapped {
		move = s.moveToWrapped
	}
	var done Migration
	command := &record.Command{Name: "MigrateKey", Account: k.Account,
		About:      []audit.Resource{{ARN: k.ARN(s.canonical), AccountID: k.Account, Type: "AWS::KMS::Key"}},
		Parameters: audit.Object{{Name: "residency", Value: to}}}
	err = s.records.Run(ctx, command, func(ctx context.Context) (err error) {
		s.addKeyToRecord(ctx, k)
		done, err = move(ctx, k)
		return err
	})
	return done, err
}

func (s *Service) moveToToken(ctx context.Context, k *Key) (done Migration, err error) {
	for i := range k.Materials {
		if m := &k.Materials[i]; m.isWrapped() && !m.Scrap {
			if err := s.persist(ctx, k, m); err != nil {
				return done, fmt.Errorf("material %d: %w", m.Ordinal, err)
			}
			done.Persisted++
		}
	}
	return done, nil
}

func (s *Service) moveToWrapped(ctx context.Context, k *Key) (none Migration, err error) {
	m := k.CurrentMaterial()
	if m == nil || m.isWrapped() {
		return none, nil
	}
	if !k.symmetric() || k.Origin == originExternal {
		return none, fmt.Errorf("its material is a token object, which never leaves the token, "+
			"and a %s key of origin %s has no rotation", k.Spec, k.Origin)
	}
	switch residency, err := s.residency(ctx, k); {
	case err != nil:
		return none, err
	case residency != ResidencyWrapped:
		return none, errors.New("new material of it would be a token object, too: " +
			"set the residency of its token to wrapped")
	}
	return Migration{Rotated: true}, s.rotate(ctx, k, rotationOnDemand)
}

// persist makes token objects of wrapped material. They are recorded as scrap first, so that a
// crash leaves no object without a row.
func (s *Service) persist(ctx context.Context, k *Key, m *Material) error {
	token, err := s.tokenOf(k)
	if err != nil {
		return err
	}
	scrap, err := s.addScrap(ctx, operationInAnyState, k, wrapping{})
	if err != nil {
		return err
	}
	for role, id := range scrap.Objects {
		if err := token.Persist(ctx, m.wrappedKey(k, role), id, objectLabel(k, m, role)); err != nil {
			s.dropScrap(ctx, k, scrap, err)
			return fmt.Errorf("persist the %s key: %w", role, err)
		}
	}
	err = s.updateShared(ctx, operationInAnyState, k, func(keys []*Key) error {
		for _, r := range keys {
			if r.Region == k.Region && !r.dropMaterial(scrap) {
				return apierror.InternalError(errors.New("the objects were undone while they were made"))
			}
			if own, ok := r.material(m.Ordinal); ok && own.ID == m.ID && own.isWrapped() {
				own.Objects, own.WrappedBy, own.Wrapped = scrap.Objects, ObjectID{}, nil
			}
		}
		return nil
	})
	if err != nil {
		s.dropScrap(ctx, k, scrap, err)
		return err
	}
	if err := s.evict(ctx, k, m); err != nil { // they end with the connection in any case
		s.log.Warn("session objects of a key that was persisted", zap.String("key", k.ID), zap.Error(err))
	}
	return nil
}

// evict destroys the session objects of wrapped material.
func (s *Service) evict(ctx context.Context, k *Key, m *Material) error {
	token, err := s.tokenOf(k)
	if err != nil {
		return err
	}
	for role := range m.Objects {
		if err := token.Evict(ctx, m.wrappedKey(k, role)); err != nil {
			return fmt.Errorf("evict the %s key: %w", role, err)
		}
	}
	return nil
}
