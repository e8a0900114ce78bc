package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/verenc/kms/service"
)

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	must(t, os.WriteFile(text, []byte("not a database, but long enough to be read as one"), 0o600))
	empty := filepath.Join(dir, "empty")
	must(t, os.WriteFile(empty, nil, 0o600))
	const ofItsOwn = "set database to a file of its own"
	foreign := filepath.Join(dir, "foreign")
	other, err := sql.Open("sqlite3", foreign)
	must(t, err)
	_, err = other.Exec("CREATE TABLE accounts (id INTEGER)")
	must(t, errors.Join(err, other.Close()))
	before, err := os.ReadFile(foreign)
	must(t, err)
	newer := filepath.Join(dir, "newer")
	must(t, open(t, newer, true).exec("PRAGMA user_version = 99"))

	for _, test := range []struct {
		path   string
		create bool
		want   string
	}{
		{filepath.Join(dir, "none"), false, "verenc init creates it"},
		{text, false, "file is not a database (" + ofItsOwn},
		{empty, false, "its creation was broken off (" + ofItsOwn},
		{foreign, false, "is not one of Verenc's, or its creation was broken off (" + ofItsOwn},
		{foreign, true, "file exists"},
		{newer, false, "newer version of verenc (schema 99, this one knows"},
		{newer, true, "file exists"},
		{filepath.Join(dir, "no", "folder"), true, "(make the folder " + filepath.Join(dir, "no") + ")"},
	} {
		d, err := Open(ctx, Config{Path: test.path, Create: test.create})
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.path) {
			t.Errorf("%s: got %v, want %q", test.path, err, test.want)
		}
	}
	if after, err := os.ReadFile(foreign); err != nil || !bytes.Equal(after, before) {
		t.Errorf("another program's file was changed: %v", err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file or directory (name a file that verenc backup has made)",
		foreign:                    "creation was broken off (name a file that verenc backup has made)",
		newer:                      "(run that version)",
	} {
		err := Restore(ctx, path, filepath.Join(dir, "restored"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("restore %s: got %v, want %q", path, err, want)
		}
	}
}

func (d *DB) exec(query string) error {
	_, err := d.write.Exec(query)
	return err
}

func TestFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	d := open(t, path, true)
	must(t, d.InsertKey(ctx, newKey("k1")))
	for _, suffix := range []string{"", "-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", info.Name(), info.Mode())
		}
	}
}

