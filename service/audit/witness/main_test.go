package witness

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/verenc/kms/service/audit"
)

var (
	ctx = context.Background()
	t0  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// signer is a token that keeps its key in memory.
type signer struct{ *ecdsa.PrivateKey }

func newSigner(t testing.TB) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return signer{key}
}

func (s signer) Sign(_ context.Context, digest []byte) ([]byte, error) {
	return s.PrivateKey.Sign(rand.Reader, digest, crypto.SHA256)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memory is a database.
type memory struct {
	entries map[string]Entry
	away    error
}

func (m *memory) AuditLogs(_ context.Context, limit int) ([]Entry, error) {
	var all []Entry
	for _, log := range slices.Sorted(maps.Keys(m.entries)) {
		all = append(all, m.entries[log])
	}
	return all[:min(len(all), limit)], m.away
}

func (m *memory) ChangeAuditLog(_ context.Context, log string, change func(*Entry) error) error {
	e := m.entries[log]
	if m.away != nil {
		return m.away
	}
	err := change(&e)
	if err == nil {
		e.Log = log
		m.entries[log] = e
	}
	return err
}

// world is a database, a token and the servers on them.
type world struct {
	db    *memory
	token []signer
	now   time.Time
	dir   string

	unproven error // why the token can't prove its keys
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{db: &memory{entries: map[string]Entry{}}, token: []signer{newSigner(t)}, now: t0, dir: t.TempDir()}
}

func (w *world) keys() Keys {
	var keys Keys
	for _, s := range w.token {
		keys = append(keys, s.Public())
	}
	return keys
}

func (w *world) signers() (all []audit.Signer) {
	for _, s := range w.token {
		all = append(all, s)
	}
	return all
}

// server is a server's log and its witness.
type server struct {
	*Witness
	world *world
	name  string
	log   *audit.Log
	lines *observer.ObservedLogs
	n     int
	lost  bool // its folder was taken away
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// server starts a server. The first time, it makes its log.
func (w *world) server(t testing.TB, name string) *server {
	t.Helper()
	s := w.open(t, name)
	must(t, s.Start(ctx))
	s.remember(ctx)
	return s
}

func (w *world) open(t testing.TB, name string) *server {
	t.Helper()
	_, err := os.Stat(w.path(name))
	l, err := audit.Open(ctx, audit.Config{Dir: w.path(name), Create: err != nil, Origin: name, Signers: w.signers(),
		CheckpointEvery: 1 << 40, CheckpointWithin: time.Hour, Reserve: 100})
	must(t, err)
	core, lines := observer.New(zapcore.DebugLevel)
	s := &server{world: w, name: name, log: l, lines: lines}
	s.Witness = New(Config{
		Folder: os.DirFS(w.path(name)), Store: w.db, Now: func() time.Time { return w.now }, Log: zap.New(core),
		Keys:   func(context.Context) (Keys, error) { return w.keys(), w.unproven },
		Record: s.event, Interval: time.Millisecond,
	})
	t.Cleanup(func() { s.end(t) })
	return s
}

func (s *server) append(ctx context.Context, r *audit.Record) error {
	s.n++
	r.EventID, r.EventSource = fmt.Sprintf("%s-%d", s.name, s.n), "verenc"
	if r.EventTime.IsZero() {
		r.EventTime = s.world.now
	}
	return s.log.Append(ctx, r)
}

func (s *server) event(ctx context.Context, name string, data audit.Object) error {
	return s.append(ctx, &audit.Record{EventName: name, EventType: eventType, AdditionalEventData: data})
}

// serve appends records, and makes a checkpoint.
func (s *server) serve(t testing.TB, n int) {
	t.Helper()
	for range n {
		must(t, s.append(ctx, &audit.Record{EventName: "Decrypt"}))
	}
	must(t, s.log.Checkpoint(ctx))
}

// look runs a round a minute later, and returns the new faults.
func (s *server) look(t testing.TB) (faults []string) {
	t.Helper()
	s.world.now = s.world.now.Add(recordEvery)
	s.round(ctx, false)
	if err := s.log.Checkpoint(ctx); err != nil && !s.lost {
		t.Error(err)
	}
	for _, line := range s.lines.TakeAll() {
		if fields := line.ContextMap(); line.Level == zap.ErrorLevel {
			faults = append(faults, fmt.Sprint(fields["audit_log"], " ", fields["fault"]))
		}
	}
	return faults
}

func (s *server) end(t testing.TB) {
	t.Helper()
	if err := s.log.Close(ctx); err != nil && !errors.Is(err, audit.ErrClosed) && !s.lost {
		t.Error(err)
	}
}

// events counts the records with this name in a server's log, which may be closed.
func (s *server) events(t testing.TB, name string) (n int) {
	t.Helper()
	must(t, audit.Read(os.DirFS(s.world.path(s.name)), func(_ int64, text []byte) error {
		n += strings.Count(string(text), `"eventName":"`+name+`"`)
		return nil
	}))
	return n
}

// published returns the size of a server's checkpoint in the database.
func (w *world) published(t testing.TB, s *server) int64 {
	t.Helper()
	c, err := openCheckpoint(s.Witness.log, w.db.entries[s.Witness.log].Newest, w.keys().Of(s.name))
	must(t, err)
	return c.Size
}

// save copies the folder of a log; back puts the copy in its place.
func (w *world) save(t testing.TB, name string) (back func()) {
	t.Helper()
	kept := filepath.Join(t.TempDir(), name)
	must(t, os.CopyFS(kept, os.DirFS(w.path(name))))
	return func() {
		t.Helper()
		must(t, os.RemoveAll(w.path(name)))
		must(t, os.CopyFS(w.path(name), os.DirFS(kept)))
	}
}

func want(t testing.TB, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func wantText(t testing.TB, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v, want %q", err, text)
	}
}
