package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func TestLogIsWholeAfterEachStep(t *testing.T) {
	cfg := testConfig(t)
	cfg.SegmentBytes = 20_000
	l := open(t, cfg)
	if r := verify(t, cfg); r.Records != 0 || r.Sealed != 0 {
		t.Errorf("a new log has %+v", r)
	}
	add(t, l, 0, 3)
	if r := verify(t, cfg); r.Records != 3 || r.Sealed != 0 || r.Unsealed != 3 {
		t.Errorf("before the checkpoint: %+v", r)
	}
	for end := 3; end < 700; end += 83 {
		add(t, l, end, end+83)
		must(t, l.Checkpoint(ctx))
		if r := verify(t, cfg); r.Records != int64(end+83) || r.Sealed != r.Records {
			t.Errorf("after the checkpoint: %+v", r)
		}
		if end == 252 {
			must(t, l.Close(ctx))
			l = reopen(t, cfg)
		}
	}
	must(t, l.Close(ctx))
	wantError(t, l.Append(ctx, record(0)), ErrClosed)
	wantError(t, l.Ready(ctx), ErrClosed)
	wantError(t, l.Close(ctx), ErrClosed)
	files, err := segments(os.DirFS(cfg.Dir))
	must(t, err)
	if len(files) < 20 {
		t.Errorf("%d files of records, the size of a file was not kept", len(files))
	}
	for n := 0; n < 10; n++ {
		record, err := readRecord(os.DirFS(cfg.Dir), int64(n))
		must(t, err)
		if !strings.Contains(string(record), fmt.Sprintf(`"eventID":"event-%d"`, n)) {
			t.Errorf("record %d is %s", n, record)
		}
	}
}

// TestOthersReadTheLog lets golang.org/x/mod read what was written; it knows nothing of this
// package but the names of files.
func TestOthersReadTheLog(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, 0, 600)
	must(t, l.Close(ctx))

	signed, err := os.ReadFile(cfg.Dir + "/checkpoint")
	must(t, err)
	known, err := note.NewVerifier(keyOf(t, cfg.Signers[0]))
	must(t, err)
	n, err := note.Open(signed, note.VerifierList(known))
	must(t, err)
	lines := strings.Split(n.Text, "\n")
	if lines[0] != origin || lines[1] != "600" || len(lines) != 4 {
		t.Fatalf("checkpoint %q", n.Text)
	}
	root, err := tlog.ParseHash(lines[2])
	must(t, err)

	text, err := os.ReadFile(cfg.Dir + "/records/00000000000000000000.jsonl")
	must(t, err)
	var stored hashes
	for i, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		hashes, err := tlog.StoredHashes(int64(i), []byte(line), &stored)
		must(t, err)
		stored = append(stored, hashes...)
	}
	if got, err := tlog.TreeHash(600, &stored); err != nil || got != root {
		t.Errorf("root %v, %v, the checkpoint says %v", got, err, root)
	}
	for path, want := range map[string]tlog.Tile{"tile/0/000": {H: 8, L: 0, N: 0, W: 256},
		"tile/0/001":      {H: 8, L: 0, N: 1, W: 256},
		"tile/0/002.p/88": {H: 8, L: 0, N: 2, W: 88}, "tile/1/000.p/2": {H: 8, L: 1, N: 0, W: 2}} {
		data, err := tlog.ReadTileData(want, &stored)
		must(t, err)
		if got, err := os.ReadFile(cfg.Dir + "/" + path); err != nil || string(got) != string(data) {
			t.Errorf("tile %s: %v, or other hashes", path, err)
		}
	}
}

