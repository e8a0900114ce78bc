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

// Residency says where new key material is kept. The material of existing keys stays where it is.
type Residency string

// The residencies. Imported material, and key pairs of a type that the token can't wrap, are always
// token objects.
const (
	// ResidencyToken: every key is a token object.
	ResidencyToken Residency = "token"
	// ResidencyWrapped: keys are generated in the token, wrapped there under a token object that
	// never leaves it, and stored. To use them, the token unwraps them into session objects. Their
	// number is not limited by the token.
	ResidencyWrapped Residency = "wrapped"
)

// purposeResidency is the purpose of the token object under which keys are wrapped. The one in the
// token of a custom key store has the store's id after it.
const purposeResidency = "residency"

func residencyPurpose(keyStore string) string {
	if keyStore == "" {
		return purposeResidency
	}
	return purposeResidency + "/" + keyStore
}

// residency is where new material of a key is kept.
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

// wrapping is how new material is wrapped, and how it wraps data keys.
type wrapping struct {
	by        ObjectID // the token object that wraps the material; zero for residency token
	mechanism uint     // see Material.WrapMechanism
}

// wrappingFor returns the wrapping of new material of a key.
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
	case errors.Is(err, hsm.ErrUnsupported) && residency == ResidencyToken: // its data keys are only sealed
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

// makeWrapper makes the wrapping key of a token. Before it is made, it is recorded as an object
// that the reconciler destroys; then it is adopted. So a token never has two wrapping keys, nor an
// object without a row.
func (s *Service) makeWrapper(
	ctx context.Context, token ObjectToken, purpose, keyStore string,
) (id ObjectID, err error) {
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		return id, apierror.InternalError(fmt.Errorf("draw an object id: %w", err))
	}
	row := WrappingKey{ObjectID: id, ExpiresAt: s.now().Add(creationGrace), KeyStore: keyStore}
	if err := s.store.InsertWrappingKey(ctx, row); err != nil {
		return id, apierror.FromStore(err)
	}
	if err := token.GenerateWrappingKey(ctx, id, "verenc/service/"+purpose); err != nil {
		if errors.Is(err, hsm.ErrUnsupported) {
			return id, apierror.New(apierror.UnsupportedOperation, msgTokenCannot, "Residency wrapped",
				"the token does not apply CKA_UNWRAP_TEMPLATE").WithCause(err)
		}
		return id, dependencyError(err)
	}
	err = s.store.AdoptServiceObject(ctx, purpose, id, s.now())
	if errors.Is(err, ErrExists) { // another process was first; the reconciler destroys ours
		id, err = s.store.ServiceObject(ctx, purpose)
	}
	return id, apierror.FromStore(err)
}

// TokenKey is the material's key of one role, as hsm takes it.
func (m *Material) TokenKey(k *Key, role Role) hsm.Key {
	if !m.isWrapped() {
		return m.Objects[role]
	}
	return m.wrappedKey(k, role)
}

// isWrapped tells whether the material is kept outside the token, wrapped.
func (m *Material) isWrapped() bool { return m.WrappedBy != ObjectID{} }

func (m *Material) wrappedKey(k *Key, role Role) hsm.WrappedKey {
	w := hsm.WrappedKey{
		Name:      m.Objects[role],
		Under:     m.WrappedBy,
		Wrapped:   m.Wrapped[role],
		Mechanism: m.WrapMechanism,
	}
	if role == RolePair {
		w.Pair = keyPair(k, m.Objects[role], "")
	} else {
		w.Purpose = purposeOf(k, role)
	}
	return w
}

func (m *Material) pair(k *Key) hsm.SealingKeys {
	return hsm.SealingKeys{Seal: m.TokenKey(k, RoleSeal), Wrap: m.TokenKey(k, RoleWrap), Mechanism: m.WrapMechanism}
}
