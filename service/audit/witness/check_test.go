package witness

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/audit"
)

// check checks the folders of these servers, with the database or without.
func (w *world) check(t testing.TB, database bool, names ...string) []Verdict {
	t.Helper()
	e := Evidence{Keys: w.keys().Of, Asked: database}
	if database {
		var err error
		e.Entries, err = Entries(ctx, w.db)
		must(t, err)
	}
	for _, name := range names {
		e.Folders = append(e.Folders, Folder{name, os.DirFS(w.path(name))})
	}
	verdicts, err := Check(e)
	must(t, err)
	return verdicts
}

// faultsOf lists the faults of verdicts.
func faultsOf(verdicts []Verdict) (faults []string) {
	for _, v := range verdicts {
		for _, f := range v.Faults {
			faults = append(faults, fmt.Sprint(v.Log, " ", f.Kind, " ", f.Problem))
			if f.Cure == "" {
				faults = append(faults, "a fault without a cure")
			}
		}
	}
	return faults
}

// wantFault expects one fault, which has all parts.
func wantFault(t testing.TB, verdicts []Verdict, parts ...string) {
	t.Helper()
	faults := faultsOf(verdicts)
	lacks := func(part string) bool { return !strings.Contains(faults[0], part) }
	if len(faults) != 1 || slices.ContainsFunc(parts, lacks) {
		t.Errorf("got %q, want one fault with %q", faults, parts)
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	b.serve(t, 2)
	back := w.save(t, "b")
	b.serve(t, 3)
	want(t, "b", b.look(t))
	want(t, "a", a.look(t))
	b.serve(t, 2) // only the database knows of these
	b.round(ctx, false)
	a.serve(t, 1)
	a.round(ctx, false)
	honest := w.save(t, "b")
	var holds []string
	for _, v := range w.check(t, true, "a", "b") {
		want(t, v.Log, faultsOf([]Verdict{v}))
		holds = append(holds, v.Holds...)
	}
	if text := strings.Join(holds, "\n"); !strings.Contains(text, "the database's checkpoint of 7 records") ||
		!strings.Contains(text, "it continues 1 checkpoints that servers of other logs have seen") {
		t.Error(text)
	}
	want(t, "without the database", faultsOf(w.check(t, false, "a", "b")))
	wantFault(t, w.check(t, true, "a"), "b missing the database has a checkpoint of 7 records, but there is no folder of it")
	wantFault(t, w.check(t, false, "a"), "b missing there is a checkpoint that a has witnessed, but no folder of it")
	wantFault(t, w.check(t, false, "a", "b", "b"), "its log is that of another folder, too")

	b.lost = true
	cut := func(records int) { // off the end of the file
		t.Helper()
		path := filepath.Join(w.path("b"), "records", fmt.Sprintf("%020d.jsonl", 0))
		text, err := os.ReadFile(path)
		must(t, err)
		lines := bytes.SplitAfter(bytes.TrimRight(text, " "), []byte("\n"))
		must(t, os.WriteFile(path, bytes.Join(lines[:len(lines)-1-records], nil), 0o600))
	}
	cut(1)
	wantFault(t, w.check(t, true, "a", "b"), "b broken", "records 6 to 6 are missing at the end")
	back()
	wantFault(t, w.check(t, true, "a", "b"), "b broken", "records 2 to 6 are missing at the end: "+
		"checkpoint in the database covers 7")
	wantFault(t, w.check(t, false, "a", "b"), "b broken", "checkpoint that a has witnessed covers")
	must(t, os.RemoveAll(w.path("b")))
	must(t, os.Mkdir(w.path("b"), 0o700))
	if faults := faultsOf(w.check(t, true, "a", "b")); len(faults) != 2 ||
		!strings.Contains(faults[0], "file does not exist") && !strings.Contains(faults[0], "no such file") {
		t.Errorf("got %q", faults)
	}
	honest()
	want(t, "honest", faultsOf(w.check(t, true, "a", "b")))

	// The database.
	entry := w.db.entries[b.Witness.log]
	set := func(change func(*Entry)) {
		e := entry
		change(&e)
		w.db.entries[b.Witness.log] = e
	}
	for log, e := range w.db.entries {
		if Name(log) == "a" {
			set(func(b *Entry) { b.Newest = e.Newest })
		}
	}
	wantFault(t, w.check(t, true, "a", "b"), "b forged its checkpoint in the database does not count")
	set(func(e *Entry) { e.Trouble = "\x1b[2Jno disk" })
	wantFault(t, w.check(t, true, "a", "b"), `b broken its server says: "\x1b[2Jno disk"`)
	set(func(e *Entry) { e.Retired = []byte("yes") })
	wantFault(t, w.check(t, true, "a", "b"), "b forged its retirement in the database does not count")
	delete(w.db.entries, b.Witness.log)
	wantFault(t, w.check(t, true, "a", "b"), "b missing the database has no checkpoint of it")
	set(func(*Entry) {})
	must(t, Retire(ctx, w.db, b.Witness.log, w.token[0], t0))
	want(t, "retired", faultsOf(w.check(t, true, "a", "b")))
	back()
	wantFault(t, w.check(t, true, "a", "b"), "b broken", "are missing at the end")
	want(t, "retired and gone", faultsOf(w.check(t, true, "a")))
}

// TestForks: a log that is set back, with all that the database says of it, and grows further than before, contradicts
// what another server remembers. The other server tells, the log's server finds that it is so, and Check does.
func TestForks(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		w := newWorld(t)
		a, b := w.server(t, "a"), w.server(t, "b")
		b.serve(t, 2)
		want(t, "b", b.look(t))
		want(t, "a", a.look(t))
		database := maps.Clone(w.db.entries)
		back := w.save(t, "b")
		for range 5 {
			b.serve(t, 3)
			want(t, "b", b.look(t))
			want(t, "a", a.look(t))
		}
		b.end(t)
		back()
		w.db.entries[b.Witness.log] = database[b.Witness.log] // by whoever can write there
		refused := w.open(t, "b")
		wantText(t, refused.Start(ctx), "checkpoint that a has seen covers")
		refused.end(t)
		maps.Copy(w.db.entries, database)
		if restarted {
			a.end(t)
		}
		b = w.server(t, "b")
		b.serve(t, 50)
		want(t, "b", b.look(t))
		if restarted {
			a = w.server(t, "a")
		}
		if got := a.look(t); restarted {
			want(t, "a", got)
		} else {
			want(t, "a", got, "a set back")
		}
		want(t, "b", b.look(t), "b broken")
		want(t, "a", a.look(t), "b broken")
		maps.DeleteFunc(w.db.entries, func(string, Entry) bool { return true })
		wantFault(t, w.check(t, false, "a", "b"), "b broken checkpoint that a has witnessed", "do not give the root that it signs")
	}
}

