package audit

import (
	"errors"
	"fmt"
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
