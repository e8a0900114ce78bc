package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

const (
	defaultRotation = 365 // days; API Reference, EnableKeyRotation
	maxOnDemand     = 25  // on-demand rotations of a key; API Reference, RotateKeyOnDemand
	// rotationNear is the time before an automatic rotation in which an on-demand rotation is
	// refused; API Reference, ConflictException.
	rotationNear      = 20 * time.Minute
	rotationAutomatic = "AUTOMATIC"
	rotationOnDemand  = "ON_DEMAND"
)

// EnableKeyRotationRequest is the input of EnableKeyRotation.
type EnableKeyRotationRequest struct {
	KeyId                string `shape:"KeyIdType" required:"true"`
	RotationPeriodInDays int32  `shape:"RotationPeriodInDaysType"`
}

// EnableKeyRotation makes a key rotate automatically.
func (s *Service) EnableKeyRotation(ctx context.Context, c *iam.Caller, in *EnableKeyRotationRequest) (*Empty, error) {
	r := keyRequest{operation: "EnableKeyRotation", keyID: in.KeyId, policyInput: policyInput{conditions: in}}
	return s.changeRotation(ctx, c, r, func(r *Rotation) {
		period := in.RotationPeriodInDays
		if period == 0 {
			if period = r.PeriodDays; period == 0 {
				period = defaultRotation
			}
		}
		if period != r.PeriodDays {
			r.PeriodDays, r.NextAt = period, s.now().Add(time.Duration(period)*day)
		}
	})
}

func (in *EnableKeyRotationRequest) condition(key string, _ *Key) []string {
	if key == "kms:rotationperiodindays" {
		return one(decimal(in.RotationPeriodInDays))
	}
	return nil
}

// DisableKeyRotationRequest is the input of DisableKeyRotation.
type DisableKeyRotationRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// DisableKeyRotation ends a key's automatic rotation.
func (s *Service) DisableKeyRotation(
	ctx context.Context, c *iam.Caller, in *DisableKeyRotationRequest,
) (*Empty, error) {
	return s.changeRotation(ctx, c, keyRequest{operation: "DisableKeyRotation", keyID: in.KeyId}, func(r *Rotation) {
		r.PeriodDays, r.NextAt = 0, time.Time{}
	})
}

// changeRotation changes the rotation of a key, which all keys of a multi-Region key share.
func (s *Service) changeRotation(
	ctx context.Context, c *iam.Caller, r keyRequest, change func(*Rotation),
) (*Empty, error) {
	k, err := s.keyFor(ctx, c, r)
	if err != nil {
		return nil, err
	}
	if err := s.checkPrimary(ctx, k); err != nil {
		return nil, err
	}
	return &Empty{}, s.updateShared(ctx, r.operation, k, func(keys []*Key) error {
		for _, k := range keys {
			change(&k.Rotation)
		}
		return nil
	})
}

// checkPrimary refuses a replica for an operation on primary keys.
func (s *Service) checkPrimary(ctx context.Context, k *Key) error {
	if k.multiRegion() && !k.primary() {
		return apierror.New(apierror.UnsupportedOperation,
			"%s is not a multi-region primary key.", k.ARN(s.arns(ctx)))
	}
	return nil
}

// GetKeyRotationStatusRequest is the input of GetKeyRotationStatus.
type GetKeyRotationStatusRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// GetKeyRotationStatusResponse is the output of GetKeyRotationStatus.
type GetKeyRotationStatusResponse struct {
	KeyRotationEnabled   bool
	KeyId                string
	RotationPeriodInDays int32      `json:",omitempty"`
	NextRotationDate     *Timestamp `json:",omitempty"`
}

// GetKeyRotationStatus tells whether and when a key rotates automatically. Asymmetric and HMAC
// keys, and those with imported material, never do (AWS page "Key type reference"). On-demand
// rotations are complete when RotateKeyOnDemand answers, so that none is ever in progress.
func (s *Service) GetKeyRotationStatus(
	ctx context.Context, c *iam.Caller, in *GetKeyRotationStatusRequest,
) (*GetKeyRotationStatusResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "GetKeyRotationStatus", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	out := &GetKeyRotationStatusResponse{KeyId: k.ARN(s.arns(ctx))}
	if k.Rotation.PeriodDays > 0 && k.State != StatePendingDeletion && k.State != StatePendingReplicaDeletion {
		out.KeyRotationEnabled, out.RotationPeriodInDays = true, k.Rotation.PeriodDays
		out.NextRotationDate = timestamp(k.Rotation.NextAt)
	}
	return out, nil
}

