package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"golang.org/x/mod/sumdb/tlog"
)

// write is the writer: it gathers the requests that wait, commits them as one batch, and answers. It never waits for more
// requests to come: while it commits, they gather by themselves.
func (l *Log) write() {
	for {
		select {
		case first := <-l.queue:
			runtime.Gosched() // lets those that the last batch has woken come along: a third fewer syncs at 16 callers
			batch := l.gather(first)
			err := l.commit(batch)
			if err != nil {
				l.health.Store(&err)
			} else {
				l.health.Store(nil)
			}
			for _, r := range batch {
				r.done <- err
			}
		case <-l.closing:
			return
		}
	}
}

func (l *Log) gather(first *request) []*request {
	batch, size := []*request{first}, first.size()
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

// commit makes a batch durable, then part of the tree, then known to the outputs. An error means for every record of it
// that it is not acknowledged.
func (l *Log) commit(batch []*request) error {
	if err := l.prepare(); err != nil {
		return err
	}
	buffer, leaves, chain := l.buffer[:0], make([]tlog.Hash, 0, len(batch)), l.chain
	for _, r := range batch {
		if r.record == nil {
			continue
		}
		start := len(buffer)
		buffer, chain = appendLine(buffer, r.record, l.next+int64(len(leaves)), l.next, chain)
		leaves = append(leaves, tlog.RecordHash(buffer[start:len(buffer)-1]))
	}
	if len(leaves) == 0 {
		return l.ensureFile() // Ready asks after a failure, which may have been that of opening a file
	}
	if err := l.save(buffer); err != nil {
		return err
	}
	l.chain = chain
	l.next += int64(len(leaves))
	l.grow(leaves)
	if !l.outputs.any() {
		l.buffer = buffer // no one keeps parts of it
		return nil
	}
	return l.outputs.deliver(bytes.Split(bytes.TrimSuffix(buffer, []byte("\n")), []byte("\n")))
}

// prepare checks that nothing of the past forbids another batch.
func (l *Log) prepare() error {
	if err := l.repair(); err != nil {
		return err
	}
	if err := l.outputs.settle(); err != nil {
		return err
	}
	if unsealed := l.next - l.sealed.Load(); unsealed >= l.cfg.MaxUnsealed {
		l.askForSeal()
		err := errors.New("no failure is known, it may be slow")
		if failure := l.signErr.Load(); failure != nil {
			err = *failure
		}
		return fmt.Errorf("append to audit log: %d records wait for a checkpoint, which the token should have signed: %w", unsealed, err)
	}
	return nil
}

// save writes and syncs a batch. After an error the file is broken until repair.
func (l *Log) save(batch []byte) error {
	if l.file != nil && l.size > 0 && l.size+int64(len(batch)) > l.cfg.SegmentBytes {
		err := l.closeFile()
		l.askForSeal()
		if err != nil {
			return fmt.Errorf("close audit file: %w", err)
		}
	}
	if err := l.ensureFile(); err != nil {
		return err
	}
	if err := l.reserve(int64(len(batch))); err != nil {
		l.broken = fmt.Errorf("extend audit file %s: %w", l.name, err)
		return l.broken
	}
	if _, err := l.file.WriteAt(batch, l.size); err != nil {
		l.broken = fmt.Errorf("write audit file %s: %w", l.name, err)
		return l.broken
	}
	l.syncs.Add(1)
	if err := l.file.Sync(); err != nil {
		l.broken = fmt.Errorf("sync audit file %s: %w", l.name, err)
		return l.broken
	}
	l.size += int64(len(batch))
	return nil
}

// reserve makes room in the file for a batch, and for more: to sync bytes that took the place of others leaves the file system
// nothing to write but them, and costs half as much. The batch's sync is that of the blanks too.
func (l *Log) reserve(batch int64) error {
	if l.size+batch <= l.end {
		return nil
	}
	blanks := bytes.Repeat([]byte(" "), int(batch+l.cfg.Reserve))
	if _, err := l.file.WriteAt(blanks, l.size); err != nil {
		return err
	}
	l.end = l.size + int64(len(blanks))
	return nil
}

// ensureFile begins a file when none is open.
func (l *Log) ensureFile() error {
	if l.file != nil {
		return nil
	}
	return l.openSegment(segmentName(l.next), 0)
}

// openSegment opens a file of records whose first size bytes count; what is behind them was never acknowledged.
func (l *Log) openSegment(name string, size int64) error {
	f, err := l.disk.openData(name)
	if err != nil {
		return fmt.Errorf("open audit file: %w", err)
	}
	err = errors.Join(f.Truncate(size), f.Sync(), l.disk.syncFolder(recordFolder), l.disk.syncFolder("."))
	if err != nil {
		return errors.Join(fmt.Errorf("open audit file %s: %w", name, err), f.Close())
	}
	l.file, l.name, l.size, l.end = f, name, size, size
	return nil
}

const probeFile = "space" + temporary

// repair brings a broken file back to its whole batches, once the disk can take another batch. What a failed sync
// may have lost is of the batch that failed, and is cut.
func (l *Log) repair() error {
	if l.broken == nil {
		return nil
	}
	info, err := fs.Stat(l.disk, l.name)
	if err != nil {
		return fmt.Errorf("repair audit file after: %w: %w", l.broken, err)
	}
	if info.Size() < l.size {
		return fmt.Errorf("audit file %s has %d bytes, but %d were written: restore it: %w", l.name, info.Size(), l.size, l.broken)
	}
	if l.file != nil {
		_ = l.file.Close() // what it has not written is not counted on
		l.file = nil
	}
	if err := l.probe(); err != nil {
		return fmt.Errorf("repair audit file after: %w: %w", l.broken, err)
	}
	if err := l.openSegment(l.name, l.size); err != nil {
		return err
	}
	l.broken = nil
	return nil
}

// probe tells whether there is room for a batch.
func (l *Log) probe() error {
	f, err := l.disk.openData(probeFile)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, maxBatchBytes+l.cfg.Reserve), 0)
	return errors.Join(err, f.Sync(), f.Close(), l.disk.remove(probeFile))
}

// grow adds durable records to the tree.
func (l *Log) grow(leaves []tlog.Hash) {
	l.records.Add(int64(len(leaves)))
	l.mu.Lock()
	for _, leaf := range leaves {
		l.tree.add(leaf)
	}
	l.mu.Unlock()
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

// seal is the sealer: it signs the checkpoints that the writer asks for.
func (l *Log) seal(life context.Context) {
	for {
		select {
		case <-l.sealNow:
			ctx, cancel := context.WithTimeout(life, l.cfg.SignTimeout)
			_ = l.Checkpoint(ctx) // Stats and, in the end, Append tell its error
			cancel()
		case <-life.Done():
			return
		}
	}
}
