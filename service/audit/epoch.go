package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

const (
	epochFolder = "epoch"
	maxEpochs   = 1000
)

// An epoch is the period of one signing key. It begins with a checkpoint that names the key and is
// signed by both this key and the previous one, so that whoever trusts one key of a log can follow
// the later keys from it.
type epoch struct {
	checkpoint
	signed []byte
	key    *verifier
}

func epochName(n int) string { return fmt.Sprintf("%s/%06d", epochFolder, n) }

// head is what the signed files of a log say when read together.
type head struct {
	epochs []epoch
	checkpoint
	signed []byte

	// unlisted reports that the last epoch is missing from the list, which a crash or a failed
	// write can cause. Its checkpoint must not be replaced before the epoch is listed.
	unlisted bool
}

// current returns the verifier key of the current epoch.
func (h *head) current() *verifier { return h.epochs[len(h.epochs)-1].key }

// keys returns the verifier keys of all epochs.
func (h *head) keys() (keys []string) {
	for _, e := range h.epochs {
		keys = append(keys, e.key.text)
	}
	return keys
}

// placedError is an error and the file that it is about.
type placedError struct {
	file string
	err  error
}

func (e *placedError) Error() string { return e.file + ": " + e.err.Error() }
func (e *placedError) Unwrap() error { return e.err }

// readHead reads the checkpoint and the epochs, and verifies that they sign for each other. The
// caller has to check that their keys are the right ones.
func readHead(fsys fs.FS) (*head, error) {
	h := &head{}
	for n := 0; n < maxEpochs; n++ {
		signed, err := readSmall(fsys, epochName(n), maxCheckpoint)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil {
			err = h.begin(signed)
		}
		if err != nil {
			return nil, &placedError{epochName(n), err}
		}
	}
	if err := h.readCheckpoint(fsys); err != nil {
		return nil, &placedError{checkpointFile, err}
	}
	return h, nil
}

func (h *head) readCheckpoint(fsys fs.FS) (err error) {
	h.signed, err = readSmall(fsys, checkpointFile, maxCheckpoint)
	if err != nil {
		return err
	}
	c, err := readCheckpoint(h.signed)
	if err != nil {
		return err
	}
	if c.key != "" {
		listed := len(h.epochs) > 0 && slices.Equal(h.signed, h.epochs[len(h.epochs)-1].signed)
		if !listed {
			if err := h.begin(h.signed); err != nil {
				return err
			}
			h.unlisted = true
		}
		h.checkpoint = h.epochs[len(h.epochs)-1].checkpoint
		return nil
	}
	if len(h.epochs) == 0 {
		return fmt.Errorf("%s is missing, no key is known", epochName(0))
	}
	if h.checkpoint, err = openCheckpoint(h.signed, h.current()); err != nil {
		return err
	}
	if begun := h.epochs[len(h.epochs)-1].size; h.size < begun {
		return fmt.Errorf("it covers %d records, but its key came into force at %d: it is not the latest",
			h.size, begun)
	}
	return nil
}

// begin adds the checkpoint of the next epoch.
func (h *head) begin(signed []byte) error {
	c, err := readCheckpoint(signed)
	if err != nil {
		return err
	}
	key, err := newVerifier(c.key)
	if err != nil {
		return err
	}
	keys := []*verifier{key}
	if len(h.epochs) > 0 {
		before := h.epochs[len(h.epochs)-1]
		if c.after != before.key.text || c.size < before.size {
			return errors.New("it does not follow the epoch before")
		}
		keys = []*verifier{before.key, key}
	} else if c.after != "" {
		return errors.New("it is not of a first epoch")
	}
	if c, err = openCheckpoint(signed, keys...); err != nil {
		return err
	}
	h.epochs = append(h.epochs, epoch{c, signed, key})
	return nil
}

// trusts reports whether one of the keys is a key of this log.
func (h *head) trusts(keys []string) bool {
	return slices.ContainsFunc(h.epochs, func(e epoch) bool { return slices.Contains(keys, e.key.text) })
}
