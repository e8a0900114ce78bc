package witness

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/verenc/kms/service/audit"
)

// TestHonestServers: nothing is raised, and records of what was seen end when nothing happens.
func TestHonestServers(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.server(t, "a"), w.server(t, "b"), w.server(t, "c")
	for round := range 12 {
		for _, s := range []*server{a, b, c} {
			if round < 4 {
				s.serve(t, round)
			}
			want(t, s.name, s.look(t))
		}
	}
	before := a.log.Stats().Records + b.log.Stats().Records + c.log.Stats().Records
	for range 4 {
		for _, s := range []*server{a, b, c} {
			want(t, s.name, s.look(t))
		}
	}
	if after := a.log.Stats().Records + b.log.Stats().Records + c.log.Stats().Records; after != before {
		t.Errorf("%d records are made while nothing happens", after-before)
	}
	if n := a.events(t, SeenEvent); n < 2 || a.Faults() != 0 {
		t.Errorf("%d records of what was seen, %d faults", n, a.Faults())
	}
	// A server that starts again, and one whose database was restored, go on.
	earlier := w.db.entries[b.Witness.log]
	b.serve(t, 3)
	want(t, "b", b.look(t))
	b.end(t)
	must(t, b.Publish(ctx))
	want(t, "a", a.look(t))
	b = w.server(t, "b")
	want(t, "b", b.look(t))
	w.db.entries[b.Witness.log] = earlier
	want(t, "b, with an older database", b.look(t), "b set back")
	want(t, "b, a round later", b.look(t))
	want(t, "a", a.look(t))
}

// TestRestart: what a server has seen, it knows after a restart, from its own log.
func TestRestart(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	earlier := w.db.entries[b.Witness.log]
	b.serve(t, 3)
	want(t, "b", b.look(t))
	want(t, "a", a.look(t))
	a.end(t)
	b.end(t)
	w.db.entries[b.Witness.log] = earlier
	a = w.server(t, "a")
	want(t, "a", a.look(t), "b set back")
	if n := a.events(t, FaultEvent); n != 1 {
		t.Errorf("%d records of the fault", n)
	}
	want(t, "once", a.look(t))
	// a has put the newest checkpoint back.
	must(t, w.server(t, "b").Start(ctx))
}

// TestOthersNotice has one log go wrong in each way.
func TestOthersNotice(t *testing.T) {
	for _, test := range []struct {
		name string
		// wrong does it to the log of b; back puts an earlier state in its place
		wrong func(t *testing.T, w *world, b *server, back func())
		want  string
	}{
		{"set back", func(t *testing.T, w *world, b *server, back func()) {
			b.end(t)
			back()
			wantText(t, w.open(t, "b").Start(ctx), "its latest checkpoint covers 2 records, but the checkpoint in the database covers")
		}, "b broken"},
		{"set back and grown", func(t *testing.T, w *world, b *server, back func()) {
			b.end(t)
			back()
			again := w.open(t, "b")
			again.serve(t, 20)
			wantText(t, again.Start(ctx), "records are not those that the checkpoint in the database covers")
		}, "b broken"},
		{"set back while its server runs", func(t *testing.T, _ *world, b *server, back func()) {
			back()
			b.lost = true
			want(t, "b", b.look(t), "b broken")
			want(t, "b, once", b.look(t))
		}, "b broken"},
		{"deleted while its server runs", func(t *testing.T, w *world, b *server, _ func()) {
			must(t, os.RemoveAll(w.path("b")))
			b.lost = true
			b.round(ctx, false)
		}, "b broken"},
		{"deleted", func(t *testing.T, w *world, b *server, _ func()) {
			b.end(t)
			must(t, os.RemoveAll(w.path("b")))
			must(t, Report(ctx, w.db, "b", "it is gone"))
		}, "b broken"},
		{"deleted entry", func(t *testing.T, w *world, b *server, _ func()) {
			delete(w.db.entries, b.Witness.log)
		}, "b missing"},
		{"forged entry", func(t *testing.T, w *world, b *server, _ func()) {
			e := w.db.entries[b.Witness.log]
			e.Newest = []byte(strings.Replace(string(e.Newest), "\n5\n", "\n50\n", 1))
			w.db.entries[b.Witness.log] = e
		}, "b forged"},
		{"another log's checkpoint", func(t *testing.T, w *world, b *server, _ func()) {
			e := w.db.entries[b.Witness.log]
			for log, other := range w.db.entries {
				if Name(log) == "a" {
					e.Newest = other.Newest
				}
			}
			w.db.entries[b.Witness.log] = e
		}, "b forged"},
		{"forged retirement", func(t *testing.T, w *world, b *server, _ func()) {
			must(t, Retire(ctx, w.db, b.Witness.log, newSigner(t), t0))
		}, "b forged"},
		{"retirement of another log", func(t *testing.T, w *world, b *server, _ func()) {
			must(t, Retire(ctx, w.db, "b+other", w.token[0], t0))
			e := w.db.entries[b.Witness.log]
			e.Retired = w.db.entries["b+other"].Retired
			delete(w.db.entries, "b+other")
			w.db.entries[b.Witness.log] = e
		}, "b forged"},
		{"two logs", func(t *testing.T, w *world, b *server, _ func()) {
			dir := w.dir
			w.dir = t.TempDir()
			twin := w.open(t, "b")
			twin.serve(t, int(b.log.Stats().Records))
			_, c, err := audit.Latest(os.DirFS(w.path("b")))
			must(t, err)
			w.dir = dir
			e := w.db.entries[b.Witness.log]
			e.Newest = c.Signed
			w.db.entries[b.Witness.log] = e
		}, "b contradicts"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.server(t, "a"), w.server(t, "b")
			b.serve(t, 2)
			back := w.save(t, "b")
			b.serve(t, 3)
			for range 2 {
				want(t, "b", b.look(t))
				want(t, "a", a.look(t))
			}
			test.wrong(t, w, b, back)
			want(t, "a", a.look(t), test.want)
			if n := a.events(t, FaultEvent); n != 1 || a.Faults() != 1 {
				t.Errorf("%d records, %d faults", n, a.Faults())
			}
			// What others have seen is in the database again.
			if size := w.published(t, b); size < 5 {
				t.Errorf("%d records", size)
			}
		})
	}
}

