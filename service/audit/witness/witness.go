package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/audit"
)

const (
	defaultInterval = 2 * time.Second
	roundTimeout    = 10 * time.Second // of what one round asks of the database and the token
)

// Config is what a Witness is made of. Everything but Interval is required.
type Config struct {
	Folder fs.FS // of the server's own log, which is being written
	Store  Store
	// Keys returns the public keys that sign the servers' logs. The token must have proven that it has
	// their private keys: the database, which lists them, is not trusted.
	Keys func(context.Context) (Keys, error)
	// Record puts an event into the server's own log.
	Record   func(ctx context.Context, name string, data audit.Object) error
	Now      func() time.Time
	Log      *zap.Logger
	Interval time.Duration // between two rounds; default 2 s
}

// Witness publishes the newest checkpoint of a server's log, and watches those of the others.
type Witness struct {
	cfg     Config
	faults  atomic.Int64
	waiting atomic.Bool // the last round failed

	// Owned by the caller of Start, then of Run, then of Publish.
	log      string // the first key of the server's own log
	keys     Keys
	renewed  bool                        // keys, in this round
	seen     map[string]audit.Checkpoint // the newest of each log in use, by its first key
	vouched  map[string]vouched          // what the database says that this server has seen, likewise
	stated   []byte                      // vouched, as it was written into the database; nil before
	hold     bool                        // the logs' servers may not have read it
	watching bool                        // Run has begun to examine the other logs
	raised   map[string]Kind             // faults that were raised, and are still there
	unproven bool                        // the keys that were asked for last
	recorded recorded
}

// New returns a Witness. Start must be called first.
func New(cfg Config) *Witness {
	if cfg.Interval == 0 {
		cfg.Interval = defaultInterval
	}
	return &Witness{cfg: cfg, seen: map[string]audit.Checkpoint{}, vouched: map[string]vouched{},
		raised: map[string]Kind{}}
}

// Faults returns how many faults were noticed since the start.
func (w *Witness) Faults() int64 { return w.faults.Load() }

// Waiting reports whether the database or the token keep the witness from its work.
func (w *Witness) Waiting() bool { return w.waiting.Load() }

// Start compares the server's own log with the database, and publishes its newest checkpoint. It fails
// if the log is older than the database's checkpoint, contradicts it, was retired, or if another log has
// its name.
func (w *Witness) Start(ctx context.Context) error {
	entries, err := w.entries(ctx)
	if err != nil {
		return fmt.Errorf("read what the database says of audit logs: %w", err)
	}
	own, _, err := audit.Latest(w.cfg.Folder)
	if err != nil {
		return err
	}
	w.log = own[0]
	for _, e := range entries {
		retired := w.isRetired(e)
		switch {
		case e.Log == w.log && retired:
			return fmt.Errorf("audit log %s was retired: begin another with verenc audit init, with another audit.origin "+
				"and another audit.dir", Name(w.log))
		case e.Log != w.log && Name(e.Log) == Name(w.log) && !retired:
			return fmt.Errorf("another audit log has the name %s, too: give this server an audit.origin and an audit.dir of its own, "+
				"and run verenc audit init; if the other log is given up, run verenc audit retire %s",
				Name(w.log), e.Log)
		}
	}
	if err = w.publish(ctx, entries); errors.Is(err, audit.ErrTampered) {
		err = fmt.Errorf("audit log %s: %w (is the folder an older copy? restore the newest one, or set this one aside "+
			"with verenc audit quarantine; has another server a log of the same name? give this one an audit.origin and "+
			"an audit.dir of its own, and run verenc audit init)", Name(w.log), err)
	}
	return err
}

// Publish publishes the newest checkpoint of the log, which may be closed.
func (w *Witness) Publish(ctx context.Context) error {
	entries, err := w.entries(ctx)
	if err != nil {
		return err
	}
	return w.publish(ctx, entries)
}

