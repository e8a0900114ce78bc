// Package witness makes the audit logs of several servers vouch for each other.
//
// What it protects: the end of a log. The signatures of a log prove that nothing in it was changed, but
// not that nothing is missing at its end, or that the whole of it is there. So each server writes its
// log's newest signed checkpoint into the database that all of them share, reads those of the others
// every two seconds, and records in its own log what it has seen of them. A log that is rolled back, cut
// off or gone contradicts the database, the memory of the other servers, and the records in their logs.
// The database alone is the witness of a single server's log.
//
// What it trusts: the token. Checkpoints count when a key that the token has proven to hold has signed
// them. Nobody who can write to the database can forge one, and who deletes or rewinds one is noticed by
// every server that has seen a later one. A checkpoint that is older than the log is no fault: a database
// may be restored.
//
// Only who has a log's folder can tell whether a larger checkpoint of it continues a smaller one. So each
// server proves its own log, every two seconds, against what the others say they have seen of it. A server
// leaves a checkpoint there until the log's server must have read it. Check proves the same of folders.
//
// What it leaves open: a server that lies about its own log, and has the token sign its lies, is found by
// Check only; so is who can show each server another database.
//
// Nothing here is on the path of a request. While the database is away, the witness waits.
package witness

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/audit"
)

// Entry is what the database says of one audit log.
type Entry struct {
	Log     string // the log's first public key, which no other log has; the log's name is in it
	Newest  []byte // its newest signed checkpoint
	Seen    []byte // checkpoints that its server has seen of other logs: JSON of []Seen
	Trouble string // why its server can't go on with it; empty when it can
	Retired []byte // a signed note that the log was retired; empty when it was not
}

// Store keeps the entries.
type Store interface {
	// AuditLogs returns up to limit entries, in the order of Log.
	AuditLogs(ctx context.Context, limit int) ([]Entry, error)
	// ChangeAuditLog changes the entry of a log in one transaction. The entry that change gets is empty
	// when there is none. When change fails, nothing is changed. It may be called several times.
	ChangeAuditLog(ctx context.Context, log string, change func(*Entry) error) error
}

// Limits of what the database may hold.
const (
	maxEntries = 1000 // retired logs, too
	maxTrouble = 500  // bytes
	maxSeen    = 1 << 20
)

// Entries returns what the database has.
func Entries(ctx context.Context, s Store) ([]Entry, error) {
	entries, err := s.AuditLogs(ctx, maxEntries+1)
	if err == nil && len(entries) > maxEntries {
		err = fmt.Errorf("the database has more than %d audit logs", maxEntries)
	}
	return entries, err
}

// Name returns the name of the log with this first key: the audit.origin of its server.
func Name(log string) string {
	name, _, _ := strings.Cut(log, "+")
	return name
}

// Keys are public keys that may sign audit logs.
type Keys []crypto.PublicKey

