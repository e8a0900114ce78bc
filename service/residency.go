package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
)

// Residency says where new key material lives. That of keys which are there already does not change with it.
type Residency string

// Residencies. Imported material, and pairs of a type that the token does not wrap, are token objects in any case.
const (
	// ResidencyToken: every key is a token object.
	ResidencyToken Residency = "token"
	// ResidencyWrapped: keys are generated in the token, wrapped there under a token object that never leaves it, and stored;
	// to be used they are unwrapped into session objects. The token's room for objects does not limit their number.
	ResidencyWrapped Residency = "wrapped"
)

// purposeResidency is the token object under which keys are wrapped: of the service's own token or, with a custom key store's
// id behind it, of that one's.
const purposeResidency = "residency"

func residencyPurpose(keyStore string) string {
	if keyStore == "" {
		return purposeResidency
	}
	return purposeResidency + "/" + keyStore
}

// residency is where new material of a key is to live.
func (s *Service) residency(ctx context.Context, k *Key) (Residency, error) {
	residency := s.cfg.Residency
	if k.CustomKeyStore != "" {
		store, err := s.store.KeyStore(ctx, k.CustomKeyStore)
		if err != nil {
			return "", apierror.FromStore(err)
		}
		residency = s.cfg.TokenSources[store.ClusterID].Residency
	}
	pair := keySpecs[k.Spec].pair
	if residency != ResidencyWrapped || k.Origin == originExternal || pair != 0 && !s.can.WrapPairs[pair] {
		return ResidencyToken, nil
	}
	return ResidencyWrapped, nil
}

// wrapping is how new material wraps, and is wrapped.
type wrapping struct {
	by        ObjectID // the token object that it is wrapped under, none for residency token
	mechanism uint     // see Material.WrapMechanism
}

// wrappingFor gives the wrapping of new material of a key.
func (s *Service) wrappingFor(ctx context.Context, k *Key) (w wrapping, err error) {
	residency, err := s.residency(ctx, k)
	if err != nil {
		return w, err
	}
	if residency == ResidencyToken && !slices.Contains(rolesOf(k), RoleWrap) {
		return w, nil
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return w, err
	}
	w.mechanism, err = token.KWPMechanism(ctx)
	switch {
	case errors.Is(err, hsm.ErrUnsupported) && residency == ResidencyToken: // its data keys are sealed only
		return w, nil
	case err != nil:
		return w, dependencyError(err)
	case residency == ResidencyToken:
		return w, nil
	}
	purpose := residencyPurpose(k.CustomKeyStore)
	w.by, err = s.store.ServiceObject(ctx, purpose)
	if errors.Is(err, ErrNoRow) {
		w.by, err = s.makeWrapper(ctx, token, purpose, k.CustomKeyStore)
		return w, err
	}
	return w, apierror.FromStore(err)
}

// makeWrapper makes the wrapping key of a token. It is recorded as one that a reconciler destroys before it is made, and adopted
// after: there is never one under which two processes could wrap different things, nor an object that nobody knows of.
func (s *Service) makeWrapper(ctx context.Context, token Token, purpose, keyStore string) (id ObjectID, err error) {
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		return id, apierror.InternalError(fmt.Errorf("draw an object id: %w", err))
	}
	if err := s.store.InsertWrappingKey(ctx, WrappingKey{ObjectID: id, ExpiresAt: s.now().Add(creationGrace), KeyStore: keyStore}); err != nil {
		return id, apierror.FromStore(err)
	}
	if err := token.GenerateWrappingKey(ctx, id, "verenc/service/"+purpose); err != nil {
		if errors.Is(err, hsm.ErrUnsupported) {
			return id, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, "Residency wrapped", "the token does not keep to CKA_UNWRAP_TEMPLATE").WithCause(err)
		}
		return id, dependencyError(err)
	}
	err = s.store.AdoptServiceObject(ctx, purpose, id, s.now())
	if errors.Is(err, ErrExists) { // another process was first; a reconciler destroys ours
		id, err = s.store.ServiceObject(ctx, purpose)
	}
	return id, apierror.FromStore(err)
}

// key gives what hsm needs to use the material's key of one role.
func (m *Material) key(k *Key, role Role) hsm.Key {
	if !m.outside() {
		return m.Objects[role]
	}
	return m.wrappedKey(k, role)
}

// outside tells whether the material is kept outside of the token, wrapped.
func (m *Material) outside() bool { return m.WrappedBy != ObjectID{} }

func (m *Material) wrappedKey(k *Key, role Role) hsm.WrappedKey {
	w := hsm.WrappedKey{Name: m.Objects[role], Under: m.WrappedBy, Wrapped: m.Wrapped[role], Mechanism: m.WrapMechanism}
	if role == RolePair {
		w.Pair = keyPair(k, m.Objects[role], "")
	} else {
		w.Purpose = purposeOf(k, role)
	}
	return w
}

func (m *Material) pair(k *Key) hsm.SealingKeys {
	return hsm.SealingKeys{Seal: m.key(k, RoleSeal), Wrap: m.key(k, RoleWrap), Mechanism: m.WrapMechanism}
}