// RotateKeyOnDemandRequest is the input of RotateKeyOnDemand.
type RotateKeyOnDemandRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// RotateKeyOnDemandResponse is the output of RotateKeyOnDemand.
type RotateKeyOnDemandResponse struct {
	KeyId string
}

// RotateKeyOnDemand gives a key new material at once. Ciphertexts of the old materials stay
// readable.
func (s *Service) RotateKeyOnDemand(
	ctx context.Context, c *iam.Caller, in *RotateKeyOnDemandRequest,
) (*RotateKeyOnDemandResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "RotateKeyOnDemand", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	if err := s.checkPrimary(ctx, k); err != nil {
		return nil, err
	}
	if k.Rotation.OnDemand >= maxOnDemand {
		return nil, apierror.New(apierror.LimitExceeded,
			"The on-demand rotations limit has been reached for the given keyId. "+
				"No more on-demand rotations can be performed for this key: %s", k.ARN(s.arns(ctx)))
	}
	if at := k.Rotation.NextAt; k.Rotation.PeriodDays > 0 && !at.After(s.now().Add(rotationNear)) {
		return nil, apierror.New(apierror.Conflict,
			"An automatic rotation of %s is in progress or begins within the next %.0f minutes.",
			k.ARN(s.arns(ctx)), rotationNear.Minutes())
	}
	if k.Origin == originExternal {
		err = s.rotateToPending(ctx, k)
	} else {
		err = s.rotate(ctx, k, rotationOnDemand)
	}
	if err != nil {
		return nil, err
	}
	return &RotateKeyOnDemandResponse{KeyId: k.ARN(s.arns(ctx))}, nil
}

// rotateToPending makes the imported material that is pending rotation current, in every region.
func (s *Service) rotateToPending(ctx context.Context, k *Key) error {
	none := apierror.New(apierror.InvalidState,
		"No available key material pending rotation for the key: %s.", k.ARN(s.arns(ctx)))
	return s.updateShared(ctx, "RotateKeyOnDemand", k, func(keys []*Key) error {
		for _, k := range keys {
			m := k.pending()
			if m == nil || !m.present() {
				return none
			}
			m.Pending, m.RotatedAt, m.RotationType = false, s.now(), rotationOnDemand
			k.Rotation.OnDemand++
		}
		return nil
	})
}

// rotate makes new material in the token, and then makes it current in every region. An automatic
// rotation is of the material that k has: of two servers that find it due, one rotates.
func (s *Service) rotate(ctx context.Context, k *Key, kind string) error {
	before := k.CurrentMaterial()
	w, err := s.wrappingFor(ctx, k)
	if err != nil {
		return err
	}
	m, err := s.addScrap(ctx, "RotateKeyOnDemand", k, w)
	if err != nil {
		return err
	}
	if _, err := s.generate(ctx, k, m); err != nil {
		s.dropScrap(ctx, k, m, err)
		return err
	}
	err = s.updateShared(ctx, "RotateKeyOnDemand", k, func(keys []*Key) error {
		for _, k := range keys {
			if now := k.CurrentMaterial(); kind == rotationAutomatic && (now == nil || now.ID != before.ID) {
				return errChanged
			}
			own, there := k.material(m.Ordinal)
			if !there {
				k.Materials = append(k.Materials, *m)
				own = &k.Materials[len(k.Materials)-1]
			} else if own.ID != m.ID {
				return apierror.InternalError(fmt.Errorf("material %d was undone while it was made", m.Ordinal))
			}
			own.Scrap, own.Wrapped, own.RotatedAt, own.RotationType = false, m.Wrapped, s.now(), kind
			if kind == rotationOnDemand {
				k.Rotation.OnDemand++
			}
			k.Rotation.advance(s.now())
		}
		return nil
	})
	switch {
	case errors.Is(err, ErrTakenOver):
		// Perhaps whoever took over has cleared the material away before it was generated.
		return errors.Join(err, s.destroyObjects(context.WithoutCancel(ctx), k, m))
	case errors.Is(err, errChanged):
		s.dropScrap(ctx, k, m, err)
	}
	return err
}