// Of returns the verifier keys of a log with this name.
func (k Keys) Of(name string) []string {
	var keys []string
	for _, public := range k {
		if key, err := audit.VerifierKey(name, public); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// openCheckpoint returns a checkpoint of a log, if one of the keys has signed it.
func openCheckpoint(log string, signed []byte, keys []string) (audit.Checkpoint, error) {
	c, err := audit.OpenCheckpoint(signed, keys...)
	if err == nil && c.Origin != Name(log) {
		err = fmt.Errorf("it is of %s", c.Origin)
	}
	return c, err
}

// Known returns the entry's checkpoint, and whether one of the keys has signed it.
func (e Entry) Known(keys Keys) (audit.KnownCheckpoint, bool) {
	_, err := openCheckpoint(e.Log, e.Newest, keys.Of(Name(e.Log)))
	return audit.KnownCheckpoint{From: knownInDatabase, Signed: e.Newest}, err == nil
}

// knownInDatabase is the origin of a checkpoint, in findings.
const knownInDatabase = "checkpoint in the database"

// Seen is a checkpoint that a server has seen of another one's log.
type Seen struct {
	Log        string `json:"log"`
	Checkpoint string `json:"checkpoint"`
}

// seenOf returns what the servers of all entries have seen, by the logs that it is of. Nobody has checked
// it.
func seenOf(entries []Entry) witnessed {
	all := witnessed{}
	for _, e := range entries {
		var seen []Seen
		if len(e.Seen) > maxSeen || json.Unmarshal(e.Seen, &seen) != nil {
			continue // its server writes it again
		}
		for _, s := range seen {
			all.add(s, "checkpoint that "+Name(e.Log)+" has seen")
		}
	}
	return all
}

// witnessed are checkpoints that were seen of logs, by the logs' first keys.
type witnessed map[string][]audit.KnownCheckpoint

func (w witnessed) add(s Seen, from string) {
	w[s.Log] = append(w[s.Log], audit.KnownCheckpoint{From: from, Signed: []byte(s.Checkpoint)})
}

// of returns the checkpoints of a log that one of the keys has signed, each once. What is not signed says
// nothing of the log.
func (w witnessed) of(log string, keys []string) []audit.KnownCheckpoint {
	known := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(w[log]), func(k audit.KnownCheckpoint) bool {
		if known[string(k.Signed)] {
			return true
		}
		known[string(k.Signed)] = true
		_, err := openCheckpoint(log, k.Signed, keys)
		return err != nil
	})
}

// retirement is the text of the note that retires a log. Its first line can't be that of a checkpoint.
func retirement(log string, at time.Time) string {
	return fmt.Sprintf("verenc: this audit log is retired\n%s\n%s\n", log, at.UTC().Format(time.RFC3339))
}

// isRetired returns nil if the entry's log was retired by the holder of one of the keys.
func isRetired(e Entry, keys []string) error {
	text, err := audit.OpenNote(e.Retired, keys...)
	if err != nil {
		return err
	}
	lines := strings.Split(text, "\n")
	if len(lines) != 4 {
		return errors.New("it is no note of a retirement")
	}
	at, err := time.Parse(time.RFC3339, lines[2])
	if err != nil || text != retirement(e.Log, at) {
		return errors.New("it is no note of this log's retirement")
	}
	return nil
}

// Retire says that a log was ended on purpose: no server continues it, and its folder may be gone. s
// signs for it.
func Retire(ctx context.Context, store Store, log string, s audit.Signer, at time.Time) error {
	note, err := audit.SignNote(ctx, Name(log), s, retirement(log, at))
	if err != nil {
		return fmt.Errorf("retire audit log %s: %w", Name(log), err)
	}
	return store.ChangeAuditLog(ctx, log, func(e *Entry) error {
		e.Retired, e.Trouble = note, ""
		return nil
	})
}

// InUse returns the entries of logs that have this name or this first key and are not retired.
func InUse(ctx context.Context, store Store, name string) ([]Entry, error) {
	entries, err := Entries(ctx, store)
	var found []Entry
	for _, e := range entries {
		if (Name(e.Log) == name || e.Log == name) && len(e.Retired) == 0 {
			found = append(found, e)
		}
	}
	return found, err
}

// Free returns nil if a new log may have this name.
func Free(ctx context.Context, store Store, name string) error {
	entries, err := Entries(ctx, store)
	for _, e := range entries {
		if Name(e.Log) == name {
			return fmt.Errorf("there is, or was, an audit log with the name %s: choose another audit.origin for a new log, "+
				"and verenc audit retire %s if the old one is gone", name, name)
		}
	}
	return err
}

// Report tells the others that the server of the log with this name can't open it.
func Report(ctx context.Context, store Store, name, trouble string) error {
	entries, err := InUse(ctx, store, name)
	for _, e := range entries {
		if e.Trouble == "" {
			err = errors.Join(err, setTrouble(ctx, store, e.Log, trouble))
		}
	}
	return err
}

func setTrouble(ctx context.Context, store Store, log, trouble string) error {
	if len(trouble) > maxTrouble {
		trouble = strings.ToValidUTF8(trouble[:maxTrouble], "")
	}
	return store.ChangeAuditLog(ctx, log, func(e *Entry) error {
		e.Trouble = trouble
		return nil
	})
}
