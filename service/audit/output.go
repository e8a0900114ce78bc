package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Sink sends records to another machine, or to another program on this one.
type Sink interface {
	// Write delivers lines in order; a line is a record as JSON without a newline. It must not
	// modify the lines, nor keep them after it returns. After an error some of them may have been
	// delivered and are delivered again, so a receiver identifies records by logIndex.
	Write(ctx context.Context, lines [][]byte) error
	Close() error
}

// Output is a sink and what its failure means.
type Output struct {
	Name string // for metrics and errors
	Sink Sink   // required; closed by the Log

	// Required makes Append wait for the sink and fail with it. The batch for which it failed is in
	// the log, and is the first that the sink gets when it works again: while the process lives,
	// the sink misses nothing. After a crash it may lack the records of the last batch, none of
	// which was acknowledged.
	Required bool

	// Queue is how many records may wait for a sink that is not required; further ones are dropped
	// and counted. Default 10,000.
	Queue int
}

// OutputStats are numbers for metrics, since Open.
type OutputStats struct {
	Name      string
	Delivered int64 // records
	Dropped   int64 // records, because of a full queue or a failed write
	Failure   error // of the last write
}

// output is an Output in use.
type output struct {
	Output
	timeout            time.Duration
	delivered, dropped atomic.Int64
	failure            atomic.Pointer[error]

	owed [][]byte // required: lines in the log that the sink has not accepted; owned by the writer

	queue   chan [][]byte // not required; batches
	waiting atomic.Int64  // records in queue
}

type outputs struct {
	all     []*output
	life    context.Context // of the writes of queued outputs
	stop    context.CancelFunc
	running sync.WaitGroup
}

func startOutputs(configs []Output, timeout time.Duration) *outputs {
	o := &outputs{}
	o.life, o.stop = context.WithCancel(context.Background())
	for _, c := range configs {
		if c.Queue == 0 {
			c.Queue = 10_000
		}
		out := &output{Output: c, timeout: timeout}
		if !c.Required {
			out.queue = make(chan [][]byte, c.Queue)
			o.running.Go(func() { out.drain(o.life) })
		}
		o.all = append(o.all, out)
	}
	return o
}

func (o *outputs) any() bool { return len(o.all) > 0 }

// deliver passes on lines that are in the log. It returns the errors of required outputs.
func (o *outputs) deliver(lines [][]byte) error {
	for _, out := range o.all {
		if out.Required {
			out.owed = lines
		} else {
			out.enqueue(lines)
		}
	}
	return o.settle()
}

// settle gives the required outputs the lines that they have missed.
func (o *outputs) settle() error {
	var errs []error
	for _, out := range o.all {
		if len(out.owed) == 0 {
			continue
		}
		if err := out.write(context.Background(), out.owed); err != nil {
			errs = append(errs, fmt.Errorf("write to audit output %s: %w", out.Name, err))
			continue
		}
		out.owed = nil
	}
	return errors.Join(errs...)
}

func (out *output) write(ctx context.Context, lines [][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, out.timeout)
	defer cancel()
	err := out.Sink.Write(ctx, lines)
	if err != nil {
		out.failure.Store(&err)
		return err
	}
	out.failure.Store(nil)
	out.delivered.Add(int64(len(lines)))
	return nil
}

// enqueue never waits: the queue never has more batches than records.
func (out *output) enqueue(lines [][]byte) {
	n := int64(len(lines))
	if out.waiting.Add(n) > int64(out.Queue) {
		out.waiting.Add(-n)
		out.dropped.Add(n)
		return
	}
	out.queue <- lines
}

func (out *output) drain(life context.Context) {
	for lines := range out.queue {
		n := int64(len(lines))
		if err := out.write(life, lines); err != nil {
			out.dropped.Add(n)
		}
		out.waiting.Add(-n)
	}
}

// close empties the queues until ctx ends, and closes the sinks.
func (o *outputs) close(ctx context.Context) error {
	cut := context.AfterFunc(ctx, o.stop)
	defer cut()
	for _, out := range o.all {
		if out.queue != nil {
			close(out.queue)
		}
	}
	o.running.Wait()
	o.stop()
	var errs []error
	for _, out := range o.all {
		if err := out.Sink.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close audit output %s: %w", out.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (o *outputs) stats() []OutputStats {
	stats := make([]OutputStats, len(o.all))
	for i, out := range o.all {
		stats[i] = OutputStats{Name: out.Name, Delivered: out.delivered.Load(), Dropped: out.dropped.Load()}
		if err := out.failure.Load(); err != nil {
			stats[i].Failure = *err
		}
	}
	return stats
}
