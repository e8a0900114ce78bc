package service

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/verenc/kms/service/apierror"
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

// uses are the last uses that Run has not stored yet. They are stored in the background, so that no
// request waits for a write.
type uses struct {
	mu         sync.Mutex
	last       map[keyRef]KeyUse       // guarded by mu
	accessKeys map[string]AccessKeyUse // guarded by mu
	many       chan struct{}           // has an element when there are manyUses
}

// manyUses are stored without waiting for the interval, to bound the memory: each takes some 500
// bytes.
const manyUses = 10_000

func newUses() uses {
	return uses{last: map[keyRef]KeyUse{}, accessKeys: map[string]AccessKeyUse{}, many: make(chan struct{}, 1)}
}

type keyRef struct{ region, id string }

// recordUse remembers a successful cryptographic operation with a key.
func (s *Service) recordUse(c *Caller, op string, k *Key) {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	s.uses.last[keyRef{k.Region, k.ID}] = KeyUse{
		Region:    k.Region,
		KeyID:     k.ID,
		Operation: op,
		At:        s.now(),
		EventID:   c.EventID,
		RequestID: c.RequestID,
	}
	if len(s.uses.last) >= manyUses {
		select {
		case s.uses.many <- struct{}{}:
		default:
		}
	}
}

// flushUses stores the last uses. Those that it can't store it keeps for the next time.
func (s *Service) flushUses(ctx context.Context) error {
	newKeys, newAccessKeys := map[keyRef]KeyUse{}, map[string]AccessKeyUse{}
	s.uses.mu.Lock()
	keys, accessKeys := s.uses.last, s.uses.accessKeys
	s.uses.last, s.uses.accessKeys = newKeys, newAccessKeys
	s.uses.mu.Unlock()
	return errors.Join(
		flush(&s.uses, keys, newKeys, func(all []KeyUse) error { return s.store.RecordUses(ctx, all) }),
		flush(&s.uses, accessKeys, newAccessKeys, func(all []AccessKeyUse) error {
			return s.store.RecordAccessKeyUses(ctx, all)
		}),
	)
}

// flush stores uses. If that fails, it adds them to later, except where later has a newer use.
func flush[K comparable, V any](u *uses, now, later map[K]V, record func([]V) error) error {
	if len(now) == 0 {
		return nil
	}
	err := record(slices.Collect(maps.Values(now)))
	if err != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
		for id, use := range now {
			if _, newer := later[id]; !newer {
				later[id] = use
			}
		}
	}
	return err
}

func (s *Service) lastUse(ctx context.Context, k *Key) (*KeyUse, error) {
	s.uses.mu.Lock()
	u, unstored := s.uses.last[keyRef{k.Region, k.ID}]
	s.uses.mu.Unlock()
	if unstored {
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
	ctx context.Context, c *Caller, in *GetKeyLastUsageRequest,
) (*GetKeyLastUsageResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "GetKeyLastUsage", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	created := Timestamp(k.CreatedAt)
	out := &GetKeyLastUsageResponse{KeyId: k.ID, TrackingStartDate: created, KeyCreationDate: created}
	u, err := s.lastUse(ctx, k)
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
