package service

import (
	"context"
	"errors"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/lastuse"
)

// KeyUse is the last successful cryptographic operation with a key.
type KeyUse struct {
	Region    string
	KeyID     string
	Operation string
	At        time.Time
	EventID   string // of its audit record
	RequestID string
}

// uses are the last uses of keys that Run has not stored yet.
type uses struct {
	keys lastuse.Uses[keyRef, KeyUse]
	many chan struct{} // has an element when there are manyUses
}

// manyUses are stored without waiting for the interval, to bound the memory: each takes some 500
// bytes.
const manyUses = 10_000

type keyRef struct{ region, id string }

// recordUse remembers a successful cryptographic operation with a key.
func (s *Service) recordUse(c *iam.Caller, op string, k *Key) {
	use := KeyUse{
		Region:    k.Region,
		KeyID:     k.ID,
		Operation: op,
		At:        s.now(),
		EventID:   c.EventID,
		RequestID: c.RequestID,
	}
	if s.uses.keys.Add(keyRef{k.Region, k.ID}, use) >= manyUses {
		select {
		case s.uses.many <- struct{}{}:
		default:
		}
	}
}

// flushUses stores the last uses of keys and access keys. Those that it can't store it keeps for
// the next time.
func (s *Service) flushUses(ctx context.Context) error {
	return errors.Join(
		s.uses.keys.Store(func(uses []KeyUse) error { return s.store.RecordUses(ctx, uses) }),
		s.iam.StoreUses(ctx),
	)
}

// LastUse returns the last successful cryptographic operation with a key, or nil when there was none.
func (s *Service) LastUse(ctx context.Context, k *Key) (*KeyUse, error) {
	if u, found := s.uses.keys.Last(keyRef{k.Region, k.ID}); found {
		return &u, nil
	}
	stored, err := s.store.LastUse(ctx, k.Region, k.ID)
	if errors.Is(err, ErrNoRow) {
		return nil, nil
	}
	return stored, apierror.FromStore(err)
}

// GetKeyLastUsageRequest is the input of GetKeyLastUsage.
type GetKeyLastUsageRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// KeyLastUsageData is a key's last use.
type KeyLastUsageData struct {
	Operation         string
	Timestamp         Timestamp
	CloudTrailEventId string `json:",omitempty"`
	KmsRequestId      string
}

// GetKeyLastUsageResponse is the output of GetKeyLastUsage.
type GetKeyLastUsageResponse struct {
	KeyId             string
	KeyLastUsage      *KeyLastUsageData `json:",omitempty"`
	TrackingStartDate Timestamp
	KeyCreationDate   Timestamp
}

// GetKeyLastUsage returns the last successful use of a key. Uses are tracked since the key's
// creation.
func (s *Service) GetKeyLastUsage(
	ctx context.Context, c *iam.Caller, in *GetKeyLastUsageRequest,
) (*GetKeyLastUsageResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "GetKeyLastUsage", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	created := Timestamp(k.CreatedAt)
	out := &GetKeyLastUsageResponse{KeyId: k.ID, TrackingStartDate: created, KeyCreationDate: created}
	u, err := s.LastUse(ctx, k)
	if err != nil {
		return nil, err
	}
	if u != nil {
		out.KeyLastUsage = &KeyLastUsageData{
			Operation:         u.Operation,
			Timestamp:         Timestamp(u.At),
			CloudTrailEventId: u.EventID,
			KmsRequestId:      u.RequestID,
		}
	}
	return out, nil
}