// TestVouched: what a server says it has seen stays until the other one has read it, and then becomes what is newest.
func TestVouched(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	var sizes []int64
	for range 8 {
		b.serve(t, 10)
		b.round(ctx, false)
		a.round(ctx, false)
		for _, k := range seenOf([]Entry{w.db.entries[a.Witness.log]}).of(b.Witness.log, w.keys().Of("b")) {
			c, err := openCheckpoint(b.Witness.log, k.Signed, w.keys().Of("b"))
			must(t, err)
			sizes = append(sizes, c.Size)
		}
	}
	want(t, "seen", strings.Fields(strings.Trim(fmt.Sprint(sizes), "[]")), "10", "10", "10", "40", "40", "40", "70", "70")
}

// TestCheckRotatedKey: whoever trusts the newest key only checks what was signed with the earlier one, too.
func TestCheckRotatedKey(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	b.serve(t, 2)
	want(t, "b", b.look(t))
	want(t, "a", a.look(t))
	w.token = append(w.token, newSigner(t))
	must(t, b.log.Rotate(ctx, w.token[1]))
	must(t, a.log.Rotate(ctx, w.token[1]))
	want(t, "b", b.look(t))
	want(t, "a", a.look(t))
	w.token = w.token[1:]
	verdicts := w.check(t, true, "a", "b")
	want(t, "with the newest key", faultsOf(verdicts))
	if len(verdicts) != 2 || !slices.Contains(verdicts[1].Holds, "it continues 1 checkpoints that servers of other logs have seen") {
		t.Errorf("got %+v", verdicts)
	}
}

// TestCheckUnknownKey: a log without a trusted key does not pass.
func TestCheckUnknownKey(t *testing.T) {
	w := newWorld(t)
	w.server(t, "a")
	none := Evidence{Folders: []Folder{{"a", os.DirFS(w.path("a"))}}, Keys: func(string) []string { return nil }}
	verdicts, err := Check(none)
	must(t, err)
	wantFault(t, verdicts, "a forged there is no trusted key of this log")
}

func TestTimeline(t *testing.T) {
	w := newWorld(t)
	a, b := w.server(t, "a"), w.server(t, "b")
	for i := range 6 {
		s := a
		if i%2 == 1 {
			s = b
		}
		at := t0.Add(time.Duration(i) * time.Minute)
		must(t, s.append(ctx, &audit.Record{EventName: fmt.Sprint("n", i), EventTime: at}))
	}
	// Those of commands can be late.
	must(t, a.append(ctx, &audit.Record{EventName: "late", EventTime: t0.Add(-time.Minute)}))
	must(t, b.append(ctx, &audit.Record{EventName: "same second <", EventTime: t0.Add(2 * time.Minute)}))
	var out bytes.Buffer
	folders := []Folder{{"A", os.DirFS(w.path("a"))}, {"B", os.DirFS(w.path("b"))}}
	must(t, WriteTimeline(folders, &out))
	var got []string
	for text := range bytes.Lines(out.Bytes()) {
		var l Line
		var r audit.Record
		must(t, json.Unmarshal(text, &l))
		must(t, json.Unmarshal(l.Record, &r))
		got = append(got, l.Log+" "+r.EventName)
	}
	want(t, "the time line", got, "a late", "a n0", "b n1", "a n2", "b same second <", "b n3", "a n4", "b n5")
}

// FuzzEntry: nothing in the database counts that the token has not signed.
func FuzzEntry(f *testing.F) {
	w := newWorld(f)
	a := w.server(f, "a")
	e := w.db.entries[a.Witness.log]
	must(f, Retire(ctx, w.db, e.Log, w.token[0], t0))
	retired := w.db.entries[e.Log].Retired
	f.Add(e.Log, e.Newest, e.Trouble, []byte{})
	f.Add(e.Log, e.Newest, "trouble", retired)
	f.Add("b+1+x", []byte("b\n0\nx\n"), "", []byte("x"))
	keys := w.keys()
	f.Fuzz(func(t *testing.T, log string, newest []byte, trouble string, note []byte) {
		got := Entry{Log: log, Newest: newest, Trouble: trouble, Retired: note}
		c, fault := judge(got, nil, keys.Of(Name(log)))
		if Name(log) == "a" && (bytes.Equal(newest, e.Newest) || bytes.Equal(note, retired)) {
			return
		}
		if c != nil || fault == nil {
			t.Errorf("%+v: %v, %v", got, c, fault)
		}
	})
}
