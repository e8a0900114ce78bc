package audit

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// reads returns records of requests that change nothing.
func reads(t *testing.T, l *Log, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		r := record(n)
		r.ReadOnly = true
		must(t, l.Append(ctx, r))
	}
}

// TestSyncWithin: records of requests that change nothing are in the file, which survives a killed
// process, before they are acknowledged, and wait for the sync of a change.
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
	changed(t, l, 3)
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

// changed returns a record that must be durable.
func changed(t *testing.T, l *Log, n int) {
	t.Helper()
	r := record(n)
	r.ReadOnly = false
	must(t, l.Append(ctx, r))
}

// TestLateSyncFails: after a failed sync nothing is acknowledged until everything acknowledged
// before is on the disk.
func TestLateSyncFails(t *testing.T) {
	for _, how := range []fault{lost, whole} {
		cfg := testConfig(t)
		cfg.SyncWithin = time.Millisecond
		l, disk := openFaulty(t, cfg)
		changed(t, l, 0)
		failed := make(chan struct{}, 10)
		disk.set(func(operation, name string) fault {
			if operation != "sync" || !strings.HasPrefix(name, recordFolder) {
				return none
			}
			failed <- struct{}{}
			return how
		})
		reads(t, l, 1, 2) // another one could come after the failure
		<-failed
		r := record(2)
		r.ReadOnly = false
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

// TestWritesBesideASync: during a sync, requests that change nothing are acknowledged, and no
// checkpoint covers them. A change waits, and so does what would leave more than the limit
// unsynced.
func TestWritesBesideASync(t *testing.T) {
	for _, readOnly := range []bool{true, false} {
		cfg := testConfig(t)
		cfg.SyncWithin = time.Millisecond
		l, disk := openFaulty(t, cfg)
		changed(t, l, 0)
		disk.release = make(chan struct{})
		hangs := make(chan struct{}, 1)
		disk.set(func(operation, name string) fault {
			if operation == "sync" && strings.HasPrefix(name, recordFolder) && len(hangs) == 0 {
				hangs <- struct{}{}
				return hang
			}
			return none
		})
		reads(t, l, 1, 2)
		for len(hangs) == 0 {
			runtime.Gosched()
		}
		reads(t, l, 2, 10)
		must(t, l.Checkpoint(ctx))
		if s := l.Stats(); s.Records != 1 || s.Sealed != 1 {
			t.Errorf("%+v", s)
		}
		n, size := 10, 0
		for {
			r := record(n)
			r.ReadOnly = readOnly
			encoded, err := r.encode(nil)
			must(t, err)
			// Half of the limit is acknowledged, however slow the machine is. After that, a record that is not
			// acknowledged in this time waits for the sync.
			patience, cancel := ctx, func() {}
			if !readOnly || size > maxUnsynced/2 {
				patience, cancel = context.WithTimeout(ctx, 3*time.Second)
			}
			err = l.Append(patience, r)
			cancel()
			if err != nil {
				wantError(t, err, context.DeadlineExceeded)
				break
			}
			n++
			size += len(encoded)
		}
		if !readOnly && n != 10 || readOnly && (size > maxUnsynced || size < maxUnsynced/2) {
			t.Errorf("read-only %v: %d bytes were acknowledged", readOnly, size)
		}
		close(disk.release)
		must(t, l.Close(ctx))
		if r := verify(t, cfg); r.Sealed != int64(n)+1 {
			t.Errorf("%+v of %d", r, n)
		}
	}
}

// TestPowerIsLost: whatever part of the unsynced records is gone, the others are there and the log
// continues.
func TestPowerIsLost(t *testing.T) {
	cfg := testConfig(t)
	cfg.SyncWithin = time.Hour
	l := open(t, cfg)
	changed(t, l, 0)
	durable := l.tail.durable
	reads(t, l, 1, 4)
	files := load(t, cfg.Dir)
	written := files[segmentName(0)].Data
	for end := durable; end < durable+int64(len(l.tail.unsynced.data)); end++ {
		for _, left := range []string{" ", "\x00"} {
			now := clone(files)
			now[segmentName(0)].Data = append(
				append(append([]byte(nil), written[:durable]...), strings.Repeat(left, int(end-durable))...),
				written[end:]...)
			tail, err := readTail(now, checkpointOf(t, now))
			if err != nil || tail.next < 1 {
				t.Fatalf("%q up to byte %d: %v", left, end, err)
			}
		}
	}
	if err := l.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	verify(t, cfg)
}
