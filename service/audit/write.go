package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// write is the writer: it gathers waiting requests, commits them as one batch, and answers them. It
// never waits for more requests: they gather while it commits.
func (l *Log) write() {
	late := time.NewTimer(time.Hour) // to sync what waits for it
	defer late.Stop()
	for {
		select {
		case <-late.C:
			l.due = true
		case err := <-l.tail.flushed:
			if err = l.tail.landed(err); err != nil {
				l.setHealth(err)
			}
			l.grow()
		case first := <-l.queue:
			// lets those that the last batch has woken come along: a third fewer syncs with 16 callers
			runtime.Gosched()
			l.batch = l.gather(first)
			waiting := l.tail.fresh() > 0
			err := l.commit(l.batch)
			if !waiting && l.tail.fresh() > 0 {
				late.Reset(l.cfg.SyncWithin)
			}
			l.setHealth(err)
			for _, r := range l.batch {
				r.done <- err
			}
		case <-l.closing:
			return
		}
		if l.due || l.tail.fresh() >= maxBatchBytes {
			l.due = !l.tail.flush()
		}
	}
}

// setHealth keeps the outcome of a batch.
func (l *Log) setHealth(err error) {
	if err == nil {
		l.health.Store(nil)
		return
	}
	failure := err // a variable of its own, so that a batch without a failure allocates nothing
	l.health.Store(&failure)
}

func (l *Log) gather(first *request) []*request {
	batch, size := append(l.batch[:0], first), first.size()
	for len(batch) < maxBatchRecords && size < maxBatchBytes {
		select {
		case r := <-l.queue:
			batch = append(batch, r)
			size += r.size()
		default:
			return batch
		}
	}
	return batch
}

// commit writes a batch, makes it durable if one of its records must be, adds it to the tree, and
// delivers it to the outputs. After an error none of its records is acknowledged.
func (l *Log) commit(batch []*request) error {
	size, durable := 0, l.cfg.SyncWithin == 0
	for _, r := range batch {
		size, durable = size+r.size(), durable || r.durable
	}
	if err := l.prepare(size); err != nil {
		return err
	}
	buffer, leaves, chain := l.buffer[:0], len(l.leaves), l.chain
	next, synced := l.next, l.next-int64(len(l.leaves))
	for _, r := range batch {
		if r.record == nil {
			continue
		}
		start := len(buffer)
		buffer, chain = appendLine(buffer, r.record, next, synced, chain)
		l.leaves = append(l.leaves, tlog.RecordHash(buffer[start:len(buffer)-1]))
		next++
	}
	if next == l.next {
		return l.tail.ensure(l.next) // Ready asks after a failure, perhaps that of opening a file
	}
	if err := l.save(buffer, int(next-l.next), durable); err != nil {
		l.leaves = l.leaves[:leaves]
		return err
	}
	l.chain, l.next = chain, next
	l.grow()
	if !l.outputs.any() {
		l.buffer = buffer // nobody keeps parts of it
		return nil
	}
	return l.outputs.deliver(bytes.Split(bytes.TrimSuffix(buffer, []byte("\n")), []byte("\n")))
}

// prepare checks that no earlier failure forbids another batch. A power failure must not be able to
// tear more than one batch.
func (l *Log) prepare(batch int) error {
	if err := l.tail.repair(); err != nil {
		return err
	}
	if len(l.tail.unsynced.data)+batch > maxUnsynced {
		if err := l.tail.sync(); err != nil {
			return err
		}
	}
	l.grow()
	if err := l.outputs.settle(); err != nil {
		return err
	}
	if unsealed := l.next - l.sealed.Load(); unsealed >= l.cfg.MaxUnsealed {
		l.askForSeal()
		err := errors.New("no failure is known, it may be slow")
		if failure := l.signErr.Load(); failure != nil {
			err = *failure
		}
		return fmt.Errorf(
			"append to audit log: %d records wait for a checkpoint, which the token should have signed: %w",
			unsealed, err)
	}
	return nil
}

// save writes a batch.
func (l *Log) save(batch []byte, records int, durable bool) error {
	if l.tail.full(len(batch)) {
		err := l.tail.finish()
		l.askForSeal()
		if err != nil {
			return err
		}
	}
	if err := l.tail.ensure(l.next); err != nil {
		return err
	}
	return l.tail.append(batch, records, durable)
}

// sync makes durable what was acknowledged without a sync.
func (l *Log) sync() error {
	if len(l.tail.unsynced.data) > 0 && l.tail.broken == nil {
		if err := l.tail.sync(); err != nil {
			return err
		}
	}
	l.grow()
	return nil
}

// grow adds records to the tree once they are durable, so that no checkpoint is ahead of the disk.
func (l *Log) grow() {
	durable := len(l.leaves) - l.tail.unsynced.records
	if durable <= 0 {
		return
	}
	l.records.Add(int64(durable))
	l.mu.Lock()
	for _, leaf := range l.leaves[:durable] {
		l.tree.add(leaf)
	}
	l.mu.Unlock()
	l.leaves = l.leaves[:copy(l.leaves, l.leaves[durable:])]
	if l.next >= l.sealAt {
		l.askForSeal()
	}
}

// askForSeal wakes the sealer, unless it is awake.
func (l *Log) askForSeal() {
	l.sealAt = l.next + l.cfg.CheckpointEvery
	select {
	case l.sealNow <- struct{}{}:
	default:
	}
}

// seal is the sealer: it signs the checkpoints that the writer requests, and those that are due.
func (l *Log) seal(life context.Context) {
	due := time.NewTicker(l.cfg.CheckpointWithin)
	defer due.Stop()
	for {
		select {
		case <-l.sealNow:
		case <-due.C:
		case <-life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(life, l.cfg.SignTimeout)
		_ = l.Checkpoint(ctx) // Stats and, in the end, Append report its error
		cancel()
	}
}
