package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrIntact is wrapped by Quarantine's error for a log that is not damaged.
var ErrIntact = errors.New("the audit log is as it was written")

// QuarantineConfig says which log to set aside, and what follows it. All members are required.
type QuarantineConfig struct {
	// Log is as for Open with Create; its folder is that of both logs. The first of its signers
	// should be a key that the old log has not used, so that a checkpoint of one log cannot be
	// mistaken for one of the other.
	Log Config
	// Keys are verifier keys of the old log, and Known are checkpoints of it: see VerifyConfig.
	Keys  []string
	Known []KnownCheckpoint
	Now   time.Time // names the folder to which the old log moves
	// First returns the first record of the new log.
	First func(*Quarantined) (*Record, error)
}

// Quarantined is what is known about a log that was set aside.
type Quarantined struct {
	Dir    string // where it is now
	Report Report // its Checkpoint is the last one that a key of the log has signed, empty when that can't be read
	Cause  error  // what Verify returned
}

// Unproven says what can no longer be proven of the log and why, in one sentence each.
func (q *Quarantined) Unproven() []string {
	r := &q.Report
	all := []string{"no checkpoint can be verified: a record is proven only by a checkpoint of earlier times, kept elsewhere, that covers it"}
	switch {
	case len(r.Checkpoint) > 0 && r.Sealed > 0:
		all[0] = fmt.Sprintf(
			"the last checkpoint covers records 0 to %d: of these, a record is proven that audit prove has a proof for",
			r.Sealed-1)
	case len(r.Checkpoint) > 0:
		all[0] = "the last checkpoint covers no record"
	}
	if r.Unsealed > 0 {
		all = append(all,
			fmt.Sprintf("records %d to %d are covered by no checkpoint: nobody has signed that they were written",
				r.Sealed, r.Records-1))
	}
	for _, f := range r.Findings {
		all = append(all, f.String())
	}
	if r.More > 0 {
		all = append(all, fmt.Sprintf("and %d more findings", r.More))
	}
	if len(r.Findings) == 0 {
		all = append(all, q.Cause.Error())
	}
	return all
}

const (
	asideSuffix = ".quarantine-" // then the time
	nextSuffix  = ".next"
	asideTime   = "20060102T150405.000000000Z" // in order of names
)

// Quarantine sets a damaged log aside, complete and unchanged, and begins a new one in its folder.
// It refuses a log in which Verify finds nothing wrong, and one that another process is writing.
// The new log is made beside the old one and takes its place last, so that calling Quarantine again
// finishes an interrupted one.
func Quarantine(ctx context.Context, cfg QuarantineConfig) (*Quarantined, error) {
	dir := filepath.Clean(cfg.Log.Dir)
	q, err := quarantine(ctx, cfg, dir)
	if err != nil {
		return nil, fmt.Errorf("quarantine audit log %s: %w", dir, err)
	}
	return q, nil
}

func quarantine(ctx context.Context, cfg QuarantineConfig, dir string) (q *Quarantined, err error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return finish(cfg, dir)
	}
	old, err := openDisk(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	q = &Quarantined{Dir: dir + asideSuffix + cfg.Now.UTC().Format(asideTime)}
	q.Report, q.Cause = Verify(old, VerifyConfig{Keys: cfg.Keys, Known: cfg.Known})
	if q.Cause == nil {
		return nil, ErrIntact
	}
	if errors.Is(q.Cause, fs.ErrPermission) {
		return nil, q.Cause
	}
	if err := os.RemoveAll(dir + nextSuffix); err != nil { // left by an interrupted Quarantine
		return nil, err
	}
	cfg.Log.Dir, cfg.Log.Create = dir+nextSuffix, true
	first, err := cfg.First(q)
	if err != nil {
		return nil, err
	}
	log, err := Open(ctx, cfg.Log)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(log.Append(ctx, first), log.Close(ctx)); err != nil {
		return nil, err
	}
	if err := os.Rename(dir, q.Dir); err != nil {
		return nil, err
	}
	return q, takePlace(dir)
}

// finish continues where the old log is set aside and the new one is made.
func finish(cfg QuarantineConfig, dir string) (*Quarantined, error) {
	aside, err := filepath.Glob(dir + asideSuffix + "*")
	if err != nil || len(aside) == 0 {
		return nil, errors.Join(err, fs.ErrNotExist)
	}
	q := &Quarantined{Dir: aside[len(aside)-1]}
	q.Report, q.Cause = Verify(os.DirFS(q.Dir), VerifyConfig{Keys: cfg.Keys, Known: cfg.Known})
	return q, takePlace(dir)
}

func takePlace(dir string) error {
	if err := os.Rename(dir+nextSuffix, dir); err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}