// TestNames: two logs can't have one name, and a retired log is not continued.
func TestNames(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	b.serve(t, 1)
	want(t, "b", b.look(t))
	want(t, "a", a.look(t))
	wantText(t, Free(ctx, w.db, "b"), "choose another audit.origin")
	must(t, Free(ctx, w.db, "c"))

	dir := w.dir
	w.dir = t.TempDir()
	wantText(t, w.open(t, "b").Start(ctx), "has another server a log of the same name?") // of the same key
	w.token = append([]signer{newSigner(t)}, w.token...)
	w.dir = t.TempDir()
	wantText(t, w.open(t, "b").Start(ctx), "another audit log has the name b, too")
	w.dir = dir

	must(t, Retire(ctx, w.db, b.Witness.log, w.token[0], t0)) // a key that a does not know yet
	a.lines.TakeAll()
	want(t, "a", a.look(t))
	want(t, "b", b.look(t), "b still used")
	want(t, "b, once", b.look(t))
	b.end(t)
	wantText(t, w.open(t, "b").Start(ctx), "audit log b was retired")
	wantText(t, Free(ctx, w.db, "b"), "choose another audit.origin")
	must(t, os.RemoveAll(w.path("b")))
	want(t, "a", a.look(t))
	if in, err := InUse(ctx, w.db, "b"); err != nil || len(in) != 0 {
		t.Errorf("%v, %v", in, err)
	}
}

// TestDatabaseAway: the witness waits, says so once, and goes on.
func TestDatabaseAway(t *testing.T) {
	w := newWorld(t)
	a := w.server(t, "a")
	w.db.away = errors.New("away")
	a.serve(t, 2)
	for range 3 {
		a.round(ctx, false)
	}
	if lines := a.lines.TakeAll(); len(lines) != 1 || !a.Waiting() {
		t.Errorf("got %v", lines)
	}
	wantText(t, a.Publish(ctx), "away")
	w.db.away = nil
	want(t, "a", a.look(t))
	if a.Waiting() {
		t.Error("it waits")
	}
	if size := w.published(t, a); size != 2 {
		t.Errorf("%d records", size)
	}
}

// TestUnprovenKey: a key that the token can't prove to have silences nobody.
func TestUnprovenKey(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	b.serve(t, 2)
	want(t, "b", b.look(t))
	want(t, "a", a.look(t))
	w.unproven = errors.New("no such key")
	must(t, Retire(ctx, w.db, b.Witness.log, newSigner(t), t0))
	a.round(ctx, false)
	if logged := a.lines.FilterMessage("what a new key of audit logs signs does not count").Len(); logged != 1 ||
		a.Faults() != 1 || a.Waiting() {
		t.Errorf("got %v", a.lines.TakeAll())
	}
	wantText(t, w.open(t, "c").Start(ctx), "no such key")
}

// TestRun: a witness works until it is told to end, and once more then.
func TestRun(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	running, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { a.Run(running) })
	stop()
	ended.Wait()
	b.serve(t, 3)
	b.round(ctx, false)
	a.Run(running) // which has ended
	if n := a.events(t, SeenEvent); n != 1 {
		t.Errorf("%d records of what was seen", n)
	}
}