// Run works until ctx ends, and once more then.
func (w *Witness) Run(ctx context.Context) {
	w.remember(ctx)
	tick := time.NewTicker(w.cfg.Interval)
	defer tick.Stop()
	for ending := false; !ending; {
		ending = ctx.Err() != nil
		round, cancel := context.WithTimeout(context.WithoutCancel(ctx), roundTimeout)
		w.round(round, ending)
		cancel()
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// round does all that is due, once. What fails is tried again.
func (w *Witness) round(ctx context.Context, last bool) {
	w.renewed = false
	entries, err := w.entries(ctx)
	if err == nil {
		w.examine(ctx, entries)
		err = w.publish(ctx, entries)
		if isBroken(err) {
			w.raise(ctx, w.log, &Fault{Name(w.log), Broken, err.Error(), cureLog})
			err = nil
		}
		err = errors.Join(err, w.record(ctx, last))
	}
	if waited := w.waiting.Swap(err != nil); err != nil && !waited {
		w.cfg.Log.Warn("the witness of the audit logs waits; it goes on by itself", zap.Error(err))
	}
}

func (w *Witness) entries(ctx context.Context) ([]Entry, error) {
	if w.keys == nil {
		if err := w.renewKeys(ctx); err != nil {
			return nil, err
		}
	}
	entries, err := Entries(ctx, w.cfg.Store)
	for _, e := range entries {
		// A key that is not known may have been made meanwhile.
		_, counts := e.Known(w.keys)
		if counts && (len(e.Retired) == 0 || w.isRetired(e)) || w.renewed {
			continue
		}
		// Who writes to the database must not silence the witness with a key that can't be proven.
		err := w.renewKeys(ctx)
		if err != nil && !w.unproven {
			w.cfg.Log.Error("what a new key of audit logs signs does not count", zap.Error(err))
		}
		w.unproven = err != nil
	}
	return entries, err
}

func (w *Witness) renewKeys(ctx context.Context) (err error) {
	w.renewed = true
	keys, err := w.cfg.Keys(ctx)
	if err == nil {
		w.keys = keys
	}
	return err
}

// examine compares the entries with what was seen, and raises what is wrong.
func (w *Witness) examine(ctx context.Context, entries []Entry) {
	w.watching = true
	found := map[string]*Fault{}
	for log := range w.seen {
		found[log] = gone(log)
	}
	mine := w.own(entries)
	changed := w.stated != nil && !bytes.Equal(mine.Seen, w.stated)
	w.hold = w.waiting.Load() || changed
	for _, e := range entries {
		var seen *audit.Checkpoint
		if c, ok := w.seen[e.Log]; ok {
			seen = &c
		}
		own := e.Log == w.log
		if own {
			e.Trouble = "" // publish knows better
		}
		now, fault := judge(e, seen, w.keys.Of(Name(e.Log)))
		switch {
		case now == nil && fault == nil: // retired
			delete(w.seen, e.Log)
			delete(w.vouched, e.Log)
			if own {
				fault = &Fault{Name(e.Log), StillUsed, "it was retired, but this server writes it",
					"begin another log with verenc audit init"}
			}
		case !own && now != nil && (seen == nil || now.Size > seen.Size || now.Root == seen.Root):
			w.seen[e.Log] = *now
			w.vouch(e.Log, *now)
		}
		if own && fault == nil && changed {
			fault = &Fault{Name(e.Log), SetBack,
				"what this server has seen of other logs is not in the database any more", cureEntry}
		}
		found[e.Log] = fault
	}
	for log, fault := range found {
		if fault != nil || log != w.log { // the end of a fault of its own log is for publish to say
			w.raise(ctx, log, fault)
		}
		if fault != nil && log != w.log {
			w.restore(ctx, log)
		}
	}
}

// raise makes a fault known, once for as long as it lasts. A nil fault is the end of one.
func (w *Witness) raise(ctx context.Context, log string, f *Fault) {
	if f == nil {
		if kind, is := w.raised[log]; is {
			w.cfg.Log.Info("a fault of an audit log is over", zap.String("audit_log", Name(log)),
				zap.String("fault", string(kind)))
		}
		delete(w.raised, log)
		return
	}
	if w.raised[log] == f.Kind {
		return
	}
	w.raised[log] = f.Kind
	w.faults.Add(1)
	w.cfg.Log.Error("an audit log is not what it was", zap.String("audit_log", f.Log),
		zap.String("fault", string(f.Kind)), zap.String("problem", f.Problem), zap.String("advice", f.Cure))
	data := audit.Object{{Name: "auditLog", Value: log}, {Name: "fault", Value: f.Kind},
		{Name: "problem", Value: f.Problem}, {Name: "checkpoint", Value: string(w.seen[log].Signed)}}
	if err := w.cfg.Record(ctx, FaultEvent, data); err != nil {
		w.cfg.Log.Error("record a fault of an audit log", zap.Error(err))
	}
}

// restore puts the newest checkpoint that was seen back into the database, if it has none that is as new.
func (w *Witness) restore(ctx context.Context, log string) {
	seen, known := w.seen[log]
	if !known {
		return
	}
	err := w.cfg.Store.ChangeAuditLog(ctx, log, func(e *Entry) error {
		keys := w.keys.Of(Name(log))
		now, err := openCheckpoint(log, e.Newest, keys)
		there := err == nil && now.Size >= seen.Size
		if there && len(e.Retired) == 0 || isRetired(*e, keys) == nil {
			return errNothing
		}
		if e.Retired = nil; !there {
			e.Newest = seen.Signed
		}
		return nil
	})
	if err != nil && !errors.Is(err, errNothing) {
		w.cfg.Log.Warn("put a checkpoint back into the database; it is tried again", zap.Error(err))
	}
}

var (
	errNothing = errors.New("there is nothing to change")
	errMoved   = errors.New("another process changes the entry of this server's audit log")
)

// publish writes the newest checkpoint of the server's own log into the database. It first proves that
// the log continues what was published of it, and what the database has.
func (w *Witness) publish(ctx context.Context, entries []Entry) error {
	e := w.own(entries)
	if w.isRetired(e) {
		return nil // examine has raised it
	}
	var earlier []audit.KnownCheckpoint
	if seen, ok := w.seen[w.log]; ok {
		earlier = append(earlier,
			audit.KnownCheckpoint{From: "checkpoint that was published last", Signed: seen.Signed})
	}
	if known, counts := e.Known(w.keys); counts {
		earlier = append(earlier, known)
	}
	earlier = append(earlier, seenOf(entries).of(w.log, w.keys.Of(Name(w.log)))...)
	keys, latest, err := audit.Latest(w.cfg.Folder, earlier...)
	if err == nil && keys[0] != w.log {
		err = fmt.Errorf("%w: there is another log in its folder", audit.ErrTampered)
	}
	if isBroken(err) && e.Trouble == "" {
		err = errors.Join(err, setTrouble(ctx, w.cfg.Store, w.log, err.Error()))
	}
	if err != nil {
		return err
	}
	w.raise(ctx, w.log, nil)
	seen := e.Seen
	if w.watching {
		seen = w.vouchedFor()
	}
	if e.Trouble != "" {
		w.cfg.Log.Warn("a server could not open the audit log of this server's name, and this one can: "+
			"give each an audit.origin of its own", zap.String("audit_log", Name(w.log)),
			zap.String("trouble", e.Trouble))
	}
	if !bytes.Equal(e.Newest, latest.Signed) || !bytes.Equal(e.Seen, seen) || e.Trouble != "" || len(e.Retired) > 0 {
		err := w.cfg.Store.ChangeAuditLog(ctx, w.log, func(now *Entry) error {
			if !bytes.Equal(now.Newest, e.Newest) {
				return errMoved
			}
			*now = Entry{Log: w.log, Newest: latest.Signed, Seen: seen}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if w.seen[w.log] = latest; w.watching {
		w.stated = seen
	}
	return nil
}

// own returns the entry of the server's own log, or an empty one.
func (w *Witness) own(entries []Entry) Entry {
	if i := slices.IndexFunc(entries, func(e Entry) bool { return e.Log == w.log }); i >= 0 {
		return entries[i]
	}
	return Entry{Log: w.log}
}

func (w *Witness) isRetired(e Entry) bool { return isRetired(e, w.keys.Of(Name(e.Log))) == nil }

// isBroken reports whether an error of publish is about the log, and not about the database.
func isBroken(err error) bool {
	return errors.Is(err, audit.ErrTampered) || errors.Is(err, fs.ErrNotExist)
}

// others are the logs of other servers that were seen, in order.
func (w *Witness) others() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.seen)), func(log string) bool { return log == w.log })
}
