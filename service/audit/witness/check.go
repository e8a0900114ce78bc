package witness

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/verenc/kms/service/audit"
)

// Folder is the folder of a log, or a copy of it.
type Folder struct {
	Path string
	FS   fs.FS
}

// Evidence is what Check compares.
type Evidence struct {
	Folders []Folder
	// Entries are those of the database, if it was asked. They must be read before the folders are, since
	// the logs may be in use.
	Entries []Entry
	Asked   bool
	// Keys returns the trusted keys of the log with this name.
	Keys func(name string) []string
}

// Verdict is what Check found of one log.
type Verdict struct {
	Log    string // its name; empty if its folder does not tell
	Path   string // of its folder; empty if there is none
	Report audit.Report
	Holds  []string // what was checked and is as it should be
	Faults []Fault
}

// Check verifies several logs, each by itself, against the database, and against what the servers of the
// other logs have recorded of it. The error says that something could not be read, and not that it is
// wrong.
func Check(e Evidence) ([]Verdict, error) {
	seen, err := readWitnessed(e)
	if err != nil {
		return nil, err
	}
	entries := map[string]Entry{}
	for _, entry := range e.Entries {
		entries[entry.Log] = entry
	}
	checked := map[string]bool{}
	var verdicts []Verdict
	for _, folder := range e.Folders {
		log, v, err := e.checkFolder(folder, entries, seen)
		if err != nil {
			return verdicts, fmt.Errorf("%s: %w", folder.Path, err)
		}
		if checked[log] && log != "" {
			v.fault(Contradicts, "give each log once", "its log is that of another folder, too")
		}
		checked[log] = true
		verdicts = append(verdicts, v)
	}
	for _, entry := range e.Entries {
		if !checked[entry.Log] {
			checked[entry.Log] = true
			verdicts = append(verdicts, e.checkAbsent(entry))
		}
	}
	for _, log := range slices.Sorted(maps.Keys(seen)) {
		if of := seen.of(log, e.Keys(Name(log))); !checked[log] && len(of) > 0 {
			v := Verdict{Log: Name(log)}
			v.fault(Missing, "give the log's folder, too; if it is lost, keep the others' folders as evidence",
				"there is a %s, but no folder of it", of[0].From)
			verdicts = append(verdicts, v)
		}
	}
	return verdicts, nil
}

func (v *Verdict) fault(kind Kind, cure, format string, args ...any) {
	v.Faults = append(v.Faults, Fault{v.Log, kind, fmt.Sprintf(format, args...), cure})
}

// readWitnessed reads what the folders' servers have recorded of other logs, and what the database says
// that servers have seen.
func readWitnessed(e Evidence) (witnessed, error) {
	all, known := seenOf(e.Entries), map[Seen]bool{}
	for _, folder := range e.Folders {
		err := audit.Read(folder.FS, func(_ int64, text []byte) error {
			for _, s := range readSeen(text) {
				if !known[s] {
					known[s] = true
					all.add(s, "checkpoint that "+folder.Path+" has witnessed")
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s: %w", folder.Path, err)
		}
	}
	return all, nil
}

const cureCopy = "if the folder is a copy, copy it again, since the log goes on; else restore the newest copy of it, " +
	"or set it aside with verenc audit quarantine"

// checkFolder returns the first key of the folder's log, and the verdict on it.
func (e Evidence) checkFolder(f Folder, entries map[string]Entry, seen witnessed) (log string, v Verdict, err error) {
	v.Path = f.Path
	own, latest, err := audit.Latest(f.FS)
	if isBroken(err) {
		v.fault(Broken, cureLog, "%v", err)
		return "", v, nil
	}
	if err != nil {
		return "", v, err
	}
	log, v.Log = own[0], latest.Origin
	trusted := e.Keys(v.Log)
	keys := slices.Clone(trusted)
	if slices.ContainsFunc(own, func(key string) bool { return slices.Contains(trusted, key) }) {
		keys = append(keys, own...) // each has signed for the next one
	}
	slices.Sort(keys)
	keys = slices.Compact(keys) // a note's verifiers must be different
	if len(trusted) == 0 {
		v.fault(Forged, "give a key of it with --key", "there is no trusted key of this log")
		return log, v, nil
	}
	known := seen.of(log, keys)
	if n := len(known); n > 0 {
		v.Holds = append(v.Holds, fmt.Sprintf("it continues %d checkpoints that servers of other logs have seen", n))
	}
	if entry, there := entries[log]; there {
		c, fault := fromDatabase(entry, keys)
		if fault != nil {
			v.Faults = append(v.Faults, *fault)
		}
		if c != nil {
			known = slices.Insert(known, 0, audit.KnownCheckpoint{From: knownInDatabase, Signed: c.Signed})
			v.Holds = append(v.Holds, fmt.Sprintf("it continues the database's checkpoint of %d records", c.Size))
		}
	} else if e.Asked && latest.Size > 0 {
		v.fault(Missing, "its server writes it when it is started; after that, only somebody who can write to the database removes it",
			"the database has no checkpoint of it")
	}
	v.Report, err = audit.Verify(f.FS, audit.VerifyConfig{Keys: trusted, Known: known})
	if errors.Is(err, audit.ErrTampered) {
		v.Holds = nil
		for _, finding := range v.Report.Findings {
			v.fault(Broken, cureCopy, "%s", finding)
		}
		err = nil
	} else if err == nil {
		v.Holds = slices.Insert(v.Holds, 0, fmt.Sprintf("its %d records are as they were written, %d of them sealed by the last checkpoint",
			v.Report.Records, v.Report.Sealed))
	}
	return log, v, err
}

// fromDatabase returns the entry's checkpoint if it counts, that of a retired log, too.
func fromDatabase(e Entry, keys []string) (*audit.Checkpoint, *Fault) {
	c, fault := judge(e, nil, keys)
	if c == nil && fault == nil {
		e.Retired = nil
		return judge(e, nil, keys)
	}
	return c, fault
}

// checkAbsent returns the verdict on a log of the database whose folder was not given.
func (e Evidence) checkAbsent(entry Entry) Verdict {
	v := Verdict{Log: Name(entry.Log)}
	c, fault := judge(entry, nil, e.Keys(v.Log))
	switch {
	case fault != nil:
		v.Faults = append(v.Faults, *fault)
	case c == nil:
		v.Holds = append(v.Holds, "it was retired")
		return v
	}
	records := "records"
	if c != nil {
		records = fmt.Sprintf("%d records", c.Size)
	}
	v.fault(Missing, "give its folder, too; if it was given up on purpose, verenc audit retire "+v.Log,
		"the database has a checkpoint of %s, but there is no folder of it", records)
	return v
}
