package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	checkpointFile = "checkpoint"
	maxCheckpoint  = 8 << 10 // bytes of a signed checkpoint

	keyExtension   = "key "
	afterExtension = "after "
)

// checkpoint is the text of a C2SP tlog-checkpoint. One that begins an epoch has an extension line
// with the epoch's key and, except in the first epoch, one with the previous key.
type checkpoint struct {
	origin     string
	size       int64 // records
	root       tlog.Hash
	key, after string // verifier keys; empty unless it begins an epoch
}

func (c checkpoint) text() string {
	text := fmt.Sprintf("%s\n%d\n%s\n", c.origin, c.size, c.root)
	if c.key != "" {
		text += keyExtension + c.key + "\n"
	}
	if c.after != "" {
		text += afterExtension + c.after + "\n"
	}
	return text
}

var errCheckpoint = errors.New("not a checkpoint of an audit log")

// parseCheckpoint reads the text of a note. A text that parses is the only encoding of its fields.
func parseCheckpoint(text string) (checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(text) > maxCheckpoint || len(lines) < 4 || len(lines) > 6 || !validOrigin(lines[0]) {
		return checkpoint{}, errCheckpoint
	}
	size, err1 := parseDecimal(lines[1])
	root, err2 := tlog.ParseHash(lines[2])
	c := checkpoint{origin: lines[0], size: size, root: root}
	if len(lines) > 4 {
		c.key = strings.TrimPrefix(lines[3], keyExtension)
	}
	if len(lines) > 5 {
		c.after = strings.TrimPrefix(lines[4], afterExtension)
	}
	if err1 != nil || err2 != nil || c.text() != text {
		return checkpoint{}, errCheckpoint
	}
	return c, nil
}

// readCheckpoint reads a signed checkpoint without verifying it.
func readCheckpoint(signed []byte) (checkpoint, error) {
	text, _, ok := strings.Cut(string(signed), "\n\n")
	if !ok {
		return checkpoint{}, errCheckpoint
	}
	return parseCheckpoint(text + "\n")
}

// openCheckpoint verifies a signed checkpoint: exactly these keys must have signed it, in this
// order.
func openCheckpoint(signed []byte, keys ...*verifier) (checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return checkpoint{}, errCheckpoint
	}
	known := make([]note.Verifier, len(keys))
	for i, k := range keys {
		known[i] = k
	}
	n, err := openNote(signed, known...)
	if err != nil {
		return checkpoint{}, fmt.Errorf("open checkpoint: %w", err)
	}
	again := n.Text + "\n"
	for i, s := range n.Sigs {
		if s.Hash != keys[i].id {
			return checkpoint{}, errCheckpoint
		}
		again += fmt.Sprintf("\u2014 %s %s\n", s.Name, s.Base64)
	}
	if len(n.Sigs) != len(keys) || again != string(signed) {
		return checkpoint{}, errors.New("open checkpoint: it must be signed by the keys in force, and by no other")
	}
	c, err := parseCheckpoint(n.Text)
	if err == nil && c.origin != keys[0].name {
		err = fmt.Errorf("open checkpoint: it is of %s, not of %s", c.origin, keys[0].name)
	}
	return c, err
}

// Checkpoint is what a signed checkpoint says.
type Checkpoint struct {
	Origin string // of the log
	Size   int64  // records
	Root   tlog.Hash
	Signed []byte // the note
}

// OpenCheckpoint verifies a signed checkpoint: one of the keys must have signed it, and must be a key
// of the log.
func OpenCheckpoint(signed []byte, keys ...string) (Checkpoint, error) {
	if len(signed) > maxCheckpoint {
		return Checkpoint{}, errCheckpoint
	}
	known := make([]note.Verifier, len(keys))
	for i, k := range keys {
		var err error
		if known[i], err = NewVerifier(strings.TrimSpace(k)); err != nil {
			return Checkpoint{}, err
		}
	}
	n, err := openNote(signed, known...)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if n.Sigs[0].Name != c.origin {
		return Checkpoint{}, fmt.Errorf("the checkpoint is of %s, the key of %s", c.origin, n.Sigs[0].Name)
	}
	return Checkpoint{c.origin, c.size, c.root, signed}, nil
}

// Latest reads a log's latest signed checkpoint, which must continue the earlier ones: it covers their
// records, and the records give the roots that they sign. The error wraps ErrTampered if it does not.
// It wraps fs.ErrNotExist if files are missing. keys are the log's verifier keys, the current one last; no
// other log has the first one. The caller has to check them, and trusts the earlier checkpoints. The log
// may be in use, except at the moment of a Rotate.
func Latest(fsys fs.FS, earlier ...KnownCheckpoint) (keys []string, latest Checkpoint, err error) {
	for {
		h, err := readHead(fsys)
		if err != nil {
			return nil, Checkpoint{}, fmt.Errorf("read the latest checkpoint: %w", damageOf(err))
		}
		if err = h.continues(fsys, earlier); err == nil {
			return h.keys(), Checkpoint{h.origin, h.size, h.root, h.signed}, nil
		}
		// A writer that has published another checkpoint meanwhile has removed tiles of this one.
		now, err2 := readSmall(fsys, checkpointFile, maxCheckpoint)
		if err2 != nil || slices.Equal(now, h.signed) {
			return nil, Checkpoint{}, err
		}
	}
}

func (h *head) continues(fsys fs.FS, earlier []KnownCheckpoint) error {
	for _, e := range earlier {
		c, err := readCheckpoint(e.Signed)
		if err != nil || c.origin != h.origin {
			return fmt.Errorf("the %s is none of %s", e.From, h.origin)
		}
		if c.size > h.size {
			return fmt.Errorf("%w: its latest checkpoint covers %d records, but the %s covers %d", ErrTampered,
				h.size, e.From, c.size)
		}
		root, err := tlog.TreeHash(c.size, provenHashes(fsys, h.checkpoint))
		if err != nil {
			return damageOf(err)
		}
		if root != c.root {
			return fmt.Errorf("%w: the first %d records are not those that the %s covers", ErrTampered, c.size, e.From)
		}
	}
	return nil
}

// damageOf is an error of reading a log, which wraps ErrTampered unless a file could not be read.
func damageOf(err error) error {
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrTampered, err)
}
