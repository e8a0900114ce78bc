package service

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/destruction"
)

// Material is one generation of a key's cryptographic material. Its ordinal (from 1) is part of
// every ciphertext blob.
type Material struct {
	Ordinal   uint32
	ID        string // KeyMaterialId: 64 hex digits
	CreatedAt time.Time
	// Objects is empty while imported material is not there: deleted, expired, or not yet imported
	// into a replica.
	Objects map[Role]ObjectID

	// WrappedBy is the token object under which the token has wrapped the material's keys, with
	// residency wrapped. Wrapped are the wrapped keys; Objects then only name them.
	WrappedBy ObjectID        `json:",omitzero"`
	Wrapped   map[Role][]byte `json:",omitempty"`
	// WrapMechanism is the CKM_ number of AES-KWP (RFC 5649) that the token had when the material
	// was made. It wraps the material's data keys, and its own keys with residency wrapped. 0: it
	// was not recorded, or the token has none.
	WrapMechanism uint `json:",omitempty"`

	// Scrap marks material that is being made, or is no longer needed: after a while the reconciler
	// destroys its objects and removes it. So every object has a row, whenever the process crashes.
	Scrap bool `json:",omitempty"`
	// Pending marks imported material that becomes current with the next rotation.
	Pending      bool      `json:",omitempty"`
	RotatedAt    time.Time `json:",omitzero"`  // when it became current; zero for the first
	RotationType string    `json:",omitempty"` // AUTOMATIC or ON_DEMAND, with RotatedAt
	Description  string    `json:",omitempty"` // of imported material
	ExpiresAt    time.Time `json:",omitzero"`  // of imported material; zero is never
	// Known is a hash of imported material that a declaration has in clear (ImportKnown): whoever has read the
	// file knows the key. Empty for all other material.
	Known []byte `json:",omitempty"`
	// ImportedAt is when the objects of imported material were made, which can be later than the material. Zero for
	// generated material, and for what was imported before this was recorded.
	ImportedAt time.Time `json:",omitzero"`
	// Former is the ordinal of the material to which the objects of scrap belonged; 0 if to none.
	Former uint32 `json:",omitempty"`
	// Destruction is who asked for the destruction of scrap that was in use; nil for other material.
	Destruction *destruction.Request `json:",omitempty"`
}

func (m *Material) present() bool { return len(m.Objects) > 0 }

// objectsMadeAt is when the objects of a material were made.
func (m *Material) objectsMadeAt() time.Time {
	if m.ImportedAt.IsZero() {
		return m.CreatedAt
	}
	return m.ImportedAt
}

// takeObjects moves the objects of another material to this scrap.
func (m *Material) takeObjects(from *Material) {
	m.Former, m.ImportedAt, m.Objects = from.Ordinal, from.objectsMadeAt(), from.Objects
	from.Objects, from.ImportedAt = nil, time.Time{}
}

// CurrentMaterial is the material that makes new ciphertexts: the newest that is not pending
// rotation. It is nil for a key that never had any material.
func (k *Key) CurrentMaterial() *Material {
	for i := len(k.Materials) - 1; i >= 0; i-- {
		if m := &k.Materials[i]; !m.Pending && !m.Scrap {
			return m
		}
	}
	return nil
}

// pending is the material that waits for a rotation, or nil.
func (k *Key) pending() *Material {
	for i := range k.Materials {
		if m := &k.Materials[i]; m.Pending && !m.Scrap {
			return m
		}
	}
	return nil
}

// materialID is the KeyMaterialId in answers: only symmetric keys have one.
func (k *Key) materialID() string {
	if m := k.CurrentMaterial(); m != nil && k.symmetric() {
		return m.ID
	}
	return ""
}

func (k *Key) material(ordinal uint32) (*Material, bool) {
	for i := range k.Materials {
		if k.Materials[i].Ordinal == ordinal {
			return &k.Materials[i], true
		}
	}
	return nil, false
}

// rolesOf are the token objects that one material of a key has.
func rolesOf(k *Key) []Role {
	switch spec := keySpecs[k.Spec]; {
	case spec.pair != 0:
		return []Role{RolePair}
	case spec.mac != 0:
		return []Role{RoleMAC}
	case k.Origin == originExternal:
		return []Role{RoleSeal} // no wrap key, so that deleting the material ends its ciphertexts
	}
	return []Role{RoleSeal, RoleWrap}
}

// pairPurposes are the purposes of private keys by KeyUsage.
var pairPurposes = map[string]hsm.PairPurpose{
	usageEncryptDecrypt: hsm.DecryptPair, usageSignVerify: hsm.SignPair, usageKeyAgreement: hsm.DerivePair,
	usageEncapsulate: hsm.DecapsulatePair,
}

// newMaterial draws the identifiers of a material that will be made. wrappingFor returns its
// wrapping.
func (s *Service) newMaterial(k *Key, w wrapping) (*Material, error) {
	var id [32]byte
	if _, err := io.ReadFull(s.cfg.Rand, id[:]); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("draw a material id: %w", err))
	}
	m := &Material{
		Ordinal:       1,
		ID:            hex.EncodeToString(id[:]),
		CreatedAt:     s.now(),
		Objects:       map[Role]ObjectID{},
		WrappedBy:     w.by,
		WrapMechanism: w.mechanism,
	}
	if n := len(k.Materials); n > 0 {
		m.Ordinal = k.Materials[n-1].Ordinal + 1
	}
	for _, role := range rolesOf(k) {
		var object ObjectID
		if _, err := io.ReadFull(s.cfg.Rand, object[:]); err != nil {
			return nil, apierror.InternalError(fmt.Errorf("draw an object id: %w", err))
		}
		m.Objects[role] = object
	}
	return m, nil
}

