package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
)

// tailFile is the file that records are being written to. It belongs to the writer.
type tailFile struct {
	disk    disk
	limit   int64 // size at which it is full
	reserve int64 // bytes that are written ahead

	file     dataFile // nil until a batch needs it
	name     string
	durable  int64  // bytes that hold whole batches and are on the disk
	unsynced []byte // batches behind them that may not be
	end      int64  // of the file: what is behind these is blank
	broken   error  // why the file may not hold what it should

	syncs atomic.Int64
}

func (t *tailFile) size() int64 { return t.durable + int64(len(t.unsynced)) }

// full tells whether a batch belongs into another file.
func (t *tailFile) full(batch int) bool {
	return t.file != nil && t.size() > 0 && t.size()+int64(batch) > t.limit
}

// ensure begins a file, whose first record is the one that is given, when none is open.
func (t *tailFile) ensure(first int64) error {
	if t.file != nil {
		return nil
	}
	return t.open(segmentName(first), 0)
}

// open opens a file whose first bytes are durable. Behind them is room for what is unsynced, and nothing else.
func (t *tailFile) open(name string, durable int64) error {
	size := durable + int64(len(t.unsynced))
	f, err := t.disk.openData(name)
	if err != nil {
		return fmt.Errorf("open audit file: %w", err)
	}
	err = errors.Join(f.Truncate(size), f.Sync(), t.disk.syncFolder(recordFolder), t.disk.syncFolder("."))
	if err != nil {
		return errors.Join(fmt.Errorf("open audit file %s: %w", name, err), f.Close())
	}
	t.file, t.name, t.durable, t.end = f, name, durable, size
	return nil
}

// append writes a batch, and syncs it if it must be durable. After an error the file is broken until repair.
func (t *tailFile) append(batch []byte, durable bool) error {
	if err := t.extend(int64(len(batch))); err != nil {
		return t.fail("extend", err)
	}
	if _, err := t.file.WriteAt(batch, t.size()); err != nil {
		return t.fail("write", err)
	}
	if !durable {
		t.unsynced = append(t.unsynced, batch...)
		return nil
	}
	if err := t.sync(); err != nil {
		return err
	}
	t.durable += int64(len(batch))
	return nil
}

// sync makes all durable that was written.
func (t *tailFile) sync() error {
	t.syncs.Add(1)
	if err := t.file.Sync(); err != nil {
		return t.fail("sync", err)
	}
	t.durable, t.unsynced = t.size(), t.unsynced[:0]
	return nil
}

func (t *tailFile) fail(what string, err error) error {
	t.broken = fmt.Errorf("%s audit file %s: %w", what, t.name, err)
	return t.broken
}

// extend makes room in the file for a batch, and for more: to sync bytes that took the place of others leaves the file system
// nothing to write but them, and costs half as much. The batch's sync is that of the blanks too.
func (t *tailFile) extend(batch int64) error {
	if t.size()+batch <= t.end {
		return nil
	}
	blanks := bytes.Repeat([]byte(" "), int(batch+t.reserve))
	if _, err := t.file.WriteAt(blanks, t.size()); err != nil {
		return err
	}
	t.end = t.size() + int64(len(blanks))
	return nil
}

// finish ends the file behind its last record.
func (t *tailFile) finish() error {
	if t.file == nil {
		return nil
	}
	if err := errors.Join(t.file.Truncate(t.size()), t.sync()); err != nil {
		return t.fail("end", err)
	}
	f := t.file
	t.file = nil
	return f.Close()
}

const probeFile = "space" + temporary

// repair brings a broken file back to its whole batches, once the disk can take another one. What a failed sync may have lost is
// of the batch that failed, and is cut, or was kept, and is written again.
func (t *tailFile) repair() error {
	if t.broken == nil {
		return nil
	}
	info, err := fs.Stat(t.disk, t.name)
	if err != nil {
		return fmt.Errorf("repair audit file after: %w: %w", t.broken, err)
	}
	if info.Size() < t.durable {
		return fmt.Errorf("audit file %s has %d bytes, but %d were written: restore it: %w", t.name, info.Size(), t.durable, t.broken)
	}
	if t.file != nil {
		_ = t.file.Close() // what it has not written is not counted on
		t.file = nil
	}
	if err := t.probe(); err != nil {
		return fmt.Errorf("repair audit file after: %w: %w", t.broken, err)
	}
	if err := t.open(t.name, t.durable); err != nil {
		return err
	}
	if len(t.unsynced) > 0 {
		if _, err := t.file.WriteAt(t.unsynced, t.durable); err != nil {
			return t.fail("write", err)
		}
		if err := t.sync(); err != nil {
			return err
		}
	}
	t.broken = nil
	return nil
}

// probe tells whether there is room for a batch.
func (t *tailFile) probe() error {
	f, err := t.disk.openData(probeFile)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, maxBatchBytes+t.reserve), 0)
	return errors.Join(err, f.Sync(), f.Close(), t.disk.remove(probeFile))
}
