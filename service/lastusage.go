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

// uses remembers the last use of each key until Run stores it, so that no request waits for a write.
type uses struct {
	mu         sync.Mutex
	last       map[keyRef]KeyUse       // guarded by mu: not yet stored
	accessKeys map[string]AccessKeyUse // guarded by mu: not yet stored
	many       chan struct{}           // has an element when there are many to store
}

// manyUses are stored before it is time, for the sake of memory: each takes some 500 bytes.
const manyUses = 10_000

type keyRef struct{ region, id string }

// recordUse notes a successful cryptographic operation.
func (s *Service) recordUse(c *Caller, op string, k *Key) {
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	s.uses.last[keyRef{k.Region, k.ID}] = KeyUse{Region: k.Region, KeyID: k.ID, Operation: op, At: s.now(), EventID: c.EventID, RequestID: c.RequestID}
	if len(s.uses.last) >= manyUses {
		select {
		case s.uses.many <- struct{}{}:
		default:
		}
	}
}

// flushUses stores what has been noted. What can't be stored is kept for the next time.
func (s *Service) flushUses(ctx context.Context) error {
	newKeys, newAccessKeys := map[keyRef]KeyUse{}, map[string]AccessKeyUse{}
	s.uses.mu.Lock()
	keys, accessKeys := s.uses.last, s.uses.accessKeys
	s.uses.last, s.uses.accessKeys = newKeys, newAccessKeys
	s.uses.mu.Unlock()
	return errors.Join(flush(s, keys, newKeys, func(uses []KeyUse) error { return s.store.RecordUses(ctx, uses) }),
		flush(s, accessKeys, newAccessKeys, func(uses []AccessKeyUse) error { return s.store.RecordAccessKeyUses(ctx, uses) }))
}

// flush stores what was taken, or puts it back where nothing newer has been noted since.
func flush[K comparable, V any](s *Service, taken, noted map[K]V, record func([]V) error) error {
	if len(taken) == 0 {
		return nil
	}
	err := record(slices.Collect(maps.Values(taken)))
	if err != nil {
		s.uses.mu.Lock()
		defer s.uses.mu.Unlock()
		for id, u := range taken {
			if _, newer := noted[id]; !newer {
				noted[id] = u
			}
		}
	}
	return err
}

func (s *Service) lastUse(ctx context.Context, k *Key) (*KeyUse, error) {
	s.uses.mu.Lock()
	u, noted := s.uses.last[keyRef{k.Region, k.ID}]
	s.uses.mu.Unlock()
	if noted {
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

// GetKeyLastUsage tells when a key was last used with success. Uses have been tracked since the key's creation.
func (s *Service) GetKeyLastUsage(ctx context.Context, c *Caller, in *GetKeyLastUsageRequest) (*GetKeyLastUsageResponse, error) {
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
		out.KeyLastUsage = &KeyLastUsageData{Operation: u.Operation, Timestamp: Timestamp(u.At), CloudTrailEventId: u.EventID, KmsRequestId: u.RequestID}
	}
	return out, nil
}
