package audit

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fault is how an operation of a disk fails.
type fault int

const (
	none  fault = iota
	lost        // it fails and does nothing
	half        // it fails and does half, which only writing can
	whole       // it fails and does all
	hang        // it waits for release, and succeeds
)

// faultyDisk is a disk whose operations fail as a test wants.
type faultyDisk struct {
	disk
	mu   sync.Mutex
	next func(operation, name string) fault

	release chan struct{} // to be made before next says hang, and closed
}

func (d *faultyDisk) set(next func(operation, name string) fault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = next
}

var errFault = fmt.Errorf("injected: %w", syscall.ENOSPC)

// do runs an operation, or does not, and returns what its caller learns of it.
func (d *faultyDisk) do(operation, name string, run func(how fault) error) error {
	d.mu.Lock()
	how := none
	if d.next != nil {
		how = d.next(operation, name)
	}
	d.mu.Unlock()
	switch how {
	case lost:
		return errFault
	case hang:
		<-d.release
		how = none
	}
	err := run(how)
	if how != none {
		return errFault
	}
	return err
}

func (d *faultyDisk) openData(name string) (f dataFile, err error) {
	err = d.do("open", name, func(fault) error {
		f, err = d.disk.openData(name)
		return err
	})
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, err
	}
	return &faultyFile{f, name, d}, nil
}

func (d *faultyDisk) replace(name string, data []byte) error {
	return d.do("replace", name, func(how fault) error {
		if how == half {
			name, data = name+temporary, data[:len(data)/2]
		}
		return d.disk.replace(name, data)
	})
}

func (d *faultyDisk) remove(name string) error {
	return d.do("remove", name, func(fault) error { return d.disk.remove(name) })
}

func (d *faultyDisk) syncFolder(name string) error {
	return d.do("sync folder", name, func(fault) error { return d.disk.syncFolder(name) })
}

type faultyFile struct {
	dataFile
	name string
	disk *faultyDisk
}

func (f *faultyFile) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.disk.do("write", f.name, func(how fault) error {
		if how == half {
			b = b[:len(b)/2]
		}
		n, err = f.dataFile.WriteAt(b, at)
		return err
	})
	return n, err
}

func (f *faultyFile) Sync() error {
	return f.disk.do("sync", f.name, func(fault) error { return f.dataFile.Sync() })
}

func (f *faultyFile) Truncate(size int64) error {
	return f.disk.do("truncate", f.name, func(fault) error { return f.dataFile.Truncate(size) })
}

