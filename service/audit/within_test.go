package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// reads makes records of what changes nothing.
func reads(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		r := record(n)
		r.ReadOnly = true
		must(t, l.Append(ctx, r))
	}
}

// TestSyncWithin: records of what changes nothing are in the file, which a killed process leaves behind, before they are
// acknowledged, and wait for the sync of a change.
func TestSyncWithin(t *testing.T) {
	cfg := testConfig(t)
	cfg.SyncWithin = time.Hour
	l := open(t, cfg)
	syncs := l.Stats().Syncs
	reads(t, l, 0, 3)
	if s := l.Stats(); s.Syncs != syncs || s.Records != 0 {
		t.Errorf("%+v", s)
	}
	killed := cfg
	killed.Dir = filepath.Join(t.TempDir(), "killed")
	must(t, os.CopyFS(killed.Dir, os.DirFS(cfg.Dir)))
	must(t, reopen(t, killed).Close(ctx))
	if r := verify(t, killed); r.Sealed != 3 || r.TornBytes != 0 {
		t.Errorf("a killed process left %+v", r)
	}
	must(t, l.Checkpoint(ctx))
	if r := verify(t, cfg); r.Records != 3 || r.Sealed != 0 {
		t.Errorf("a checkpoint covers what may be lost: %+v", r)
	}
	change := record(3)
	change.ReadOnly = false
	must(t, l.Append(ctx, change))
	if s := l.Stats(); s.Syncs != syncs+1 || s.Records != 4 {
		t.Errorf("%+v", s)
	}
	reads(t, l, 4, 6)
	must(t, l.Close(ctx))
	if r := verify(t, cfg); r.Sealed != 6 {
		t.Errorf("%+v", r)
	}
}

// TestSyncComesInTime: nothing else needs to happen for it.
func TestSyncComesInTime(t *testing.T) {
	cfg := testConfig(t)
	cfg.SyncWithin = time.Millisecond
	l, disk := openFaulty(t, cfg)
	reads(t, l, 0, 1)
	synced := make(chan struct{}, 10)
	disk.set(func(operation, name string) fault {
		if operation == "sync" {
			synced <- struct{}{}
		}
		return none
	})
	reads(t, l, 1, 2)
	<-synced
}

// TestLateSyncFails: after it nothing is acknowledged until what was is on the disk.
func TestLateSyncFails(t *testing.T) {
	for _, how := range []fault{lost, whole} {
		cfg := testConfig(t)
		cfg.SyncWithin = time.Millisecond
		l, disk := openFaulty(t, cfg)
		failed := make(chan struct{}, 10)
		disk.set(func(operation, name string) fault {
			if operation != "sync" || !strings.HasPrefix(name, recordFolder) || l.tail.file == nil {
				return none
			}
			failed <- struct{}{}
			return how
		})
		reads(t, l, 0, 2)
		<-failed
		r := record(2)
		wantError(t, l.Append(ctx, r), errFault)
		wantError(t, l.Ready(ctx), errFault)
		disk.set(nil)
		must(t, l.Ready(ctx))
		reads(t, l, 3, 5)
		must(t, l.Close(ctx))
		if r := verify(t, cfg); r.Sealed != 4 {
			t.Errorf("%+v", r)
		}
	}
}

// TestPowerIsLost: whatever part of the records that were not synced is gone, the others are there and the log goes on; no more
// than a batch can be gone.
func TestPowerIsLost(t *testing.T) {
	cfg := testConfig(t)
	cfg.SyncWithin = time.Hour
	l := open(t, cfg)
	change := record(0)
	change.ReadOnly = false
	must(t, l.Append(ctx, change))
	durable := l.tail.durable
	reads(t, l, 1, 4)
	files := load(t, cfg.Dir)
	written := files[segmentName(0)].Data
	for end := durable; end < durable+int64(len(l.tail.unsynced)); end++ {
		for _, left := range []string{" ", "\x00"} {
			now := clone(files)
			now[segmentName(0)].Data = append(append(append([]byte(nil), written[:durable]...), strings.Repeat(left, int(end-durable))...), written[end:]...)
			tail, err := readTail(now, checkpointOf(t, now))
			if err != nil || tail.next < 1 {
				t.Fatalf("%q up to byte %d: %v", left, end, err)
			}
		}
	}
	most := 0
	for n := range 3 * maxBatchBytes / 1000 {
		r := record(n + 4)
		r.ReadOnly = true
		must(t, l.Append(ctx, r))
		most = max(most, len(l.tail.unsynced))
	}
	if most > maxBatchBytes || most < maxBatchBytes/2 {
		t.Errorf("up to %d bytes were not synced", most)
	}
	if err := l.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	verify(t, cfg)
}
