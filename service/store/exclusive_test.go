package store

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/store/postgrestest"
)

// openPair opens a database twice, as two servers do that are heard of after a shorter time than usual.
func openPair(t *testing.T) (ours, theirs *DB) {
	t.Helper()
	database := postgrestest.NewDatabase(t)
	ours, theirs = open(t, database, true), open(t, database, false)
	for _, d := range []*DB{ours, theirs} {
		d.beatInterval, d.leaseTimeout = 20*time.Millisecond, 400*time.Millisecond
	}
	return ours, theirs
}

var errWork = errors.New("of the work")

// TestExclusively: of two servers that live, one works; what it returns comes back, and the other one
// can work afterwards.
func TestExclusively(t *testing.T) {
	ours, theirs := openPair(t)
	ran := false
	wantError(t, ours.Exclusively(ctx, "work", func(ctx context.Context) error {
		must(t, ours.InsertKey(ctx, newKey("k1")))
		must(t, theirs.Exclusively(ctx, "work", func(context.Context) error { ran = true; return nil }))
		must(t, theirs.Exclusively(ctx, "other work", func(context.Context) error { return nil }))
		return errWork
	}), errWork)
	if ran {
		t.Error("two servers worked at once")
	}
	wantError(t, theirs.Exclusively(ctx, "work", func(context.Context) error { return errWork }), errWork)
}

// TestExclusivelyInSQLite: a file is one process's.
func TestExclusivelyInSQLite(t *testing.T) {
	wantError(t, create(t).Exclusively(ctx, "work", func(context.Context) error { return errWork }), errWork)
}

// TestFence: a server that is paused in its work, and wakes up when another has done it, changes nothing more.
func TestFence(t *testing.T) {
	ours, theirs := openPair(t)
	ours.beatInterval = time.Hour // it is paused
	must(t, ours.InsertKey(ctx, newKey("k1")))
	set := func(d *DB, ctx context.Context, text string) error {
		return d.UpdateKey(ctx, region, "k1", func(k *service.Key) error { k.Description = text; return nil })
	}
	must(t, ours.Exclusively(ctx, "work", func(ctx context.Context) error {
		must(t, set(ours, ctx, "ours"))
		taken := false
		must(t, theirs.Exclusively(context.Background(), "work", func(ctx context.Context) error {
			taken = true
			return set(theirs, ctx, "theirs")
		}))
		if !taken {
			t.Fatal("the work of a server that is gone was not taken over")
		}
		wantError(t, set(ours, ctx, "ours again"), service.ErrTakenOver)
		wantError(t, ours.InsertKey(ctx, newKey("k2")), service.ErrTakenOver)
		wantError(t, ours.RemoveKey(ctx, region, "k1"), service.ErrTakenOver)
		return nil
	}))
	if k, err := theirs.Key(ctx, region, "k1"); err != nil || k.Description != "theirs" {
		t.Errorf("got %+v, %v", k, err)
	}
	must(t, set(ours, ctx, "as a request")) // what is not of the work is not fenced
	must(t, theirs.Exclusively(ctx, "work", func(ctx context.Context) error {
		return theirs.change(ctx, "hold", func(tx *sql.Tx) error { return nil })
	}))
}

// TestTakeOverWaits: a take-over waits for a change that has passed the fence.
func TestTakeOverWaits(t *testing.T) {
	ours, theirs := openPair(t)
	ours.beatInterval = time.Hour
	must(t, ours.InsertKey(ctx, newKey("k1")))
	var committed atomic.Bool
	must(t, ours.Exclusively(ctx, "work", func(ctx context.Context) error {
		taken := make(chan bool, 1)
		must(t, ours.UpdateKey(ctx, region, "k1", func(k *service.Key) error {
			go func() {
				inTime := false
				must(t, theirs.Exclusively(context.Background(), "work", func(context.Context) error {
					inTime = committed.Load()
					return nil
				}))
				taken <- inTime
			}()
			eventually(t, "they wait for the row", func() bool {
				var waiting int
				must(t, ours.read.QueryRow("SELECT count(*) FROM pg_locks WHERE NOT granted").Scan(&waiting))
				return waiting > 0
			})
			k.Description = "ours"
			committed.Store(true)
			return nil
		}))
		if !<-taken {
			t.Error("the work was taken over in the middle of a change")
		}
		return nil
	}))
}
