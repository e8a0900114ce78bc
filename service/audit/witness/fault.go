package witness

import (
	"fmt"

	"github.com/verenc/kms/service/audit"
)

// Kind is what is wrong with a log.
type Kind string

// The kinds of faults.
const (
	Missing     Kind = "missing"     // it is gone: its folder, or its entry in the database
	Forged      Kind = "forged"      // its entry is not signed by the token
	SetBack     Kind = "set back"    // its checkpoint in the database is older than one that was seen
	Contradicts Kind = "contradicts" // two checkpoints of one size have different roots
	Broken      Kind = "broken"      // its server, or its verification, finds that it is not as it was written
	StillUsed   Kind = "still used"  // it was retired, and has a server
)

// Fault is one thing that is wrong with a log, and what to do.
type Fault struct {
	Log     string // its name
	Kind    Kind
	Problem string
	Cure    string
}

func (f Fault) String() string { return fmt.Sprintf("%s: %s", f.Problem, f.Cure) }

const (
	cureLog = "keep the folder as evidence, restore the newest copy of it, or set it aside with verenc audit quarantine; " +
		"if it was given up on purpose, verenc audit retire NAME"
	cureEntry = "somebody has changed the database: find out who can write to it; the servers write the entry again"
)

// judge compares an entry with the newest checkpoint that was seen of the log, if any. It returns the
// entry's checkpoint if it counts, and what is wrong.
func judge(e Entry, seen *audit.Checkpoint, keys []string) (c *audit.Checkpoint, f *Fault) {
	fault := func(kind Kind, cure, format string, args ...any) *Fault {
		return &Fault{Name(e.Log), kind, fmt.Sprintf(format, args...), cure}
	}
	if len(e.Retired) > 0 {
		err := isRetired(e, keys)
		if err == nil {
			return nil, nil
		}
		f = fault(Forged, cureEntry, "its retirement in the database does not count: %v", err)
	}
	now, err := openCheckpoint(e.Log, e.Newest, keys)
	switch {
	case err != nil:
		return nil, fault(Forged, cureEntry, "its checkpoint in the database does not count: %v", err)
	case f != nil:
	case seen != nil && now.Size < seen.Size:
		f = fault(SetBack, cureEntry, "its checkpoint in the database covers %d records, one that was seen before covers %d",
			now.Size, seen.Size)
	case seen != nil && now.Size == seen.Size && now.Root != seen.Root:
		f = fault(Contradicts, cureLog, "it has two checkpoints of %d records, with different roots", now.Size)
	case e.Trouble != "":
		f = fault(Broken, cureLog, "its server says: %q", e.Trouble[:min(len(e.Trouble), maxTrouble)])
	}
	return &now, f
}

func gone(log string) *Fault {
	return &Fault{Name(log), Missing, "its entry in the database is gone", cureEntry}
}
