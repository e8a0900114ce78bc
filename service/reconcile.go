package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/record"
)

// workReconcile is what only one server does at a time.
const workReconcile = "reconcile"

const (
	// creationGrace is the time after which a request that makes token objects has surely ended: it
	// makes a few token calls, each with a deadline of seconds.
	creationGrace = 10 * time.Minute
	reconcileMany = 100 // rows read at once
)

// Run reconciles at once and then every interval, until ctx ends. It also stores the last uses of
// keys, leases initialisation vectors, and keeps the connections to custom key stores.
func (s *Service) Run(ctx context.Context, interval time.Duration) {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { s.leaseIVs(ctx) })
	others.Go(func() { s.keepKeyStores(ctx, interval) })
	if s.records.Enabled() {
		others.Go(func() { s.delivery.Run(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	many := s.uses.many
	for {
		select {
		case <-ctx.Done():
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			if err := errors.Join(s.flushUses(ending), s.keyStores.Close()); err != nil {
				s.log.Error("end the service", zap.Error(err))
			}
			return
		case <-many:
			if err := s.flushUses(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("store last uses; it is tried again", zap.Duration("in", interval), zap.Error(err))
				many = nil
			}
			continue
		case <-timer.C:
		}
		err := errors.Join(s.flushUses(ctx), s.store.Exclusively(ctx, workReconcile, s.Reconcile))
		if err != nil && ctx.Err() == nil {
			s.log.Error("reconcile; it is tried again", zap.Duration("in", interval), zap.Error(err))
		}
		timer.Reset(interval)
		many = s.uses.many
	}
}

// Reconcile destroys keys whose waiting period is over, rotates keys, deletes imported material
// that has expired, and finishes or undoes what a crash has left. It destroys only token objects
// that a row names. Each step can be repeated.
func (s *Service) Reconcile(ctx context.Context) error {
	return errors.Join(s.reconcileKeys(ctx), s.reconcileWrappingKeys(ctx))
}

func (s *Service) reconcileKeys(ctx context.Context) error {
	now := s.now()
	createdBefore := now.Add(-creationGrace)
	if !s.cfg.Shared && s.started.After(createdBefore) {
		createdBefore = s.started // requests of an earlier process, on this store of one process, have ended
	}
	var failures []error
	for {
		keys, err := s.store.UnfinishedKeys(ctx, createdBefore, now, reconcileMany)
		if err != nil {
			return fmt.Errorf("read unfinished keys: %w", err)
		}
		done := 0
		for _, k := range keys {
			if err := s.reconcileKey(ctx, k, now); err != nil {
				failures = append(failures, fmt.Errorf("key %s: %w", k.ID, err))
				continue
			}
			done++
		}
		if done == 0 || len(keys) < reconcileMany {
			return errors.Join(failures...)
		}
	}
}

func (s *Service) reconcileKey(ctx context.Context, k *Key, now time.Time) error {
	switch {
	case k.State == StatePendingDeletion && !k.DeletionAt.After(now):
		return s.recordEvent(ctx, record.DeleteKey, k, func(ctx context.Context) error { return s.finish(ctx, k) })
	case isTransient(k): // an interrupted CreateKey, or a deletion that has its record already
		return s.finish(ctx, k)
	}
	return s.upkeep(ctx, k)
}

// finish destroys a key: it marks the row, destroys the token objects, and then removes the row.
func (s *Service) finish(ctx context.Context, k *Key) error {
	err := s.store.UpdateKey(ctx, k.Region, k.ID, func(now *Key) error {
		if now.State != k.State || !now.DeletionAt.Equal(k.DeletionAt) {
			return errChanged // its deletion was cancelled, or it was enabled
		}
		now.State = StateDeleting
		return nil
	})
	switch {
	case errors.Is(err, ErrNoRow): // another server was faster; what was generated after that is still there
		return s.destroyMaterials(ctx, k)
	case err != nil:
		return fmt.Errorf("mark: %w", err)
	}
	if err := s.destroyCertified(ctx, k, k.Materials, k.deletionRequest()); err != nil {
		return err
	}
	if err := s.store.RemoveKey(ctx, k.Region, k.ID); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	s.log.Info("key destroyed", zap.String("key", k.ID), zap.String("account", k.Account),
		zap.String("region", k.Region), zap.String("was", string(k.State)))
	return s.lastReplicaGone(ctx, k)
}

func (s *Service) destroyMaterials(ctx context.Context, k *Key) error {
	for i := range k.Materials {
		if err := s.destroyObjects(ctx, k, &k.Materials[i]); err != nil {
			return fmt.Errorf("material %d: %w", k.Materials[i].Ordinal, err)
		}
	}
	return nil
}

var errChanged = errors.New("the key has changed in the meantime")

// lastReplicaGone starts the waiting period of a primary key that was waiting for the deletion of
// this replica.
func (s *Service) lastReplicaGone(ctx context.Context, gone *Key) error {
	if !gone.multiRegion() {
		return nil
	}
	return s.store.ChangeRelatedKeys(ctx, gone.ID, func(keys []*Key) ([]*Key, error) {
		if len(keys) == 1 && keys[0].State == StatePendingReplicaDeletion {
			k := keys[0]
			k.State, k.DeletionAt = StatePendingDeletion, s.now().Add(time.Duration(k.PendingWindow)*day)
			k.PendingWindow = 0
		}
		return keys, nil
	})
}

// upkeep destroys scrap and expired material of a key, and rotates it if it is time.
func (s *Service) upkeep(ctx context.Context, k *Key) error {
	now := s.now()
	var errs []error
	for i := range k.Materials {
		m := &k.Materials[i]
		switch {
		case m.Scrap && !m.CreatedAt.Add(creationGrace).After(now):
			errs = append(errs, s.destroyScrap(ctx, k, m.Ordinal))
		case !m.Scrap && m.present() && !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now):
			s.log.Info("imported key material expired", zap.String("key", k.ID), zap.String("material", m.ID))
			errs = append(errs, s.recordEvent(ctx, record.DeleteExpiredKeyMaterial, k, func(ctx context.Context) error {
				return s.removeImported(ctx, k, m.ID, s.destructionRequest(nil, record.DeleteExpiredKeyMaterial))
			}))
		}
	}
	rotates := k.Rotation.PeriodDays > 0 && k.State == StateEnabled && (!k.multiRegion() || k.primary())
	if rotates && !k.Rotation.NextAt.After(now) {
		errs = append(errs, s.rotateAutomatically(ctx, k))
	}
	return errors.Join(errs...)
}

func (s *Service) rotateAutomatically(ctx context.Context, k *Key) error {
	return s.recordEvent(ctx, record.RotateKey, k, func(ctx context.Context) error {
		return s.rotate(ctx, k, rotationAutomatic)
	})
}

// reconcileWrappingKeys destroys the key pairs of expired import tokens, and objects that were not
// adopted. Those in a custom key store wait until it is connected.
func (s *Service) reconcileWrappingKeys(ctx context.Context) error {
	for {
		expired, err := s.store.ExpiredWrappingKeys(ctx, s.now(), reconcileMany)
		if err != nil {
			return fmt.Errorf("read expired wrapping keys: %w", err)
		}
		done := 0
		for _, w := range expired {
			token, err := s.tokenIn(w.KeyStore)
			if err != nil {
				continue
			}
			if err := token.Destroy(ctx, w.ObjectID); err != nil {
				return fmt.Errorf("destroy wrapping key: %w", err)
			}
			if err := s.store.RemoveWrappingKey(ctx, w.ObjectID); err != nil {
				return fmt.Errorf("remove wrapping key: %w", err)
			}
			done++
		}
		if done == 0 || len(expired) < reconcileMany {
			return nil
		}
	}
}