// advance moves the next automatic rotation into the future. On-demand rotations don't change the
// schedule.
func (r *Rotation) advance(now time.Time) {
	for r.PeriodDays > 0 && !r.NextAt.After(now) {
		r.NextAt = r.NextAt.Add(time.Duration(r.PeriodDays) * day)
	}
}

// ListKeyRotationsRequest is the input of ListKeyRotations.
type ListKeyRotationsRequest struct {
	KeyId              string `shape:"KeyIdType" required:"true"`
	IncludeKeyMaterial string `shape:"IncludeKeyMaterial"`
	Limit              int32  `shape:"LimitType"`
	Marker             string `shape:"MarkerType"`
}

// RotationsListEntry is one material of ListKeyRotations.
type RotationsListEntry struct {
	KeyId                  string
	KeyMaterialId          string
	KeyMaterialDescription string `json:",omitempty"`
	ImportState            string `json:",omitempty"`
	KeyMaterialState       string
	ExpirationModel        string     `json:",omitempty"`
	ValidTo                *Timestamp `json:",omitempty"`
	RotationDate           *Timestamp `json:",omitempty"`
	RotationType           string     `json:",omitempty"`
}

// ListKeyRotationsResponse is the output of ListKeyRotations.
type ListKeyRotationsResponse struct {
	Rotations  []RotationsListEntry
	NextMarker string `json:",omitempty"`
	Truncated  bool
}

// ListKeyRotations returns a key's materials, oldest first: those that came by rotation, or all.
func (s *Service) ListKeyRotations(
	ctx context.Context, c *iam.Caller, in *ListKeyRotationsRequest,
) (*ListKeyRotationsResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "ListKeyRotations", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	p, err := newPage("ListKeyRotations", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	waiting, err := s.waitsForReplicas(ctx, k)
	if err != nil {
		return nil, err
	}
	var shown []*Material
	for i := range k.Materials {
		if m := &k.Materials[i]; !m.Scrap && (!m.RotatedAt.IsZero() || in.IncludeKeyMaterial == "ALL_KEY_MATERIAL") {
			shown = append(shown, m)
		}
	}
	list, next := pageOf(p, shown, func(m *Material) string { return fmt.Sprintf("%010d", m.Ordinal) })
	out := &ListKeyRotationsResponse{Rotations: []RotationsListEntry{}, NextMarker: next, Truncated: next != ""}
	for _, m := range list {
		out.Rotations = append(out.Rotations, rotationEntry(k, m, waiting))
	}
	return out, nil
}

func rotationEntry(k *Key, m *Material, waitsForReplicas bool) RotationsListEntry {
	e := RotationsListEntry{
		KeyId:            k.ID,
		KeyMaterialId:    m.ID,
		KeyMaterialState: "NON_CURRENT",
		RotationDate:     timestamp(m.RotatedAt),
		RotationType:     m.RotationType,
	}
	switch {
	case m.Pending && waitsForReplicas:
		e.KeyMaterialState = "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
	case m.Pending:
		e.KeyMaterialState = "PENDING_ROTATION"
	case m == k.CurrentMaterial():
		e.KeyMaterialState = "CURRENT"
	}
	if k.Origin == originExternal {
		e.KeyMaterialDescription, e.ImportState = m.Description, "IMPORTED"
		if !m.present() {
			e.ImportState = "PENDING_IMPORT"
			return e
		}
		e.ExpirationModel, e.ValidTo = expirationModel(m), timestamp(m.ExpiresAt)
	}
	return e
}

// waitsForReplicas tells whether pending material of a multi-Region key has not been imported in
// every region yet.
func (s *Service) waitsForReplicas(ctx context.Context, k *Key) (bool, error) {
	if k.pending() == nil || !k.multiRegion() {
		return false, nil
	}
	related, err := s.store.RelatedKeys(ctx, k.ID)
	if err != nil {
		return false, apierror.FromStore(err)
	}
	for _, r := range related {
		if m := r.pending(); !isTransient(r) && (m == nil || !m.present()) {
			return true, nil
		}
	}
	return false, nil
}
