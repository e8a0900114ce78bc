package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Works that only one server does at a time.
const (
	workReconcile = "reconcile"
	workRecords   = "deliver records"
)

const (
	// creationGrace is how long after its start whatever makes token objects is surely over: it makes a few
	// token calls, each with a deadline of seconds.
	creationGrace = 10 * time.Minute
	reconcileMany = 100 // rows read at once
)

// Run reconciles at once and then every interval, until ctx ends. It also keeps the last uses of keys, and the
// connections to custom key stores.
func (s *Service) Run(ctx context.Context, interval time.Duration) {
	var others sync.WaitGroup
	defer others.Wait()
	others.Go(func() { s.leaseIVs(ctx) })
	if s.cfg.Audit != NoAudit {
		others.Go(func() { s.keepDelivering(ctx) })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	many := s.uses.many
	for {
		select {
		case <-ctx.Done():
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
			defer cancel()
			if err := errors.Join(s.flushUses(ending), s.keyStores.closeAll()); err != nil {
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
		if err := errors.Join(s.syncKeyStores(ctx), s.flushUses(ctx), s.store.Exclusively(ctx, workReconcile, s.Reconcile)); err != nil && ctx.Err() == nil {
			s.log.Error("reconcile; it is tried again", zap.Duration("in", interval), zap.Error(err))
		}
		timer.Reset(interval)
		many = s.uses.many
	}
}

// Reconcile does what is due: it destroys keys whose waiting period is over, rotates keys, deletes imported material that
// has expired, and finishes or undoes what a crash has left. It destroys only token objects that a row names. Each step
// can be repeated.
func (s *Service) Reconcile(ctx context.Context) error {
	return errors.Join(s.reconcileKeys(ctx), s.reconcileWrappingKeys(ctx))
}

func (s *Service) reconcileKeys(ctx context.Context) error {
	now := s.now()
	createdBefore := now.Add(-creationGrace)
	if !s.cfg.Shared && s.started.After(createdBefore) {
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
		return s.recordEvent(ctx, eventDelete, k, func(ctx context.Context) error { return s.finish(ctx, k) })
	case hidden(k): // a request that was broken off, or a deletion whose record is there
		return s.finish(ctx, k)
	}
	return s.upkeep(ctx, k)
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
	case errors.Is(err, ErrNoRow): // another server was faster; what was generated after that is still there
		return s.destroyMaterials(ctx, k)
	case err != nil:
		return fmt.Errorf("mark: %w", err)
	}
	if err := s.destroyMaterials(ctx, k); err != nil {
		return err
	}
	if err := s.store.RemoveKey(ctx, k.Region, k.ID); err != nil {
		return fmt.Errorf("remove: %w", err)
	}
	s.log.Info("key destroyed", zap.String("key", k.ID), zap.String("account", k.Account), zap.String("region", k.Region),
		zap.String("was", string(k.State)))
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

var errChanged = errors.New("the key has changed meanwhile")

// lastReplicaGone starts the waiting period of a primary key that has waited for this replica's end.
func (s *Service) lastReplicaGone(ctx context.Context, gone *Key) error {
	if !gone.multiRegion() {
		return nil
	}
	return s.store.ChangeRelatedKeys(ctx, gone.ID, func(keys []*Key) ([]*Key, error) {
		if len(keys) == 1 && keys[0].State == StatePendingReplicaDeletion {
			keys[0].State, keys[0].DeletionAt = StatePendingDeletion, s.now().Add(time.Duration(keys[0].PendingWindow)*day)
			keys[0].PendingWindow = 0
		}
		return keys, nil
	})
}

// upkeep does what is due for a key that lives on.
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
			errs = append(errs, s.recordEvent(ctx, eventExpire, k, func(ctx context.Context) error { return s.removeImported(ctx, k, m.ID) }))
		}
	}
	if r := k.Rotation; r.PeriodDays > 0 && !r.NextAt.After(now) && k.State == StateEnabled && (!k.multiRegion() || k.primary()) {
		errs = append(errs, s.rotateByItself(ctx, k))
	}
	return errors.Join(errs...)
}

func (s *Service) rotateByItself(ctx context.Context, k *Key) error {
	return s.recordEvent(ctx, eventRotate, k, func(ctx context.Context) error { return s.rotate(ctx, k, rotationAutomatic) })
}

// reconcileWrappingKeys destroys the key pairs of import tokens that have expired, and objects that were not adopted. Those in a
// custom key store that is not connected wait until it is.
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
				return fmt.Errorf("forget wrapping key: %w", err)
			}
			done++
		}
		if done == 0 || len(expired) < reconcileMany {
			return nil
		}
	}
}
