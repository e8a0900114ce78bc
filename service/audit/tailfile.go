package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
)

// tailFile is the file that records are being written to. The writer owns it.
type tailFile struct {
	disk    disk
	limit   int64 // size at which it is full
	reserve int64 // bytes written ahead

	file     dataFile // nil until a batch needs it
	name     string
	durable  int64    // bytes of whole batches that are on the disk
	unsynced unsynced // batches after them that may not be
	end      int64    // of the file: what follows the batches is blank
	broken   error    // why the file may not hold what it should

	flushing unsynced   // the part of unsynced that is being synced
	flushed  chan error // its outcome

	syncs atomic.Int64
}

// unsynced returns what may not be on the disk.
type unsynced struct {
	data    []byte
	records int
}

func (t *tailFile) size() int64 { return t.durable + int64(len(t.unsynced.data)) }

// full reports whether a batch belongs in another file.
func (t *tailFile) full(batch int) bool {
	return t.file != nil && t.size() > 0 && t.size()+int64(batch) > t.limit
}

// ensure begins a file when none is open; first is the index of its first record.
func (t *tailFile) ensure(first int64) error {
	if t.file != nil {
		return nil
	}
	return t.open(segmentName(first), 0)
}

// open opens a file whose first bytes are durable. After them it has room for what is unsynced, and
// nothing else.
func (t *tailFile) open(name string, durable int64) error {
	size := durable + int64(len(t.unsynced.data))
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
func (t *tailFile) append(batch []byte, records int, durable bool) error {
	if err := t.extend(int64(len(batch))); err != nil {
		return t.fail("extend", err)
	}
	if _, err := t.file.WriteAt(batch, t.size()); err != nil {
		return t.fail("write", err)
	}
	if !durable {
		t.unsynced.data = append(t.unsynced.data, batch...)
		t.unsynced.records += records
		return nil
	}
	if err := t.sync(); err != nil {
		return err
	}
	t.durable += int64(len(batch))
	return nil
}

// sync makes everything durable that was written.
func (t *tailFile) sync() error {
	if err := t.settle(); err != nil {
		return err
	}
	t.syncs.Add(1)
	if err := t.file.Sync(); err != nil {
		return t.fail("sync", err)
	}
	t.durable, t.unsynced = t.size(), unsynced{data: t.unsynced.data[:0]}
	return nil
}

// fresh returns how many unsynced bytes are not being synced yet.
func (t *tailFile) fresh() int { return len(t.unsynced.data) - len(t.flushing.data) }

// flush begins a sync of what is unsynced, during which further batches can be written. Its result
// comes from flushed and is to be passed to landed. There is one sync at a time: of two, only one
// might learn that something was not written. flush reports whether there is nothing left to begin.
func (t *tailFile) flush() bool {
	if t.broken != nil || len(t.unsynced.data) == 0 {
		return true // repair syncs
	}
	if t.flushed != nil {
		return false
	}
	t.flushing = t.unsynced
	t.syncs.Add(1)
	file, flushed := t.file, make(chan error, 1)
	t.flushed = flushed
	go func() { flushed <- file.Sync() }() // settle waits for it before the file is closed
	return true
}

// landed processes the result of flush.
func (t *tailFile) landed(err error) error {
	n, records := len(t.flushing.data), t.flushing.records
	t.flushing, t.flushed = unsynced{}, nil
	if err != nil {
		return t.fail("sync", err)
	}
	t.durable += int64(n)
	rest := copy(t.unsynced.data, t.unsynced.data[n:])
	t.unsynced = unsynced{t.unsynced.data[:rest], t.unsynced.records - records}
	return nil
}

// settle waits for a sync in progress.
func (t *tailFile) settle() error {
	if t.flushed == nil {
		return nil
	}
	return t.landed(<-t.flushed)
}

func (t *tailFile) fail(what string, err error) error {
	t.broken = fmt.Errorf("%s audit file %s: %w", what, t.name, err)
	return t.broken
}

var blanks = bytes.Repeat([]byte(" "), 64<<10)

// extend makes room in the file for a batch, and more. Syncing bytes that replace others leaves the
// file system nothing else to write, and costs half as much. The batch's sync also syncs the
// blanks.
func (t *tailFile) extend(batch int64) error {
	if t.size()+batch <= t.end {
		return nil
	}
	end := t.size() + batch + t.reserve
	for at := t.size(); at < end; at += int64(len(blanks)) {
		if _, err := t.file.WriteAt(blanks[:min(end-at, int64(len(blanks)))], at); err != nil {
			return err
		}
	}
	t.end = end
	return nil
}

// finish cuts the file after its last record.
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

// repair restores a broken file to its whole batches, once the disk can take another one. What a
// failed sync may have lost either belongs to the batch that failed, and is cut, or was kept, and
// is written again.
func (t *tailFile) repair() error {
	if t.broken == nil {
		return nil
	}
	_ = t.settle() // it may have had more to do than what failed
	info, err := fs.Stat(t.disk, t.name)
	if err != nil {
		return fmt.Errorf("repair audit file after: %w: %w", t.broken, err)
	}
	if info.Size() < t.durable {
		return fmt.Errorf("audit file %s has %d bytes, but %d were written: restore it: %w", t.name, info.Size(),
			t.durable, t.broken)
	}
	if t.file != nil {
		_ = t.file.Close() // what it has not written does not count
		t.file = nil
	}
	if err := t.probe(); err != nil {
		return fmt.Errorf("repair audit file after: %w: %w", t.broken, err)
	}
	if err := t.open(t.name, t.durable); err != nil {
		return err
	}
	if len(t.unsynced.data) > 0 {
		if _, err := t.file.WriteAt(t.unsynced.data, t.durable); err != nil {
			return t.fail("write", err)
		}
		if err := t.sync(); err != nil {
			return err
		}
	}
	t.broken = nil
	return nil
}

// probe reports whether there is room for a batch.
func (t *tailFile) probe() error {
	f, err := t.disk.openData(probeFile)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(make([]byte, maxBatchBytes+t.reserve), 0)
	return errors.Join(err, f.Sync(), f.Close(), t.disk.remove(probeFile))
}
