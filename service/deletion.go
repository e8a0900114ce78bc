package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
)

const (
	defaultWindow = 30 // days; API Reference, ScheduleKeyDeletion
	day           = 24 * time.Hour

	// creationGrace is how long after its start a CreateKey of this process is surely over: it makes a few
	// token calls, each with a deadline of seconds.
	creationGrace = 10 * time.Minute
	reconcileMany = 100 // keys read at once
)

// ScheduleKeyDeletionRequest is the input of ScheduleKeyDeletion.
type ScheduleKeyDeletionRequest struct {
	KeyId               string `shape:"KeyIdType" required:"true"`
	PendingWindowInDays int32  `shape:"PendingWindowInDaysType"`
}

// ScheduleKeyDeletionResponse is the output of ScheduleKeyDeletion.
type ScheduleKeyDeletionResponse struct {
	KeyId               string
	DeletionDate        Timestamp
	KeyState            string
	PendingWindowInDays int32
}

// ScheduleKeyDeletion starts a key's waiting period, after which its material is destroyed for ever.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, c *Caller, in *ScheduleKeyDeletionRequest) (*ScheduleKeyDeletionResponse, error) {
	k, err := s.keyFor(ctx, c, keyUse{op: "ScheduleKeyDeletion", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	days := in.PendingWindowInDays
	if days == 0 {
		days = defaultWindow
	}
	at := s.now().Add(time.Duration(days) * day)
	err = s.updateKey(ctx, "ScheduleKeyDeletion", k, func(k *Key) error {
		k.State, k.DeletionAt = StatePendingDeletion, at
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &ScheduleKeyDeletionResponse{KeyId: s.arns.key(k), DeletionDate: Timestamp(at), KeyState: string(StatePendingDeletion),
		PendingWindowInDays: days}, nil
}

// CancelKeyDeletionRequest is the input of CancelKeyDeletion.
type CancelKeyDeletionRequest struct {
	KeyId string `shape:"KeyIdType" required:"true"`
}

// CancelKeyDeletionResponse is the output of CancelKeyDeletion.
type CancelKeyDeletionResponse struct {
	KeyId string
}

// CancelKeyDeletion ends the waiting period; the key is Disabled then.
func (s *Service) CancelKeyDeletion(ctx context.Context, c *Caller, in *CancelKeyDeletionRequest) (*CancelKeyDeletionResponse, error) {
	k, err := s.keyFor(ctx, c, keyUse{op: "CancelKeyDeletion", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	err = s.updateKey(ctx, "CancelKeyDeletion", k, func(k *Key) error {
		k.State, k.DeletionAt = StateDisabled, time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &CancelKeyDeletionResponse{KeyId: s.arns.key(k)}, nil
}

// Run reconciles at once and then every interval, until ctx ends.
func (s *Service) Run(ctx context.Context, interval time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := s.Reconcile(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("reconcile keys; it is tried again", zap.Duration("in", interval), zap.Error(err))
		}
		timer.Reset(interval)
	}
}

// Reconcile destroys keys whose waiting period is over, and finishes or undoes what a crash has left: keys half made and
// keys half destroyed. It destroys only token objects that a row names. Each step can be repeated.
func (s *Service) Reconcile(ctx context.Context) error {
	now := s.now()
	createdBefore := now.Add(-creationGrace)
	if s.started.After(createdBefore) {
		createdBefore = s.started // whoever began before us, in this store of one process, is gone
	}
	var failures []error
	for {
		keys, err := s.store.UnfinishedKeys(ctx, createdBefore, now, reconcileMany)
		if err != nil {
			return fmt.Errorf("read unfinished keys: %w", err)
		}
		done := 0
		for _, k := range keys {
			if err := s.finish(ctx, k); err != nil {
				failures = append(failures, fmt.Errorf("key %s: %w", k.ID, err))
				continue
			}
			s.log.Info("key destroyed", zap.String("key", k.ID), zap.String("account", k.Account),
				zap.String("region", k.Region), zap.String("was", string(k.State)))
			done++
		}
		if done == 0 || len(keys) < reconcileMany {
			return errors.Join(failures...)
		}
	}
}

// finish brings a key to its end: marked, then destroyed in the token, then forgotten.
func (s *Service) finish(ctx context.Context, k *Key) error {
	err := s.store.UpdateKey(ctx, k.Region, k.ID, func(now *Key) error {
		if now.State != k.State || !now.DeletionAt.Equal(k.DeletionAt) {
			return errChanged // cancelled meanwhile, or enabled
		}
		now.State = StateDeleting
		return nil
	})
	switch {
	case errors.Is(err, ErrNoRow):
		return nil
	case err != nil:
		return fmt.Errorf("mark: %w", err)
	}
	for _, m := range k.Materials {
		for _, id := range m.Objects {
			if err := s.token.Destroy(ctx, id); err != nil {
				return fmt.Errorf("destroy material %d: %w", m.Ordinal, err)
			}
		}
	}
	if err := s.store.RemoveKey(ctx, k.Region, k.ID); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	return nil
}

var errChanged = errors.New("the key has changed meanwhile")
