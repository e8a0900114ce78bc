package service

import (
	"context"
	"time"

	"github.com/verenc/kms/service/iam"
)

const (
	defaultWindow = 30 // days; API Reference, ScheduleKeyDeletion
	day           = 24 * time.Hour
)

// ScheduleKeyDeletionRequest is the input of ScheduleKeyDeletion.
type ScheduleKeyDeletionRequest struct {
	KeyId               string `shape:"KeyIdType" required:"true"`
	PendingWindowInDays int32  `shape:"PendingWindowInDaysType"`
}

// ScheduleKeyDeletionResponse is the output of ScheduleKeyDeletion.
type ScheduleKeyDeletionResponse struct {
	KeyId               string
	DeletionDate        *Timestamp `json:",omitempty"`
	KeyState            string
	PendingWindowInDays int32
}

// ScheduleKeyDeletion starts a key's waiting period, after which its material is destroyed for
// ever. The waiting period of a multi-Region primary key starts when its last replica is gone.
func (s *Service) ScheduleKeyDeletion(
	ctx context.Context, c *iam.Caller, in *ScheduleKeyDeletionRequest,
) (*ScheduleKeyDeletionResponse, error) {
	days := in.PendingWindowInDays
	if days == 0 {
		days = defaultWindow
	}
	k, err := s.keyFor(ctx, c, keyRequest{
		operation:   "ScheduleKeyDeletion",
		keyID:       in.KeyId,
		policyInput: policyInput{conditions: pendingWindow(days)},
	})
	if err != nil {
		return nil, err
	}
	at := s.now().Add(time.Duration(days) * day)
	asked := s.destructionRequest(c, opScheduleKeyDeletion)
	out := &ScheduleKeyDeletionResponse{KeyId: k.ARN(s.arns(ctx)), PendingWindowInDays: days}
	err = s.updateShared(ctx, "ScheduleKeyDeletion", k, func(keys []*Key) error {
		for _, r := range keys {
			if r.Region == k.Region {
				r.State, r.DeletionAt, r.Deletion = StatePendingDeletion, at, asked
				if r.primary() && len(keys) > 1 {
					r.State, r.DeletionAt, r.PendingWindow = StatePendingReplicaDeletion, time.Time{}, days
				}
				out.KeyState, out.DeletionDate = string(r.State), timestamp(r.DeletionAt)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pendingWindow is a waiting period in days.
type pendingWindow int32

func (w pendingWindow) condition(key string, _ *Key) []string {
	if key == "kms:schedulekeydeletionpendingwindowindays" {
		return one(decimal(int32(w)))
	}
	return nil
}

// CancelKeyDeletionRequest is the input of CancelKeyDeletion.
type CancelKeyDeletionRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// CancelKeyDeletionResponse is the output of CancelKeyDeletion.
type CancelKeyDeletionResponse struct {
	KeyId string
}

// CancelKeyDeletion ends the waiting period. The key is Disabled afterwards.
func (s *Service) CancelKeyDeletion(
	ctx context.Context, c *iam.Caller, in *CancelKeyDeletionRequest,
) (*CancelKeyDeletionResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "CancelKeyDeletion", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	err = s.updateKey(ctx, "CancelKeyDeletion", k, func(k *Key) error {
		k.State, k.DeletionAt, k.PendingWindow, k.Deletion = StateDisabled, time.Time{}, 0, nil
		if k.Origin == originExternal && !k.complete() {
			k.State = StatePendingImport
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &CancelKeyDeletionResponse{KeyId: k.ARN(s.arns(ctx))}, nil
}
