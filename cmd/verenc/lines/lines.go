// Package lines writes the lines of a log in batches, so that not every request waits for a write to a
// terminal, a pipe or a file.
//
// It promises that lines stay in their order, that none waits longer than Within, and that what Sync
// returns after has been written. Lines that wait are lost when the process is killed.
package lines

import (
	"io"
	"sync"
	"time"

	"go.uber.org/zap/zapcore"
)

const (
	// Within is how long a line waits at most.
	Within = 100 * time.Millisecond
	// mostWaiting is how many bytes may wait.
	mostWaiting = 64 << 10
)

// Batch is a zapcore.WriteSyncer that writes in batches. Its methods may be called concurrently.
type Batch struct {
	to io.Writer

	mu      sync.Mutex
	waiting []byte      // guarded by mu
	late    *time.Timer // guarded by mu: nil when nothing waits
}

// NewBatch returns a Batch that writes to a writer.
func NewBatch(to io.Writer) *Batch { return &Batch{to: to} }

// Write keeps a line for the next batch.
func (b *Batch) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.late == nil {
		b.late = time.AfterFunc(Within, func() { _ = b.Sync() }) // an error shows in no other log
	}
	b.waiting = append(b.waiting, line...)
	if len(b.waiting) >= mostWaiting {
		return len(line), b.write()
	}
	return len(line), nil
}

// Sync writes all lines that wait.
func (b *Batch) Sync() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.write()
}

// write writes what waits. The caller holds mu. Lines that can't be written are lost, as they are without a
// batch; the next batch is tried again.
func (b *Batch) write() error {
	if b.late != nil {
		b.late.Stop()
		b.late = nil
	}
	if len(b.waiting) == 0 {
		return nil
	}
	_, err := b.to.Write(b.waiting)
	b.waiting = b.waiting[:0]
	return err
}

// AtOnce is a WriteSyncer that writes each line to the batch, and the batch at once.
func (b *Batch) AtOnce() zapcore.WriteSyncer { return atOnce{b} }

type atOnce struct{ *Batch }

// Write writes a line and all that wait before it.
func (a atOnce) Write(line []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, line...)
	return len(line), a.write()
}
