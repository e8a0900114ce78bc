package service

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
)

// Migration is what MigrateKey has done.
type Migration struct {
	Persisted int  // materials that are token objects now
	Rotated   bool // there is new material, which is kept outside of the token
}

// opInAnyState is an operation that every state of a key allows.
const opInAnyState = "DescribeKey"

// MigrateKey brings a key to a residency; one that has it already is left alone. The key is named as for Attest.
//
// To ResidencyToken, all of its materials become token objects; they stay the same materials. The other way none can go,
// since a token object never leaves the token: a symmetric key gets new material, by a rotation, and needs the old one for
// as long as there are ciphertexts of it. Other keys are refused. Each step can be repeated.
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
	move := s.moveIn
	if to == ResidencyWrapped {
		move = s.moveOut
	}
	var done Migration
	err = s.records.Command(ctx, "MigrateKey", nil, audit.Object{{Name: "residency", Value: to}}, func(ctx context.Context) (err error) {
		s.addKeyToRecord(ctx, k)
		done, err = move(ctx, k)
		return err
	})
	return done, err
}

func (s *Service) moveIn(ctx context.Context, k *Key) (done Migration, err error) {
	for i := range k.Materials {
		if m := &k.Materials[i]; m.outside() && !m.Scrap {
			if err := s.settle(ctx, k, m); err != nil {
				return done, fmt.Errorf("material %d: %w", m.Ordinal, err)
			}
			done.Persisted++
		}
	}
	return done, nil
}

func (s *Service) moveOut(ctx context.Context, k *Key) (none Migration, err error) {
	m := k.current()
	if m == nil || m.outside() {
		return none, nil
	}
	if !k.symmetric() || k.Origin == originExternal {
		return none, fmt.Errorf("its material is a token object, which never leaves the token, and a %s key of origin %s has no rotation", k.Spec, k.Origin)
	}
	switch residency, err := s.residency(ctx, k); {
	case err != nil:
		return none, err
	case residency != ResidencyWrapped:
		return none, errors.New("new material of it would be a token object, too: set the residency of its token to wrapped")
	}
	return Migration{Rotated: true}, s.rotate(ctx, k, rotationOnDemand)
}

// settle makes token objects of a material that is kept outside. They are recorded before, as scrap, so that a crash leaves
// none of which nobody knows.
func (s *Service) settle(ctx context.Context, k *Key, m *Material) error {
	token, err := s.tokenOf(k)
	if err != nil {
		return err
	}
	scrap, err := s.addScrap(ctx, opInAnyState, k, wrapping{})
	if err != nil {
		return err
	}
	for role, id := range scrap.Objects {
		if err := token.Persist(ctx, m.wrappedKey(k, role), id, objectLabel(k, m, role)); err != nil {
			s.dropScrap(ctx, k, scrap, err)
			return fmt.Errorf("settle the %s key: %w", role, err)
		}
	}
	err = s.updateShared(ctx, opInAnyState, k, func(keys []*Key) error {
		for _, r := range keys {
			if r.Region == k.Region && !r.dropMaterial(scrap) {
				return apierror.InternalError(errors.New("the objects were undone while they were made"))
			}
			if own, ok := r.material(m.Ordinal); ok && own.ID == m.ID && own.outside() {
				own.Objects, own.WrappedBy, own.Wrapped = scrap.Objects, ObjectID{}, nil
			}
		}
		return nil
	})
	if err != nil {
		s.dropScrap(ctx, k, scrap, err)
		return err
	}
	if err := s.forget(ctx, k, m); err != nil { // they end with the connection in any case
		s.log.Warn("session objects of a key that was settled", zap.String("key", k.ID), zap.Error(err))
	}
	return nil
}

// forget ends the session objects of a material that is kept outside.
func (s *Service) forget(ctx context.Context, k *Key, m *Material) error {
	token, err := s.tokenOf(k)
	if err != nil {
		return err
	}
	for role := range m.Objects {
		if err := token.Evict(ctx, m.wrappedKey(k, role)); err != nil {
			return fmt.Errorf("forget the %s key: %w", role, err)
		}
	}
	return nil
}
