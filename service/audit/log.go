package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// A batch is what one write and one sync make durable.
const (
	maxBatchBytes   = 1 << 20 // and then at most one line more
	maxBatchRecords = 1024

	maxUnsynced = 4 << 20 // bytes that may not be on the disk, a batch included
)

// Config is what a Log is made of.
type Config struct {
	Dir    string // required; belongs to this log alone
	Create bool   // begin a log; Dir must be absent or empty. Without Create it must hold one.
	Origin string // required with Create: the log's name, e.g. kms.example.com/audit. An open log has its own.

	// Signers are the keys that may sign; required. The one that the log names as its current key does; with Create the
	// first one. After Rotate both keys are given until the old one is nowhere needed any more.
	Signers []Signer

	Outputs []Output // where records go beside the folder

	SegmentBytes int64 // size at which a file of records is full; default 64 MiB
	Reserve      int64 // blanks that are written ahead of records, in bytes; default 1 MiB

	// SyncWithin, if it is not 0, is how long the record of something that changes nothing
	// (Record.ReadOnly) may wait for its sync after it was acknowledged. The operating system has
	// it by then: a process that is killed loses none, but a machine that loses its power may lose
	// those of so long. All other records are synced first.
	SyncWithin time.Duration

	CheckpointEvery  int64         // records after which a checkpoint is made; default 4096
	CheckpointWithin time.Duration // longest time that records wait for one; default 10 s
	MaxUnsealed      int64         // records that may wait for a checkpoint before Append refuses; default 100,000
	OutputTimeout    time.Duration // for one batch to one output; default 5 s
	SignTimeout      time.Duration // for checkpoints that nobody called for; default 30 s

	// Checkpointed is called with each signed checkpoint, to be kept where the folder's owner cannot reach. It must
	// not call the Log.
	Checkpointed func(signed []byte)
}

func (c *Config) setDefaults() error {
	if c.Dir == "" || len(c.Signers) == 0 {
		return errors.New("open audit log: Dir and Signers are required")
	}
	for _, v := range []struct {
		field *int64
		value int64
	}{{&c.SegmentBytes, 64 << 20}, {&c.Reserve, 1 << 20}, {&c.CheckpointEvery, 4096}, {&c.MaxUnsealed, 100_000},
		{(*int64)(&c.CheckpointWithin), int64(10 * time.Second)}, {(*int64)(&c.OutputTimeout), int64(5 * time.Second)},
		{(*int64)(&c.SignTimeout), int64(30 * time.Second)}} {
		if *v.field == 0 {
			*v.field = v.value
		}
	}
	return nil
}

// ErrClosed is returned by the methods of a Log that is closed.
var ErrClosed = errors.New("the audit log is closed")

// Log is the writer. Its methods may be called concurrently.
type Log struct {
	cfg     Config
	disk    disk
	origin  string
	outputs *outputs

	queue   chan *request
	sealNow chan struct{}
	closing <-chan struct{} // closed by Close: no more requests
	stop    context.CancelFunc
	owned   sync.WaitGroup // the writer and the sealer
	close   sync.Once

	// Owned by the writer.
	tail   tailFile
	next   int64       // index of the next record
	chain  chainHash   // of the last record
	leaves []tlog.Hash // of the last records, which may not be durable
	sealAt int64       // size of the tree at which to ask for a checkpoint
	due    bool        // a sync is, since a record has waited for SyncWithin
	buffer []byte

	mu    sync.Mutex // guards the tree, which holds what is durable
	tree  *tree
	fresh []tile // completed since the last checkpoint

	sealing sync.Mutex // guards what signs
	head    *head
	signer  signing

	health  atomic.Pointer[error] // of the last batch
	signErr atomic.Pointer[error] // of the last checkpoint
	sealed  atomic.Int64
	records atomic.Int64
	cut     int64
}

// request is a record that waits, or a question whether the log could take one.
type request struct {
	record  []byte // nil for the question
	durable bool   // it must be on the disk
	done    chan error
}

// size is how many bytes of a batch the request may take.
func (r *request) size() int { return len(r.record) + maxTrailer + 1 }

