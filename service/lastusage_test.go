package service

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

// usesStore has nothing to reconcile, and tells of uses.
type usesStore struct {
	Store
	recorded chan []KeyUse
}

func (usesStore) KeyStores(context.Context, string, string) ([]*KeyStore, error) { return nil, nil }
func (usesStore) KeyStoresChanged() <-chan struct{}                              { return nil }
func (usesStore) UnfinishedKeys(context.Context, time.Time, time.Time, int) ([]*Key, error) {
	return nil, nil
}
func (usesStore) ExpiredWrappingKeys(context.Context, time.Time, int) ([]WrappingKey, error) {
	return nil, nil
}
func (usesStore) Exclusively(ctx context.Context, _ string, do func(context.Context) error) error {
	return do(ctx)
}
func (s usesStore) RecordUses(_ context.Context, uses []KeyUse) error {
	s.recorded <- uses
	return nil
}

// TestManyUsesAreStoredEarly: what is remembered of uses is bounded, however many keys are used
// between two reconciliations.
func TestManyUsesAreStoredEarly(t *testing.T) {
	store := usesStore{recorded: make(chan []KeyUse, 10)}
	s, err := New(Config{Store: store, Token: struct{ Token }{}, Log: zap.NewNop(), Audit: record.NoAudit})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, time.Hour) })
	for n := range 2 * manyUses { // some of which the first reconciliation may take
		s.recordUse(&iam.Caller{}, "Encrypt", &Key{Region: "eu-central-1", ID: fmt.Sprint(n)})
	}
	for stored := 0; stored < manyUses; {
		stored += len(<-store.recorded)
	}
	stop()
	running.Wait()
}
