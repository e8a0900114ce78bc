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
	maxBatchBytes   = 1 << 20 // and at most one more line
	maxBatchRecords = 1024

	maxUnsynced = 4 << 20 // bytes that may not be on the disk, including a batch
)

// Config configures a Log.
type Config struct {
	Dir    string // required; belongs to this log alone
	Create bool   // begin a log; Dir must not exist, or be empty. Without Create it must hold a log.
	Origin string // the log's name, e.g. kms.example.com/audit; required with Create. An existing log has its own.

	// Signers are the keys that may sign; required. The one that the log names as its current key
	// signs; with Create, the first one. After Rotate both keys must be given until the old one is
	// needed nowhere.
	Signers []Signer

	Outputs []Output // where records go besides the folder

	SegmentBytes int64 // size at which a file of records is full; default 64 MiB
	Reserve      int64 // blanks written ahead of records, in bytes; default 1 MiB

	// SyncWithin is how long the record of a request that changed nothing (Record.ReadOnly) may
	// stay unsynced after Append has acknowledged it. The operating system has the record by then,
	// so killing the process loses none, but a power failure may lose the records of this period.
	// All other records are synced first. 0 syncs every record first.
	SyncWithin time.Duration

	CheckpointEvery  int64         // records after which a checkpoint is made; default 4096
	CheckpointWithin time.Duration // longest time that records wait for a checkpoint; default 10 s
	MaxUnsealed      int64         // records that may wait for a checkpoint before Append refuses; default 100,000
	OutputTimeout    time.Duration // for one batch to one output; default 5 s
	SignTimeout      time.Duration // for checkpoints that the log makes by itself; default 30 s

	// Checkpointed is called with each signed checkpoint, to be kept where the folder's owner
	// cannot change it. It must not call the Log.
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

	queue    chan *request
	requests sync.Pool // of *request: answered ones, whose memory is used again
	sealNow  chan struct{}
	closing  <-chan struct{} // closed by Close: no more requests
	stop     context.CancelFunc
	owned    sync.WaitGroup // the writer and the sealer
	close    sync.Once

	// Owned by the writer.
	tail   tailFile
	next   int64       // index of the next record
	chain  chainHash   // of the last record
	leaves []tlog.Hash // of the last records, which may not be durable yet
	sealAt int64       // size of the tree at which to request a checkpoint
	due    bool        // a sync is due: a record has waited for SyncWithin
	batch  []*request
	buffer []byte

	mu    sync.Mutex // guards the tree, which holds what is durable
	tree  *tree
	fresh []tile // completed since the last checkpoint

	sealing sync.Mutex // guards signing
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
	durable bool   // it must be on the disk before the answer
	done    chan error
}

// size returns how many bytes of a batch the request may need.
func (r *request) size() int { return len(r.record) + maxTrailer + 1 }

// Open opens a log, or begins one. It reads an existing log from its last file on, compares it with
// its checkpoint, cuts off what a crash has torn (Stats.CutBytes), and seals it. It refuses a log
// that was changed or is shorter than its checkpoint says. It accepts an unsealed tail whose chain
// is intact: nobody has signed for what happened between the crash and Open.
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

// Append adds a record. It returns when the record is durable (but see Config.SyncWithin) and every
// required output has it. After an error the record may or may not be in the log. The end of ctx
// does not keep the record out.
func (l *Log) Append(ctx context.Context, r *Record) error {
	q := l.request()
	var err error
	if q.record, err = r.encode(q.record[:0]); err != nil {
		return err
	}
	q.durable = !r.ReadOnly
	return l.ask(ctx, q)
}

// request returns an empty request, perhaps one that was answered.
func (l *Log) request() *request {
	if q, ok := l.requests.Get().(*request); ok {
		return q
	}
	return &request{record: make([]byte, 0, usualRecord), done: make(chan error, 1)}
}

// Ready returns nil when the log takes records. After a failure it tries whether the cause still
// exists.
func (l *Log) Ready(ctx context.Context) error {
	select {
	case <-l.closing:
		return ErrClosed
	default:
	}
	if l.health.Load() == nil {
		return nil
	}
	return l.ask(ctx, &request{done: make(chan error, 1)})
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
	case err := <-r.done: // the writer has no more use for it
		if r.record != nil {
			l.requests.Put(r)
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for the audit log: %w", ctx.Err())
	}
}

// Close stops taking records, finishes those it has taken, seals the log and closes it. After an
// error the last checkpoint may not cover every record; the records are durable nevertheless, and
// the next Open seals them.
func (l *Log) Close(ctx context.Context) error {
	err := ErrClosed
	l.close.Do(func() {
		l.stop()
		l.owned.Wait()
		_ = l.tail.settle() // a sync in progress that fails leaves a file to repair
		err = errors.Join(l.tail.repair(), l.sync(), l.Checkpoint(ctx), l.outputs.close(ctx), l.tail.finish(),
			l.disk.Close())
	})
	return err
}

// Stats are numbers for metrics. Counters start at Open.
type Stats struct {
	Records     int64 // in the log
	Sealed      int64 // covered by the last checkpoint
	Appended    int64
	Syncs       int64 // of files of records; Appended/Syncs is the mean batch
	CutBytes    int64 // torn by a crash and cut off by Open; kept in cut/*.tmp
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