// generate makes a material's objects in the key's token or, with residency wrapped, its wrapped
// keys. It returns the public key of an asymmetric key.
func (s *Service) generate(ctx context.Context, k *Key, m *Material) (public []byte, err error) {
	token, err := s.tokenOf(k)
	if err != nil {
		return nil, err
	}
	for _, role := range rolesOf(k) {
		id, label := m.Objects[role], objectLabel(k, m, role)
		switch {
		case m.isWrapped():
			if m.Wrapped == nil {
				m.Wrapped = map[Role][]byte{}
			}
			m.Wrapped[role], public, err = token.GenerateWrappedKey(ctx, m.wrappedKey(k, role))
		case role == RolePair:
			public, err = token.GenerateKeyPair(ctx, keyPair(k, id, label))
		default:
			err = token.GenerateSecretKey(ctx, secretKey(k, id, label, role))
		}
		if err != nil {
			return nil, dependencyError(err)
		}
	}
	return public, nil
}

func objectLabel(k *Key, m *Material, role Role) string {
	return fmt.Sprintf("verenc/%s/%d/%s", k.ID, m.Ordinal, role)
}

func secretKey(k *Key, id ObjectID, label string, role Role) hsm.SecretKey {
	return hsm.SecretKey{ID: id, Label: label, Purpose: purposeOf(k, role)}
}

func purposeOf(k *Key, role Role) hsm.Purpose {
	switch role {
	case RoleSeal:
		return hsm.Seal
	case RoleWrap:
		return hsm.Wrap
	}
	return keySpecs[k.Spec].mac
}

func keyPair(k *Key, id ObjectID, label string) hsm.KeyPair {
	return hsm.KeyPair{ID: id, Label: label, Type: keySpecs[k.Spec].pair, Purpose: pairPurposes[k.Usage]}
}

// addScrap records material that is about to be made. It is scrap until it is complete.
func (s *Service) addScrap(ctx context.Context, op string, k *Key, w wrapping) (*Material, error) {
	var m *Material
	err := s.updateKey(ctx, op, k, func(k *Key) error {
		var err error
		if m, err = s.newMaterial(k, w); err != nil {
			return err
		}
		m.Scrap = true
		k.Materials = append(k.Materials, *m)
		return nil
	})
	return m, err
}

// dropScrap undoes addScrap after a failure. A call that timed out may still make the object: that
// is left to Reconcile.
func (s *Service) dropScrap(ctx context.Context, k *Key, m *Material, why error) {
	if errors.Is(why, hsm.ErrTimeout) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if err := s.destroyScrap(ctx, k, m.Ordinal); err != nil {
		s.log.Warn("removal of key material is left to the reconciler", zap.String("key", k.ID),
			zap.Uint32("material", m.Ordinal), zap.Error(err))
	}
}

// destroyScrap destroys the objects of one scrap material and removes it from the key.
func (s *Service) destroyScrap(ctx context.Context, k *Key, ordinal uint32) error {
	now, err := s.store.Key(ctx, k.Region, k.ID)
	if errors.Is(err, ErrNoRow) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	i := slices.IndexFunc(now.Materials, func(m Material) bool { return m.Scrap && m.Ordinal == ordinal })
	if i < 0 {
		return nil
	}
	scrap := now.Materials[i]
	if err := s.destroyCertified(ctx, now, now.Materials[i:i+1], scrap.Destruction); err != nil {
		return err
	}
	err = s.store.UpdateKey(ctx, k.Region, k.ID, func(k *Key) error {
		k.dropMaterial(&scrap)
		return nil
	})
	if err != nil && !errors.Is(err, ErrNoRow) {
		return fmt.Errorf("forget material %d: %w", ordinal, err)
	}
	return nil
}

// dropMaterial removes a scrap material from the key, and tells whether the key had it.
func (k *Key) dropMaterial(scrap *Material) bool {
	before := len(k.Materials)
	k.Materials = slices.DeleteFunc(k.Materials, func(m Material) bool {
		return m.Scrap && m.ID == scrap.ID && m.Ordinal == scrap.Ordinal
	})
	return len(k.Materials) < before
}

// destroyObjects destroys the objects of a key's material, except those that a related key in
// another region uses. Of wrapped material only session objects are destroyed; the material is gone
// with its row.
func (s *Service) destroyObjects(ctx context.Context, k *Key, m *Material) error {
	if m.isWrapped() {
		return s.evict(ctx, k, m)
	}
	token, err := s.tokenOf(k)
	if err != nil {
		return err
	}
	shared, err := s.sharedObjects(ctx, k)
	if err != nil {
		return err
	}
	for role, id := range m.Objects {
		if shared[id] {
			continue
		}
		if err := token.Destroy(ctx, id); err != nil {
			return fmt.Errorf("destroy the %s key: %w", role, err)
		}
	}
	return nil
}

func (s *Service) sharedObjects(ctx context.Context, k *Key) (map[ObjectID]bool, error) {
	if !k.multiRegion() {
		return nil, nil
	}
	related, err := s.store.RelatedKeys(ctx, k.ID)
	if err != nil {
		return nil, fmt.Errorf("read related keys: %w", err)
	}
	shared := map[ObjectID]bool{}
	for _, r := range related {
		if r.Region == k.Region || r.State == StateDeleting {
			continue
		}
		for _, m := range r.Materials {
			for _, id := range m.Objects {
				shared[id] = true
			}
		}
	}
	return shared, nil
}

// timestamp is nil for the zero time.
func timestamp(t time.Time) *Timestamp {
	if t.IsZero() {
		return nil
	}
	at := Timestamp(t)
	return &at
}