// TestSettings: a commit is synced, and foreign keys hold, on the connection that writes.
func TestSettings(t *testing.T) {
	d := create(t)
	for pragma, want := range map[string]string{"synchronous": "2", "journal_mode": "wal", "foreign_keys": "1"} {
		var got string
		must(t, d.write.QueryRow("PRAGMA "+pragma).Scan(&got))
		if got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
	if _, err := d.read.Exec("DELETE FROM keys"); err == nil {
		t.Error("a connection for reading can write")
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	d, err := Open(ctx, Config{Path: path, Create: true})
	must(t, err)
	must(t, d.InsertKey(ctx, newKey("k1")))
	must(t, d.Close())
	if k, err := open(t, path, false).Key(ctx, region, "k1"); err != nil || k.ID != "k1" {
		t.Errorf("got %v, %v", k, err)
	}
}

// TestOtherProcess: a change through another DB on the same file is seen within a second.
func TestOtherProcess(t *testing.T) { onBoth(t, testOtherProcess) }

func testOtherProcess(t *testing.T, database string) {
	ours, theirs := open(t, database, true), open(t, database, false)
	must(t, theirs.InsertKey(ctx, newKey("k1")))
	must(t, theirs.InsertAlias(ctx, newAlias("a", "k1"), 50))
	_, err := ours.Alias(ctx, account, region, "alias/a")
	must(t, err)
	_, err = ours.Key(ctx, region, "k1")
	must(t, err)

	must(t, theirs.UpdateKey(ctx, region, "k1", func(k *service.Key) error {
		k.State = service.StateDisabled
		return nil
	}))
	must(t, theirs.DeleteAlias(ctx, account, region, "alias/a"))
	deadline := time.Now().Add(time.Minute) // far more than promised, so that a slow machine doesn't fail
	for {
		k, err := ours.Key(ctx, region, "k1")
		must(t, err)
		_, err = ours.Alias(ctx, account, region, "alias/a")
		if k.State == service.StateDisabled && err != nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the change was not seen")
		}
	}
}

// TestAliasMadeAgain: who makes an alias that another server has deleted knows its new target at once.
func TestAliasMadeAgain(t *testing.T) { onBoth(t, testAliasMadeAgain) }

func testAliasMadeAgain(t *testing.T, path string) {
	ours, theirs := open(t, path, true), open(t, path, false)
	for _, id := range []string{"k1", "k2"} {
		must(t, ours.InsertKey(ctx, newKey(id)))
	}
	for i := range 10 { // theirs may be quick to tell of it
		old, made := fmt.Sprint("k", 1+i%2), fmt.Sprint("k", 2-i%2)
		must(t, ours.InsertAlias(ctx, newAlias("a", old), 50))
		_, err := ours.Alias(ctx, account, region, "alias/a") // now it is cached
		must(t, err)
		must(t, theirs.DeleteAlias(ctx, account, region, "alias/a"))
		must(t, ours.InsertAlias(ctx, newAlias("a", made), 50))
		if a, err := ours.Alias(ctx, account, region, "alias/a"); err != nil || a.KeyID != made {
			t.Fatalf("got %v, %v, want %s", a, err, made)
		}
		must(t, ours.DeleteAlias(ctx, account, region, "alias/a"))
	}
}

// TestRemovedByBoth: who finds that a row is gone forgets it, and does not go on using it until it is told.
func TestRemovedByBoth(t *testing.T) { onBoth(t, testRemovedByBoth) }

func testRemovedByBoth(t *testing.T, path string) {
	ours, theirs := open(t, path, true), open(t, path, false)
	must(t, ours.InsertKey(ctx, newKey("k1")))
	for range 10 { // theirs may be quick to tell of it
		must(t, ours.InsertAlias(ctx, newAlias("a", "k1"), 50))
		must(t, ours.InsertGrant(ctx, newGrant("g1", "k1"), 50))
		_, err := ours.Alias(ctx, account, region, "alias/a")
		must(t, err)
		_, err = ours.GrantsOf(ctx, region, "k1") // now both are cached
		must(t, err)
		must(t, theirs.DeleteGrant(ctx, newGrant("g1", "k1")))
		wantError(t, ours.DeleteGrant(ctx, newGrant("g1", "k1")), service.ErrNoRow)
		if all, err := ours.GrantsOf(ctx, region, "k1"); err != nil || len(all) != 0 {
			t.Fatalf("the key has %d grants, %v", len(all), err)
		}
		must(t, theirs.DeleteAlias(ctx, account, region, "alias/a"))
		wantError(t, ours.DeleteAlias(ctx, account, region, "alias/a"), service.ErrNoRow)
		if a, err := ours.Alias(ctx, account, region, "alias/a"); !errors.Is(err, service.ErrNoRow) {
			t.Fatalf("got %v, %v", a, err)
		}
	}
}

// TestOwnChangesKeepTheCache: the watch does not take our own commits for those of others.
func TestOwnChangesKeepTheCache(t *testing.T) {
	d := create(t)
	before, err := d.foreignVersion(ctx)
	must(t, err)
	must(t, d.InsertKey(ctx, newKey("k1")))
	if after, err := d.foreignVersion(ctx); after != before || err != nil {
		t.Errorf("went from %d to %d, %v", before, after, err)
	}
}

func TestCacheServes(t *testing.T) {
	d := create(t)
	must(t, d.InsertKey(ctx, newKey("k1")))
	first, err := d.Key(ctx, region, "k1")
	must(t, err)
	second, err := d.Key(ctx, region, "k1")
	must(t, err)
	if first != second {
		t.Error("the second read went to the file")
	}
}

// TestStaleFill: a row read before a change, and added after it, is not kept.
func TestStaleFill(t *testing.T) {
	c := newCache[string, int](10)
	v, err := c.get("a", func() (int, error) {
		c.forget("a") // the change happens while the row is on its way
		return 1, nil
	})
	if v != 1 || err != nil {
		t.Fatal(v, err)
	}
	if v, _ := c.get("a", func() (int, error) { return 2, nil }); v != 2 {
		t.Error("the stale row was kept")
	}
	epoch := c.now()
	c.forget("b")
	c.add("b", 1, epoch)
	if v, _ := c.get("b", func() (int, error) { return 2, nil }); v != 2 {
		t.Error("the stale row was added")
	}
}

// TestKeyWithoutGrants: reading a key that has no grants reads that, too.
func TestKeyWithoutGrants(t *testing.T) { onBoth(t, testKeyWithoutGrants) }

func testKeyWithoutGrants(t *testing.T, path string) {
	d := unwatched(open(t, path, true))
	must(t, d.InsertKey(ctx, newKey("k1")))
	must(t, d.InsertKey(ctx, newKey("k2")))
	must(t, d.InsertGrant(ctx, newGrant("g1", "k2"), 50))
	for id, want := range map[string]string{"k1": "", "k2": "g1 "} {
		_, err := d.Key(ctx, region, id)
		must(t, err)
		if known := d.grants.rows.Contains(keyName{region, id}); known != (want == "") {
			t.Errorf("%s: its grants are known: %v", id, known)
		}
		if all, err := d.GrantsOf(ctx, region, id); err != nil || idsOf(all) != want {
			t.Errorf("%s has the grants %q, %v", id, idsOf(all), err)
		}
	}
	must(t, d.InsertGrant(ctx, newGrant("g2", "k1"), 50))
	if all, err := d.GrantsOf(ctx, region, "k1"); err != nil || idsOf(all) != "g2 " {
		t.Errorf("then k1 has the grants %q, %v", idsOf(all), err)
	}
}

// TestLocked: the lock of another process gives an error that says so, and can be retried.
func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	ours, theirs := open(t, path, true), open(t, path, false)
	must(t, ours.exec("PRAGMA busy_timeout = 1"))
	must(t, inTransaction(ctx, theirs.write, sql.LevelDefault, func(*sql.Tx) error {
		err := ours.InsertKey(ctx, newKey("k1"))
		wantError(t, err, context.DeadlineExceeded)
		return nil
	}))
	must(t, ours.InsertKey(ctx, newKey("k1")))
}

