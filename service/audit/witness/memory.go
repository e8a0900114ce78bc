package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/audit"
)

// Names of the events that a witness records.
const (
	SeenEvent  = "WitnessAuditLogs" // the newest checkpoints that were seen of the other logs
	FaultEvent = "AuditLogFault"
)

// eventType is the type of these events, which no request has: record.Recorder.ServerEvent gives it to
// them.
const eventType = "VerencServerEvent"

// When a record of what was seen is due.
const (
	recordEvery = time.Minute // at most
	// worthRecording is how many records another log must have more than in the last record. With one, the records
	// that the servers make of each other would go on for ever.
	worthRecording = 2
	// recordWithin is the largest number of records of the server's own log without one: a server that starts finds
	// the last one near the end.
	recordWithin = 50_000
	// logsOfRecord keeps a record within its limit of 40 KiB: a checkpoint has 2 KiB at most, with the longest name.
	logsOfRecord = 16
	// filesRead are the files of records in which a server that starts looks for the last one.
	filesRead = 4
)

// recorded is what the last record says, of logs by their first keys.
type recorded struct {
	sizes map[string]int64
	own   int64 // records in the server's own log then
	at    time.Time
}

// vouched is the checkpoint of another log that the database has as seen by this server.
type vouched struct {
	audit.Checkpoint
	newest []byte // the newest one of the log, in the last round
	moves  int    // how often that has changed since
}

// vouch chooses the checkpoint of another log that the database shows as seen by this server. It keeps the
// present one until the log's server has certainly read it, and then takes the newest. A server reads the
// entries before it publishes its own, and what it publishes first may come from a read before the present
// one was written. So three changes must be seen.
func (w *Witness) vouch(log string, now audit.Checkpoint) {
	v, is := w.vouched[log]
	if is && v.newest != nil && !bytes.Equal(v.newest, now.Signed) {
		v.moves++
	}
	if w.hold {
		v.moves = 0
	}
	if v.newest = now.Signed; !is || v.moves == 3 {
		v = vouched{Checkpoint: now, newest: now.Signed}
	}
	w.vouched[log] = v
}

// vouchedFor is what the database should have as seen by this server.
func (w *Witness) vouchedFor() []byte {
	seen := []Seen{}
	for _, log := range slices.Sorted(maps.Keys(w.vouched)) {
		seen = append(seen, Seen{log, string(w.vouched[log].Signed)})
	}
	text, _ := json.Marshal(seen) // which has no error
	return text
}

// record puts what was seen into the server's own log, when it is due.
func (w *Witness) record(ctx context.Context, last bool) error {
	due := w.seen[w.log].Size-w.recorded.own >= recordWithin
	var all []Seen
	for _, log := range w.others() {
		c := w.seen[log]
		before, known := w.recorded.sizes[log]
		due = due || c.Size >= before+worthRecording || !known && c.Size > 0
		all = append(all, Seen{log, string(c.Signed)})
	}
	now := w.cfg.Now()
	if !due || len(all) == 0 || !last && now.Sub(w.recorded.at) < recordEvery {
		return nil
	}
	next := recorded{map[string]int64{}, w.seen[w.log].Size, now}
	for len(all) > 0 {
		some := all[:min(len(all), logsOfRecord)]
		all = all[len(some):]
		if err := w.cfg.Record(ctx, SeenEvent, audit.Object{{Name: "checkpoints", Value: some}}); err != nil {
			return err
		}
		for _, s := range some {
			next.sizes[s.Log] = w.seen[s.Log].Size
		}
	}
	w.recorded = next
	return nil
}

// readSeen returns what a record of SeenEvent says; nothing for any other record.
func readSeen(text []byte) []Seen {
	if !bytes.Contains(text, []byte(`"`+SeenEvent+`"`)) {
		return nil
	}
	var r struct {
		EventName, EventType string
		AdditionalEventData  struct {
			Checkpoints []Seen
		}
	}
	if json.Unmarshal(text, &r) != nil || r.EventName != SeenEvent || r.EventType != eventType {
		return nil
	}
	return r.AdditionalEventData.Checkpoints
}

var errEnough = errors.New("enough was read")

// remember takes what the server saw before it was started last from its own log.
func (w *Witness) remember(ctx context.Context) {
	files, before, found := 0, int64(-1), false
	w.recorded.sizes = map[string]int64{}
	err := audit.ReadBackward(w.cfg.Folder, func(index int64, text []byte) error {
		if index < before || before < 0 {
			files++
		}
		if before = index; files > filesRead || found && index < w.recorded.own || ctx.Err() != nil {
			return errEnough
		}
		for _, s := range readSeen(text) {
			c, err := openCheckpoint(s.Log, []byte(s.Checkpoint), w.keys.Of(Name(s.Log)))
			if err != nil || s.Log == w.log {
				continue
			}
			found, w.recorded.own, w.recorded.sizes[s.Log] = true, index, c.Size
			if c.Size >= w.seen[s.Log].Size {
				w.seen[s.Log] = c
				w.vouched[s.Log] = vouched{Checkpoint: c}
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) && !errors.Is(err, fs.ErrNotExist) {
		w.cfg.Log.Error("read what this server saw of other audit logs", zap.Error(err))
	}
}