func TestConcurrentAppends(t *testing.T) {
	cfg := testConfig(t)
	cfg.CheckpointEvery, cfg.SegmentBytes = 50, 100_000
	l := open(t, cfg)
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			for n := range 50 {
				if err := l.Append(ctx, record(w*50+n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Go(func() {
		for range 20 {
			if _, err := Verify(os.DirFS(cfg.Dir), VerifyConfig{Keys: []string{keyOf(t, cfg.Signers[0])}}); err != nil {
				t.Errorf("while it is written: %v", err)
			}
			if err := l.Ready(ctx); err != nil {
				t.Error(err)
			}
		}
	})
	workers.Wait()
	s := l.Stats()
	if s.Records != 800 || s.Appended != 800 || s.Syncs == 0 || s.Syncs > 800 || s.Sealed == 0 {
		t.Errorf("stats %+v", s)
	}
	must(t, l.Close(ctx))
	if r := verify(t, cfg); r.Sealed != 800 {
		t.Errorf("%+v", r)
	}
	for id, n := range occurrences(t, cfg.Dir) {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
}

func TestRefusesWhatItCannotOpen(t *testing.T) {
	cfg := testConfig(t)
	l := open(t, cfg)
	add(t, l, 0, 1)

	second := cfg
	second.Create = false
	if _, err := Open(ctx, second); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second writer got %v", err)
	}
	must(t, l.Close(ctx))
	for name, change := range map[string]func(*Config){
		"creation over a log": func(c *Config) { c.Create = true },
		"another origin":      func(c *Config) { c.Origin = "other.example.com" },
		"another key":         func(c *Config) { c.Signers = []Signer{ed25519Signer(9)} },
		"no key":              func(c *Config) { c.Signers = nil },
		"no folder":           func(c *Config) { c.Dir += "/absent" },
		"an empty folder":     func(c *Config) { c.Dir = t.TempDir() },
		"a bad origin":        func(c *Config) { c.Create, c.Dir, c.Origin = true, t.TempDir(), "a b" },
	} {
		bad := second
		change(&bad)
		if l, err := Open(ctx, bad); err == nil {
			t.Errorf("%s: it opens", name)
			must(t, l.Close(ctx))
		}
	}
	if err := reopen(t, cfg).Append(ctx, &Record{}); err == nil {
		t.Error("an empty record was taken")
	}
}

func TestRotation(t *testing.T) {
	cfg := testConfig(t)
	first, second, third := cfg.Signers[0], Signer(ecdsaSigner(t)), ed25519Signer(3)
	l := open(t, cfg)
	add(t, l, 0, 10)
	must(t, l.Rotate(ctx, second))
	must(t, l.Rotate(ctx, third))
	add(t, l, 10, 300)
	if err := l.Rotate(ctx, first); err == nil {
		t.Error("an old key came back")
	}
	broken := ed25519Signer(4)
	broken.err.Store(new(errors.New("the token is gone")))
	if err := l.Rotate(ctx, broken); err == nil {
		t.Error("a key that cannot sign came into force")
	}
	must(t, l.Close(ctx))
	for _, key := range []Signer{first, second, third} {
		r := verify(t, cfg, keyOf(t, key))
		if len(r.Keys) != 3 || r.Keys[2] != keyOf(t, third) || r.Sealed != 300 {
			t.Errorf("%+v", r)
		}
	}
	if _, err := Verify(os.DirFS(cfg.Dir), VerifyConfig{Keys: []string{keyOf(t, broken)}}); !errors.Is(err,
		ErrTampered) {
		t.Errorf("a key that never was in force is trusted: %v", err)
	}
	if _, err := Open(ctx, Config{Dir: cfg.Dir, Signers: []Signer{first}}); err == nil {
		t.Error("a retired key opens the log")
	}
	// A crash before the epoch was listed.
	must(t, os.Remove(cfg.Dir+"/epoch/000002"))
	if _, err := Verify(os.DirFS(cfg.Dir), VerifyConfig{Keys: []string{keyOf(t, first)}}); !errors.Is(err,
		ErrTampered) {
		t.Errorf("an epoch can be removed: %v", err)
	}
}

func TestRotationBrokenOff(t *testing.T) {
	cfg := testConfig(t)
	next := ed25519Signer(2)
	l := open(t, cfg)
	add(t, l, 0, 10)
	must(t, l.Rotate(ctx, next))
	must(t, l.Close(ctx))
	must(t, os.Remove(cfg.Dir+"/epoch/000001"))
	if r := verify(t, cfg); len(r.Keys) != 2 {
		t.Errorf("keys %v", r.Keys)
	}
	cfg.Signers = append(cfg.Signers, next)
	l = reopen(t, cfg)
	add(t, l, 10, 20)
	must(t, l.Close(ctx))
	if r := verify(t, cfg); len(r.Keys) != 2 || r.Sealed != 20 {
		t.Errorf("%+v", r)
	}
}

func TestCheckpointsComeByThemselves(t *testing.T) {
	cfg := testConfig(t)
	cfg.CheckpointEvery = 5
	sealed := make(chan []byte, 10)
	cfg.Checkpointed = func(signed []byte) { sealed <- signed }
	l := open(t, cfg)
	add(t, l, 0, 5)
	c, err := readCheckpoint(<-sealed)
	if err != nil || c.size != 5 {
		t.Errorf("checkpoint %+v, %v", c, err)
	}
}

// TestCheckpointsAreDue: few records wait no longer than many.
func TestCheckpointsAreDue(t *testing.T) {
	cfg := testConfig(t)
	cfg.CheckpointWithin = time.Millisecond
	sealed := make(chan []byte, 10)
	cfg.Checkpointed = func(signed []byte) { sealed <- signed }
	l := open(t, cfg)
	for n := range 3 {
		add(t, l, n, n+1)
		if c, err := readCheckpoint(<-sealed); err != nil || c.size != int64(n+1) {
			t.Errorf("checkpoint %+v, %v", c, err)
		}
	}
}

func TestNoTokenNoAppendForEver(t *testing.T) {
	cfg := testConfig(t)
	cfg.MaxUnsealed = 20
	token := cfg.Signers[0].(*signer)
	l := open(t, cfg)
	add(t, l, 0, 10)
	gone := errors.New("the token is gone")
	token.err.Store(&gone)
	wantError(t, l.Checkpoint(ctx), gone)
	wantError(t, l.Stats().SignFailure, gone)
	add(t, l, 10, 20)
	wantError(t, l.Append(ctx, record(20)), gone)
	if l.Ready(ctx) == nil {
		t.Error("it is ready")
	}
	token.err.Store(nil)
	must(t, l.Checkpoint(ctx))
	must(t, l.Ready(ctx))
	add(t, l, 20, 21)
}

func TestCallerThatGoesAway(t *testing.T) {
	cfg := testConfig(t)
	sink := &receiver{wait: make(chan struct{})}
	cfg.Outputs = []Output{{Name: "slow", Sink: sink, Required: true}}
	l := open(t, cfg)
	gone, cancel := context.WithCancel(ctx)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- l.Append(gone, record(0)) }()
	sink.wait <- struct{}{} // the first record's batch is being written
	must(t, <-first)
	go func() { first <- l.Append(gone, record(1)) }()
	go func() { second <- l.Append(gone, record(2)) }()
	cancel()
	wantError(t, <-first, context.Canceled)
	wantError(t, <-second, context.Canceled)
	close(sink.wait)
	must(t, l.Append(ctx, record(3)))
	must(t, l.Close(ctx))
	verify(t, cfg)
	if seen := occurrences(t, cfg.Dir); seen["event-0"] != 1 || seen["event-3"] != 1 {
		t.Errorf("%v", seen)
	}
}

// TestBlanksCountForNothing: readers do not see what is written ahead of records, and files that
// are full or closed do not contain it.
func TestBlanksCountForNothing(t *testing.T) {
	cfg := testConfig(t)
	cfg.Reserve, cfg.SegmentBytes = 1<<20, 3000
	l := open(t, cfg)
	add(t, l, 0, 5)
	must(t, l.Checkpoint(ctx)) // full files ask for one, which is to be over
	files := load(t, cfg.Dir)
	r, err := Verify(files, VerifyConfig{Keys: []string{keyOf(t, cfg.Signers[0])}})
	must(t, err)
	if r.Records != 5 || r.TornBytes != 0 {
		t.Errorf("a log that is written has %d records and %d torn bytes", r.Records, r.TornBytes)
	}
	all, err := segments(files)
	must(t, err)
	if len(all) < 2 {
		t.Fatal("one file only")
	}
	for i, s := range all {
		data := files[s.name].Data
		if blank := bytes.HasSuffix(data, []byte(" ")); blank != (i == len(all)-1) {
			t.Errorf("file %d of %d ends in blanks: %t", i, len(all), blank)
		}
		for lines := json.NewDecoder(bytes.NewReader(data)); ; {
			var v map[string]any
			if err := lines.Decode(&v); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	must(t, l.Close(ctx))
	for _, s := range all {
		if data := load(t, cfg.Dir)[s.name].Data; !bytes.HasSuffix(data, []byte("}\n")) {
			t.Errorf("%s does not end with a record", s.name)
		}
	}
}