// Open opens or begins a log. An open log is read from its last file on, compared with its
// checkpoint, freed from what a crash tore (Stats.CutBytes), and sealed. It refuses a log that was
// changed or is shorter than its checkpoint says. An unsealed tail that keeps the chain is
// believed: what it says happened between the crash and Open, nobody signed.
func Open(ctx context.Context, cfg Config) (*Log, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	if cfg.Create {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, fmt.Errorf("create audit log: %w", err)
		}
	}
	d, err := openDisk(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	l, err := openOn(ctx, cfg, d)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open audit log %s: %w", cfg.Dir, err), d.Close())
	}
	return l, nil
}

func openOn(ctx context.Context, cfg Config, d disk) (*Log, error) {
	l := &Log{cfg: cfg, disk: d, queue: make(chan *request), sealNow: make(chan struct{}, 1),
		tail: tailFile{disk: d, limit: cfg.SegmentBytes, reserve: cfg.Reserve}}
	if cfg.Create {
		if err := l.begin(ctx); err != nil {
			return nil, err
		}
	}
	if err := l.recover(); err != nil {
		return nil, err
	}
	if err := l.Checkpoint(ctx); err != nil {
		return nil, errors.Join(err, l.tail.finish())
	}
	l.outputs = startOutputs(cfg.Outputs, cfg.OutputTimeout)
	life, stop := context.WithCancel(context.Background())
	l.closing, l.stop = life.Done(), stop
	l.owned.Go(l.write)
	l.owned.Go(func() { l.seal(life) })
	return l, nil
}

// Append adds a record and returns when it is durable (but see Config.SyncWithin) and every
// required output has it. After an error the record may be in the log or not; an error of ctx does
// not stop it.
func (l *Log) Append(ctx context.Context, r *Record) error {
	record, err := r.encode()
	if err != nil {
		return err
	}
	return l.ask(ctx, &request{record, !r.ReadOnly, make(chan error, 1)})
}

// Ready returns nil when the log takes records. After a failure it tries whether the cause is gone.
func (l *Log) Ready(ctx context.Context) error {
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	if l.health.Load() == nil {
		return nil
	}
	return l.ask(ctx, &request{nil, false, make(chan error, 1)})
}

func (l *Log) ask(ctx context.Context, r *request) error {
	select {
	case l.queue <- r:
	case <-l.closing:
		return ErrClosed
	case <-ctx.Done():
		return fmt.Errorf("wait for the audit log: %w", ctx.Err())
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the audit log: %w", ctx.Err())
	}
}

// Close takes no more records, finishes those it has taken, seals the log and closes it. After an
// error the last checkpoint may not cover every record; they are durable even so, and the next Open
// seals them.
func (l *Log) Close(ctx context.Context) error {
	err := ErrClosed
	l.close.Do(func() {
		l.stop()
		l.owned.Wait()
		_ = l.tail.settle() // a sync under way that fails leaves the file to repair
		err = errors.Join(l.tail.repair(), l.sync(), l.Checkpoint(ctx), l.outputs.close(ctx), l.tail.finish(),
			l.disk.Close())
	})
	return err
}

// Stats are numbers for metrics; counters begin at Open.
type Stats struct {
	Records     int64 // in the log
	Sealed      int64 // covered by the last checkpoint
	Appended    int64
	Syncs       int64 // of files of records; Appended/Syncs is the mean batch
	CutBytes    int64 // torn by a crash and cut by Open; they are kept in cut/*.tmp
	Failure     error // of the last batch
	SignFailure error // of the last checkpoint
	Outputs     []OutputStats
}

// Stats returns the log's numbers.
func (l *Log) Stats() Stats {
	s := Stats{Sealed: l.sealed.Load(), Appended: l.records.Load(), Syncs: l.tail.syncs.Load(), CutBytes: l.cut,
		Outputs: l.outputs.stats()}
	if err := l.health.Load(); err != nil {
		s.Failure = *err
	}
	if err := l.signErr.Load(); err != nil {
		s.SignFailure = *err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.Records = l.tree.size
	return s
}