// openFaulty opens a log over a faulty disk.
func openFaulty(t testing.TB, cfg Config) (*Log, *faultyDisk) {
	t.Helper()
	must(t, cfg.setDefaults())
	must(t, os.MkdirAll(cfg.Dir, 0o700))
	d, err := openDisk(cfg.Dir)
	must(t, err)
	faulty := &faultyDisk{disk: d}
	l, err := openOn(ctx, cfg, faulty)
	must(t, err)
	t.Cleanup(func() {
		if err := l.Close(ctx); err != nil && !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
	return l, faulty
}

// ledger remembers which records were acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[string]bool // by event id; false for those that failed
}

func (l *ledger) append(log *Log, n int) error {
	r := record(n)
	r.ReadOnly = n%4 > 0
	err := log.Append(ctx, r)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[record(n).EventID] = err == nil
	return err
}

// check expects a complete, sealed log that has each acknowledged record once, and no other record
// twice.
func (l *ledger) check(t testing.TB, cfg Config) {
	t.Helper()
	r := verify(t, cfg)
	if r.Unsealed != 0 || r.TornBytes != 0 {
		t.Errorf("%+v", r)
	}
	acked, seen := 0, occurrences(t, cfg.Dir)
	for id, ok := range l.acked {
		if n := seen[id]; n > 1 || ok && n == 0 {
			t.Errorf("%s, acknowledged %v, is there %d times", id, ok, n)
		}
		if ok {
			acked++
		}
	}
	if r.Records < int64(acked) || r.Records > int64(len(l.acked)) {
		t.Errorf("%d records, %d of %d were acknowledged", r.Records, acked, len(l.acked))
	}
}

func TestFailsClosedAndRecovers(t *testing.T) {
	for _, how := range []fault{lost, half, whole} {
		for _, operation := range []string{"open", "write", "sync", "truncate", "sync folder"} {
			for _, segmentBytes := range []int64{1, 1 << 20} {
				if segmentBytes > 1 && operation != "write" && operation != "sync" {
					continue // not a part of Append when a file is open
				}
				t.Run(fmt.Sprint(operation, how, segmentBytes), func(t *testing.T) {
					cfg := testConfig(t)
					cfg.SegmentBytes = segmentBytes
					l, disk := openFaulty(t, cfg)
					book := &ledger{acked: map[string]bool{}}
					for n := range 3 {
						must(t, book.append(l, n))
					}
					disk.set(func(o, name string) fault {
						if o == operation {
							return how
						}
						return none
					})
					for n := 3; n < 6; n++ {
						wantError(t, book.append(l, n), errFault)
					}
					wantError(t, l.Stats().Failure, errFault)
					if operation != "open" && segmentBytes > 1 {
						wantError(t, l.Ready(ctx), errFault)
					}
					disk.set(nil)
					must(t, l.Ready(ctx))
					for n := 6; n < 9; n++ {
						must(t, book.append(l, n))
					}
					must(t, l.Close(ctx))
					book.check(t, cfg)
					if r := verify(t, cfg); r.Records != 6 {
						t.Errorf("%d records, the failed ones should not be there after repair", r.Records)
					}
				})
			}
		}
	}
}

// TestRandomFaults lets operations fail at random, including those of checkpoints and repairs, with
// several callers, and interrupts some lives of the log.
func TestRandomFaults(t *testing.T) {
	for _, within := range []time.Duration{0, time.Microsecond, time.Hour} {
		t.Run(within.String(), func(t *testing.T) { randomFaults(t, within) })
	}
}

func randomFaults(t *testing.T, within time.Duration) {
	cfg := testConfig(t)
	cfg.SyncWithin = within
	cfg.SegmentBytes, cfg.CheckpointEvery = 20_000, 7
	book := &ledger{acked: map[string]bool{}}
	for life := range 6 {
		l, disk := openFaulty(t, cfg)
		cfg.Create = false
		random := rand.New(rand.NewPCG(uint64(life), 1)) // used under the disk's lock
		disk.set(func(string, string) fault {
			if random.IntN(10) > 0 {
				return none
			}
			return []fault{lost, half, whole}[random.IntN(3)]
		})
		var callers sync.WaitGroup
		for c := range 4 {
			callers.Go(func() {
				for n := range 15 {
					_ = book.append(l, life*1000+c*100+n)
				}
			})
		}
		callers.Wait()
		if life%2 == 0 {
			disk.set(nil)
			must(t, l.Close(ctx))
			book.check(t, cfg)
			continue
		}
		disk.set(func(string, string) fault { return lost })
		if err := l.Close(ctx); err == nil && l.Stats().Sealed != l.Stats().Records {
			t.Error("closed without a word about unsealed records")
		}
	}
	l := reopen(t, cfg)
	must(t, l.Close(ctx))
	book.check(t, cfg)
}

// TestCloseRepairsALateSync closes a log while a sync fails: what the sync was for is written
// again.
func TestCloseRepairsALateSync(t *testing.T) {
	cfg := testConfig(t)
	cfg.SyncWithin = time.Microsecond
	l, disk := openFaulty(t, cfg)
	book := &ledger{acked: map[string]bool{}}
	must(t, book.append(l, 0))
	began, fails := make(chan struct{}), make(chan struct{})
	var once sync.Once
	disk.set(func(operation, name string) (f fault) {
		if operation == "sync" && strings.HasSuffix(name, ".jsonl") {
			once.Do(func() { close(began); <-fails; f = lost })
		}
		return f
	})
	must(t, book.append(l, 1)) // one that changes nothing, and is synced later
	<-began
	closed := make(chan error)
	go func() { closed <- l.Close(ctx) }()
	close(fails)
	must(t, <-closed)
	book.check(t, cfg)
}

// TestRotationFails lets each write and sync of a rotation fail: the log continues and verifies,
// with one key or the other.
func TestRotationFails(t *testing.T) {
	for _, how := range []fault{lost, half, whole} {
		for failing := range 12 {
			cfg := testConfig(t)
			cfg.Signers = append(cfg.Signers, ed25519Signer(2))
			l, disk := openFaulty(t, cfg)
			add(t, l, 0, 3)
			operations := 0
			disk.set(func(string, string) fault {
				if operations++; operations == failing+1 {
					return how
				}
				return none
			})
			err := l.Rotate(ctx, cfg.Signers[1])
			disk.set(nil)
			if operations <= failing {
				must(t, err)
			}
			verify(t, cfg)
			add(t, l, 3, 6)
			if failing%2 == 0 {
				must(t, l.Checkpoint(ctx))
				verify(t, cfg)
			} else {
				disk.set(func(string, string) fault { return lost })
				_ = l.Close(ctx) // the end of a process
				l = reopen(t, cfg)
			}
			must(t, l.Close(ctx))
			if r := verify(t, cfg); r.Sealed != 6 || err == nil && len(r.Keys) != 2 {
				t.Errorf("operation %d fails (%v): %+v", failing, err, r)
			}
		}
	}
}

// TestTornBatch cuts the last batch, which was not acknowledged, at each of its bytes, as a kill
// may, or leaves a part of it zero or blank, as a power failure may.
func TestTornBatch(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, 0, 2)
	must(t, l.Checkpoint(ctx))
	add(t, l, 2, 4)
	before := load(t, cfg.Dir)
	file := segmentName(0)
	good := bytes.TrimRight(before[file].Data, " ")
	t4, err := readTail(before, checkpointOf(t, before))
	must(t, err)
	batch, chain := []byte(nil), t4.chain
	for n := int64(4); n < 7; n++ {
		body, err := record(int(n)).encode(nil)
		must(t, err)
		batch, chain = appendLine(batch, body, n, 4, chain)
	}
	for end := range len(batch) {
		blanks := bytes.Repeat([]byte(" "), len(batch))
		for _, torn := range [][]byte{batch[:end], append(batch[:end:end], blanks...),
			append(make([]byte, end), batch[end:]...),
			append(append(blanks[:end:end], batch[end:]...), blanks...)} {
			files := clone(before)
			files[file].Data = append(append([]byte(nil), good...), torn...)
			tail, err := readTail(files, checkpointOf(t, before))
			if err != nil {
				t.Fatalf("torn at %d: %v", end, err)
			}
			if written := bytes.TrimRight(files[file].Data, " "); tail.next < 4 ||
				tail.size+int64(len(tail.torn)) != int64(len(written)) {
				t.Fatalf("torn at %d: %d records, %d bytes and %d torn", end, tail.next, tail.size, len(tail.torn))
			}
		}
	}
	// A crash does not damage anything before the last batch.
	for _, damage := range []int{len(good) - 10, len(good) - 2, len(good) - 1, len(good) - 1800} {
		files := clone(before)
		files[file].Data = append(append([]byte(nil), good...), batch...)
		files[file].Data[damage] = 0
		if _, err := readTail(files, checkpointOf(t, before)); !errors.Is(err, ErrTampered) {
			t.Errorf("damage at %d of %d is taken for a torn write: %v", damage, len(good), err)
		}
	}
	must(t, l.Close(ctx))
}

func checkpointOf(t testing.TB, f folder) checkpoint {
	t.Helper()
	c, err := readCheckpoint(f[checkpointFile].Data)
	must(t, err)
	return c
}

func TestOpenCutsATornBatch(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, 0, 3)
	must(t, l.Close(ctx))
	path := cfg.Dir + "/" + segmentName(0)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(`{"eventVersion":"1.11","userId`)
	must(t, errors.Join(err, f.Close()))
	if r := verify(t, cfg); r.TornBytes != 30 || r.Records != 3 {
		t.Errorf("%+v", r)
	}
	l = reopen(t, cfg)
	if got := l.Stats().CutBytes; got != 30 {
		t.Errorf("%d bytes cut", got)
	}
	add(t, l, 3, 5)
	must(t, l.Close(ctx))
	if r := verify(t, cfg); r.Sealed != 5 {
		t.Errorf("%+v", r)
	}
	kept, err := os.ReadFile(cfg.Dir + "/cut/00000000000000000003.tmp")
	if err != nil || !strings.HasPrefix(string(kept), `{"eventVersion"`) {
		t.Errorf("what was cut is not kept: %v", err)
	}
}
