package record

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/verenc/kms/service/audit"
)

// pendingStore keeps pending records in memory. While it is unstable it removes none.
type pendingStore struct {
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

// fullAuditor accepts a number of records and then fails.
type fullAuditor struct {
	room     int
	accepted []string // event ids
}

var errFull = errors.New("the disk is full")

func (a *fullAuditor) Append(_ context.Context, r *audit.Record) error {
	if len(a.accepted) == a.room {
		return errFull
	}
	a.accepted = append(a.accepted, r.EventID)
	return nil
}

// TestDeliver: a failure of the store or of the log delays the records of commands, and may deliver
// one twice; none is lost.
func TestDeliver(t *testing.T) {
	store, log := &pendingStore{}, &fullAuditor{room: 120}
	d := Delivery{From: store, To: log, Log: zap.NewNop()}
	var want []string
	for n := range 250 {
		id := fmt.Sprint("event-", n)
		want = append(want, id)
		r := &audit.Record{EventID: id, EventTime: time.Unix(1, 0), EventName: "CreateUser", EventSource: commandSource}
		if err := (Outbox{store}).Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.deliver(t.Context()); !errors.Is(err, errFull) || len(store.records) != 130 {
		t.Errorf("%v, %d are left", err, len(store.records))
	}
	log.room, store.unstable = 1000, true
	if err := d.deliver(t.Context()); !errors.Is(err, errStore) || len(log.accepted) != 121 {
		t.Errorf("%v, %d are accepted", err, len(log.accepted))
	}
	store.unstable = false
	if err := d.deliver(t.Context()); err != nil || len(store.records) != 0 {
		t.Errorf("%v, %d are left", err, len(store.records))
	}
	if twice := log.accepted[121]; twice != want[120] || !slices.Equal(slices.Delete(log.accepted, 121, 122), want) {
		t.Errorf("accepted twice: %s", twice)
	}
}

// awayStore is a database that is away in each second minute, beginning with the first one.
type awayStore struct {
	pendingStore
	from time.Time
}

func (s *awayStore) PendingRecords(context.Context, int) ([]PendingRecord, error) {
	if int(time.Since(s.from)/time.Minute)%2 == 0 {
		return nil, errStore
	}
	return nil, nil
}

// TestDeliveryLogsOutagesOnce: however long the database is away, one line tells of it, and one of its end.
func TestDeliveryLogsOutagesOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute-time.Second/2)
		defer cancel()
		Delivery{From: &awayStore{from: time.Now()}, To: &fullAuditor{}, Log: zap.New(core)}.Run(ctx)
		var levels []zapcore.Level
		for _, line := range lines.All() {
			levels = append(levels, line.Level)
		}
		want := []zapcore.Level{zap.ErrorLevel, zap.InfoLevel, zap.ErrorLevel, zap.InfoLevel}
		if !slices.Equal(levels, want) {
			t.Errorf("got %v, want %v", levels, want)
		}
	})
}
