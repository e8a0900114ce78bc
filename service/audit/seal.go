package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// begin creates the folder of a new log.
func (l *Log) begin(ctx context.Context) error {
	entries, err := fs.ReadDir(l.disk, ".")
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("the folder holds %s: a log begins in an empty folder", entries[0].Name())
	}
	signer, err := newSigning(l.cfg.Origin, l.cfg.Signers[0])
	if err != nil {
		return err
	}
	empty := &tree{}
	c := checkpoint{origin: l.cfg.Origin, root: empty.root(), key: signer.text}
	signed, err := signNote(ctx, c.text(), signer)
	if err != nil {
		return err
	}
	return replaceAll(l.disk, namedData{checkpointFile, signed}, namedData{epochName(0), signed})
}

// Checkpoint signs a checkpoint for every record that is durable now, unless there is one.
func (l *Log) Checkpoint(ctx context.Context) error {
	l.sealing.Lock()
	defer l.sealing.Unlock()
	err := l.checkpoint(ctx, nil)
	if err != nil {
		err = fmt.Errorf("seal audit log: %w", err)
		l.signErr.Store(&err)
		return err
	}
	l.signErr.Store(nil)
	return nil
}

// Rotate makes another key the current one: the old and the new key sign a checkpoint that names
// the new one. The caller must have stored the new key before, and must give both to Open as long
// as it cannot know which one the log has.
func (l *Log) Rotate(ctx context.Context, next Signer) error {
	signer, err := newSigning(l.origin, next)
	if err != nil {
		return fmt.Errorf("rotate audit key: %w", err)
	}
	l.sealing.Lock()
	defer l.sealing.Unlock()
	if len(l.head.epochs) >= maxEpochs {
		return fmt.Errorf("rotate audit key: the log has had %d keys: begin another log", maxEpochs)
	}
	for _, e := range l.head.epochs {
		if e.key.text == signer.text {
			return errors.New("rotate audit key: the log has had this key already: generate another")
		}
	}
	if err := l.checkpoint(ctx, &signer); err != nil {
		return fmt.Errorf("rotate audit key: %w", err)
	}
	return nil
}

// checkpoint signs the tree as it is and publishes it, tiles first, so that a checkpoint has
// everything that it needs. With next it begins an epoch.
func (l *Log) checkpoint(ctx context.Context, next *signing) error {
	if err := l.listEpoch(); err != nil {
		return err
	}
	l.mu.Lock()
	c := checkpoint{origin: l.origin, size: l.tree.size, root: l.tree.root()}
	fresh, partial := slices.Clone(l.fresh), l.tree.partial()
	l.mu.Unlock()
	if c.size == l.head.size && next == nil {
		return nil
	}
	keys := []signing{l.signer}
	if next != nil {
		keys = append(keys, *next)
		c.key, c.after = next.text, l.signer.text
	}
	signed, err := signNote(ctx, c.text(), keys...)
	if err != nil {
		return err
	}
	var tiles []namedData
	for _, t := range append(slices.Clone(fresh), partial...) {
		tiles = append(tiles, namedData{tilePath(t.Tile), t.data})
	}
	if err := replaceAll(l.disk, tiles...); err != nil {
		return err
	}
	if err := replaceAll(l.disk, namedData{checkpointFile, signed}); err != nil {
		return err
	}
	old := l.head.size
	l.head.checkpoint, l.head.signed = c, signed
	l.sealed.Store(c.size)
	l.mu.Lock()
	l.fresh = slices.Clone(l.fresh[len(fresh):])
	l.mu.Unlock()
	l.removePartial(old, partial)
	if l.cfg.Checkpointed != nil {
		l.cfg.Checkpointed(signed)
	}
	if next == nil {
		return nil
	}
	l.head.epochs = append(l.head.epochs, epoch{c, signed, next.verifier})
	l.signer, l.head.unlisted = *next, true
	if err := l.listEpoch(); err != nil {
		return fmt.Errorf("the new key is in force, but no checkpoint can be made: %w", err)
	}
	return nil
}

// listEpoch adds the last epoch to the list, unless it is there.
func (l *Log) listEpoch() error {
	if !l.head.unlisted {
		return nil
	}
	n := len(l.head.epochs) - 1
	err := replaceAll(l.disk, namedData{epochName(n), l.head.epochs[n].signed})
	l.head.unlisted = err != nil
	return err
}

// removePartial removes the partial tiles of the previous checkpoint that the latest one does not
// need. One that remains does no harm: what it says is true.
func (l *Log) removePartial(size int64, needed []tile) {
	for level := 0; size>>(tileHeight*level) > 0; level++ {
		n := size >> (tileHeight * level)
		old := newTile(level, n/tileWidth, nil).Tile
		if old.W = int(n % tileWidth); old.W == 0 ||
			slices.ContainsFunc(needed, func(t tile) bool { return t.Tile == old }) {
			continue
		}
		_ = l.disk.remove(tilePath(old))
		if !slices.ContainsFunc(needed, func(t tile) bool { return t.L == old.L && t.N == old.N }) {
			old.W = tileWidth
			_ = l.disk.remove(tilePath(old) + ".p")
		}
	}
}