// planned are queries that must not walk through a table, with the number of their values.
var planned = map[string]int{
	keyAndWhetherGranted:          2,
	"SELECT *" + keysOfAccount:    4,
	"SELECT *" + unfinished:       4,
	"SELECT *" + keysRelated:      1,
	"SELECT *" + everyKey:         3,
	"SELECT *" + grantsOfKey:      2,
	"SELECT *" + grantsRetirable:  4,
	"SELECT *" + aliasesOfAccount: 4,
	"SELECT *" + aliasesOfKey:     5,
	"SELECT * FROM wrapping_keys WHERE expires_at < ? ORDER BY expires_at LIMIT ?": 2,
	"SELECT count(*) FROM keys WHERE key_store = ? AND key_store <> ''":            1,
	"SELECT * FROM aliases WHERE region = ? AND key_id = ?":                        2,
}

func ones(n int) []any {
	values := make([]any, n)
	for i := range values {
		values[i] = "1"
	}
	return values
}

// TestQueryPlans: no query walks through a table.
func TestQueryPlans(t *testing.T) {
	d := create(t)
	for query, args := range planned {
		rows, err := d.read.Query("EXPLAIN QUERY PLAN "+query, ones(args)...)
		must(t, err)
		steps := 0
		for rows.Next() {
			var id, parent, unused int
			var detail string
			must(t, rows.Scan(&id, &parent, &unused, &detail))
			steps++
			scansKeys := strings.HasPrefix(detail, "SCAN keys") &&
				!strings.Contains(detail, "USING INDEX keys_deleting")
			if scansKeys || strings.HasPrefix(detail, "SCAN aliases") || strings.Contains(detail, "TEMP B-TREE") {
				t.Errorf("%s: %s", query, detail)
			}
		}
		must(t, rows.Close())
		if steps == 0 {
			t.Errorf("%s: no plan", query)
		}
	}
}

// TestCacheSize: the limit of memory is kept to.
func TestCacheSize(t *testing.T) {
	c := newCache[int, int](3)
	for i := range 10 {
		_, _ = c.get(i, func() (int, error) { return i, nil })
	}
	if n := c.rows.Len(); n != 3 {
		t.Errorf("%d rows", n)
	}
}

func BenchmarkKey(b *testing.B) {
	d := create(b)
	const keys = 10_000
	tx, err := d.write.Begin()
	must(b, err)
	for i := range keys {
		must(b, writeNewKey(ctx, tx, newKey(fmt.Sprint("k", i))))
	}
	must(b, tx.Commit())
	read := func(b *testing.B, between func()) {
		i := 0
		for b.Loop() {
			i++
			if _, err := d.Key(ctx, region, fmt.Sprint("k", i%keys)); err != nil {
				b.Fatal(err)
			}
			between()
		}
	}
	b.Run("file", func(b *testing.B) { read(b, d.forget) })
	b.Run("memory", func(b *testing.B) { read(b, func() {}) })
}

// TestEqualPoliciesAreOneText: keys that have the same policy hold, and parse, one text.
func TestEqualPoliciesAreOneText(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "kms.db"), true)
	var at [2]*byte
	for i, id := range []string{"a", "b"} {
		k := newKey(id)
		k.Region, k.Policy = "eu-central-1", strings.Clone(`{"Statement":[]}`)
		must(t, d.InsertKey(t.Context(), k))
		k, err := d.Key(t.Context(), "eu-central-1", id)
		must(t, err)
		at[i] = unsafe.StringData(k.Policy)
	}
	if at[0] != at[1] {
		t.Error("two keys of one policy have two texts of it")
	}
}
