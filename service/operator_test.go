package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/audit"
)

// pendingStore keeps pending records, and loses the connection when a removal is told to fail.
type pendingStore struct {
	Store
	records  []PendingRecord
	unstable bool
}

var errStore = errors.New("the store is gone")

func (s *pendingStore) InsertPendingRecord(_ context.Context, record []byte) error {
	s.records = append(s.records, PendingRecord{int64(len(s.records)), record})
	return nil
}

func (*pendingStore) Exclusively(ctx context.Context, _ string, do func(context.Context) error) error {
	return do(ctx)
}

func (s *pendingStore) PendingRecords(_ context.Context, limit int) ([]PendingRecord, error) {
	return slices.Clone(s.records[:min(limit, len(s.records))]), nil
}

func (s *pendingStore) RemovePendingRecord(_ context.Context, number int64) error {
	if s.unstable {
		return errStore
	}
	s.records = slices.DeleteFunc(s.records, func(r PendingRecord) bool { return r.Number == number })
	return nil
}

// pickyAuditor takes so many records.
type pickyAuditor struct {
	takes int
	taken []string
}

var errFull = errors.New("the disk is full")

func (a *pickyAuditor) Append(_ context.Context, r *audit.Record) error {
	if len(a.taken) == a.takes {
		return errFull
	}
	a.taken = append(a.taken, r.EventID)
	return nil
}

// TestDeliverRecords: what breaks on the way of commands' records to the log delays them, and may bring one twice; none is lost.
func TestDeliverRecords(t *testing.T) {
	store, log := &pendingStore{}, &pickyAuditor{takes: 120}
	s, err := New(Config{Store: store, Token: struct{ Token }{}, Log: zap.NewNop(), Audit: log})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for n := range 250 {
		id := fmt.Sprint("event-", n)
		want = append(want, id)
		r := &audit.Record{EventID: id, EventTime: time.Unix(1, 0), EventName: "CreateUser", EventSource: commandSource}
		if err := (Outbox{store}).Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.deliver(t.Context()); !errors.Is(err, errFull) || len(store.records) != 130 {
		t.Errorf("%v, %d are left", err, len(store.records))
	}
	log.takes, store.unstable = 1000, true
	if err := s.deliver(t.Context()); !errors.Is(err, errStore) || len(log.taken) != 121 {
		t.Errorf("%v, %d are taken", err, len(log.taken))
	}
	store.unstable = false
	if err := s.deliver(t.Context()); err != nil || len(store.records) != 0 {
		t.Errorf("%v, %d are left", err, len(store.records))
	}
	if twice := log.taken[121]; twice != want[120] || !slices.Equal(slices.Delete(log.taken, 121, 122), want) {
		t.Errorf("taken twice: %s", twice)
	}
}
