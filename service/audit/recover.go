package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/mod/sumdb/tlog"
)

// ErrTampered is wrapped by the errors for a log that is not as it was written.
var ErrTampered = errors.New("the audit log was changed")

const cureTampered = "verify it, keep it as evidence, and restore it or begin another log"

func tampered(at fmt.Stringer, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s: %s", ErrTampered, at, fmt.Sprintf(format, args...), cureTampered)
}

// recover prepares the Log to continue where the folder ends.
func (l *Log) recover() error {
	h, err := readHead(l.disk)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w (there is no log, or its creation was broken off: create one in an empty folder)", err)
	}
	if err != nil {
		return fmt.Errorf("read what is signed: %w", damageOf(err))
	}
	l.head, l.origin = h, h.origin
	if l.cfg.Origin != "" && l.cfg.Origin != h.origin {
		return fmt.Errorf("the log is of %s, not of %s", h.origin, l.cfg.Origin)
	}
	for _, s := range l.cfg.Signers {
		if signer, err := newSigning(h.origin, s); err != nil {
			return err
		} else if signer.text == h.current().text {
			l.signer = signer
		}
	}
	if l.signer.signer == nil {
		return fmt.Errorf("the log's key %s is not among the signers: give the key that the last rotation put in force",
			h.current().text)
	}
	t, err := readTail(l.disk, h.checkpoint)
	if err != nil {
		return err
	}
	l.chain, l.next, l.sealAt, l.cut = t.chain, t.tree.size, h.size+l.cfg.CheckpointEvery, int64(len(t.torn))
	l.tree, l.fresh = t.tree, t.fresh
	l.tree.complete = func(t tile) { l.fresh = append(l.fresh, t) } // called with mu held
	l.sealed.Store(h.size)
	if t.file == "" {
		return nil
	}
	if len(t.torn) > 0 {
		name := fmt.Sprintf("cut/%0*d%s", recordNumbers, l.next, temporary)
		if err := replaceAll(l.disk, namedData{name, t.torn}); err != nil {
			return err
		}
	}
	return l.tail.open(t.file, t.size)
}

// tail is where a log ends.
type tail struct {
	tree  *tree
	fresh []tile // completed by unsealed records
	chain chainHash
	file  string // "" when there is none
	size  int64  // bytes of file that count
	torn  []byte // what follows them

	fsys   fs.FS
	sealed checkpoint
	next   int64       // index of the next record
	seen   []tlog.Hash // leaves of the last sealed records that were read; not yet compared with the checkpoint
}

// readTail reads a log from the file in which its checkpoint ends, and compares it with the
// checkpoint.
func readTail(fsys fs.FS, c checkpoint) (*tail, error) {
	t := &tail{sealed: c, fsys: fsys, chain: chainStart(c.origin)}
	var err error
	if t.tree, err = loadTree(fsys, c.size); err != nil {
		return nil, fmt.Errorf("%w: %w: %s", ErrTampered, err, cureTampered)
	}
	if t.tree.root() != c.root {
		return nil, tampered(place{file: tileFolder}, "the tiles do not give the root that is signed")
	}
	t.tree.complete = func(done tile) { t.fresh = append(t.fresh, done) }
	files, err := segments(fsys)
	if err != nil {
		return nil, err
	}
	start := len(files) - 1
	for start > 0 && files[start].first > c.size {
		start--
	}
	if start > 0 {
		if err := t.readBefore(files[start-1].name); err != nil {
			return nil, err
		}
	}
	for i, s := range files[max(start, 0):] {
		if s.first != t.next {
			return nil, tampered(place{file: s.name}, "records %d to %d are missing before it", t.next, s.first-1)
		}
		if err := t.read(s.name); err != nil {
			return nil, err
		}
		if len(t.torn) > 0 && start+i < len(files)-1 {
			return nil, tampered(place{s.name, 0, t.size}, "a damaged line, with another file behind it")
		}
	}
	if t.next < c.size {
		return nil, tampered(place{file: recordFolder}, "it ends after %d records, the checkpoint covers %d",
			t.next, c.size)
	}
	return t, t.compare()
}

// readBefore takes the chain from the last line of the previous file.
func (t *tail) readBefore(file string) error {
	var text []byte
	end, err := readLines(t.fsys, file, func(line []byte, _ place, _ bool) error {
		text = append(text[:0], line...)
		return nil
	})
	if err != nil {
		return err
	}
	last, err := parseLine(text)
	if err != nil || last.index >= t.sealed.size {
		return tampered(end, "the file should end with a record that the checkpoint covers")
	}
	t.chain, t.next = last.hash, last.index
	return t.take(last.leaf())
}

// read reads one file, up to a damaged line.
func (t *tail) read(file string) error {
	t.file = file
	var damage *place
	end, err := readLines(t.fsys, file, func(text []byte, at place, whole bool) error {
		l, err := parseLine(text)
		if damage == nil && whole && err == nil && l.index == t.next && l.hash == t.chain.next(l.head) {
			t.chain = l.hash
			return t.take(l.leaf())
		}
		switch {
		case t.next < t.sealed.size:
			return tampered(at, "not record %d, which the checkpoint covers", t.next)
		case damage == nil && whole && bytes.HasPrefix(text, []byte("{")) && json.Valid(text):
			return tampered(at, "not record %d, and no torn write either", t.next)
		case err == nil && l.batch > t.next:
			return tampered(at, "record %d was written after record %d, which is damaged", l.index, t.next)
		case damage == nil:
			damage = &at
		}
		return nil
	})
	if err != nil {
		return err
	}
	t.size = end.offset
	if damage == nil {
		return nil
	}
	t.size = damage.offset
	if end.offset-t.size > maxUnsynced+maxLine+1 {
		return tampered(*damage, "a damaged line, with more behind it than one write has")
	}
	all, err := fs.ReadFile(t.fsys, file)
	if err == nil {
		t.torn = bytes.TrimRight(all[t.size:], " ")
	}
	return err
}

// take adds the next record.
func (t *tail) take(leaf tlog.Hash) error {
	t.next++
	if t.next > t.sealed.size {
		t.tree.add(leaf)
		return nil
	}
	if t.seen = append(t.seen, leaf); len(t.seen) < tileWidth {
		return nil
	}
	return t.compare()
}

// compare compares the leaves that were read with the checkpoint.
func (t *tail) compare() error {
	if len(t.seen) == 0 {
		return nil
	}
	end := min(t.next, t.sealed.size)
	first := end - int64(len(t.seen))
	indexes := make([]int64, len(t.seen))
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	proven, err := provenHashes(t.fsys, t.sealed).ReadHashes(indexes)
	if err != nil {
		return fmt.Errorf("%w: %w: %s", ErrTampered, err, cureTampered)
	}
	for i, h := range t.seen {
		if h != proven[i] {
			return tampered(place{file: recordFolder}, "record %d is not the one that the checkpoint covers",
				first+int64(i))
		}
	}
	t.seen = t.seen[:0]
	return nil
}
