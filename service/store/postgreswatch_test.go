package store

import (
	"context"
	"database/sql"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/store/postgrestest"
)

// eventually asks until the answer is yes, for far longer than promised, so that a slow machine
// doesn't fail. It gives the time.
func eventually(t *testing.T, what string, ask func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	for !ask() {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s: not within 20 s", what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// TestOtherServer: every change of another server is seen, and disturbs nothing else that is cached.
func TestOtherServer(t *testing.T) {
	database := postgrestest.NewDatabase(t)
	ours, theirs := open(t, database, true), open(t, database, false)
	for _, id := range []string{"k1", "k2", "k3"} {
		must(t, theirs.InsertKey(ctx, newKey(id)))
	}
	must(t, theirs.InsertAlias(ctx, newAlias("a", "k1"), 50))
	must(t, theirs.InsertAlias(ctx, newAlias("b", "k3"), 50))
	must(t, theirs.InsertGrant(ctx, newGrant("g1", "k1"), 50))
	must(t, theirs.PutPrincipal(ctx, newPrincipal(userARN)))
	must(t, theirs.InsertAccessKey(ctx, newAccessKey("AKIA1", userARN), 2))
	must(t, theirs.PutCertificate(ctx, &iam.Certificate{Name: "aa", PrincipalARN: userARN, CreatedAt: t0}))
	other, err := ours.Key(ctx, region, "k2")
	must(t, err)
	aliasOf := func(name string) string {
		a, err := ours.Alias(ctx, account, region, "alias/"+name)
		if err != nil {
			return err.Error()
		}
		return a.KeyID
	}
	grants := func() string {
		all, err := ours.GrantsOf(ctx, region, "k1")
		must(t, err)
		return idsOf(all)
	}
	told := func() bool {
		select {
		case <-ours.KeyStoresChanged():
			return true
		default:
			return false
		}
	}
	gone := service.ErrNoRow.Error()
	for _, test := range []struct {
		name   string
		change func() error
		seen   func() bool
	}{
		{"update alias", func() error { return theirs.UpdateAlias(ctx, newAlias("a", "k2"), 50) },
			func() bool { return aliasOf("a") == "k2" }},
		{"delete alias", func() error { return theirs.DeleteAlias(ctx, account, region, "alias/a") },
			func() bool { return aliasOf("a") == gone }},
		{"insert grant", func() error { return theirs.InsertGrant(ctx, newGrant("g2", "k1"), 50) },
			func() bool { return grants() == "g1 g2 " }},
		{"delete grant", func() error { return theirs.DeleteGrant(ctx, newGrant("g1", "k1")) },
			func() bool { return grants() == "g2 " }},
		{"remove key", func() error { return theirs.RemoveKey(ctx, region, "k3") },
			func() bool { return aliasOf("b") == gone }},
		{"remove access key", func() error { return theirs.RemoveAccessKey(ctx, "AKIA1") },
			func() bool { _, err := ours.AccessKey(ctx, "AKIA1"); return err != nil }},
		{"remove principal", func() error { return theirs.RemovePrincipal(ctx, userARN) }, func() bool {
			_, gone := ours.Principal(ctx, userARN)
			_, unmapped := ours.Certificate(ctx, "aa")
			return gone != nil && unmapped != nil
		}},
		{"insert key store", func() error {
			return theirs.InsertKeyStore(ctx, newKeyStore("cks-1", "one", "c1"), 10)
		}, told},
		{"update key store", func() error {
			return theirs.UpdateKeyStore(ctx, "cks-1", func(*service.KeyStore) error { return nil })
		}, told},
		{"remove key store", func() error { return theirs.RemoveKeyStore(ctx, "cks-1") }, told},
	} {
		test.seen() // now it is cached
		must(t, test.change())
		t.Logf("%s: seen after %v", test.name, eventually(t, test.name, test.seen))
	}
	if now, err := ours.Key(ctx, region, "k2"); err != nil || now != other {
		t.Errorf("a key that nobody changed was read again: %v", err)
	}
}

// TestManyChanges: whoever misses more changes than a row tells of forgets everything.
func TestManyChanges(t *testing.T) {
	database := postgrestest.NewDatabase(t)
	ours, theirs := open(t, database, true), open(t, database, false)
	const keys = 3 * recentChanges
	for i := range keys {
		must(t, theirs.InsertKey(ctx, newKey(fmt.Sprint("k", i))))
		_, err := ours.Key(ctx, region, fmt.Sprint("k", i))
		must(t, err)
	}
	w := <-theirs.writers // the others must wait: all changes are of one row
	for range cap(theirs.writers) - 1 {
		<-theirs.writers
	}
	theirs.writers <- w
	for i := range keys {
		must(t, theirs.UpdateKey(ctx, region, fmt.Sprint("k", i), func(k *service.Key) error {
			k.State = service.StateDisabled
			return nil
		}))
	}
	for i := range keys {
		eventually(t, "disabled", func() bool {
			k, err := ours.Key(ctx, region, fmt.Sprint("k", i))
			return err == nil && k.State == service.StateDisabled
		})
	}
}

// TestLook: rows of another version, of one whose database was restored, and of one that was idle for long.
func TestLook(t *testing.T) {
	d := unwatched(createPostgres(t))
	must(t, d.InsertKey(ctx, newKey("k1")))
	kept := func(row string, before seen, want bool) {
		t.Helper()
		first, err := d.Key(ctx, region, "k1")
		must(t, err)
		must(t, d.exec("DELETE FROM verenc_changes; INSERT INTO verenc_changes VALUES ("+row+", 0)"))
		_, err = d.look(ctx, d.read, before)
		must(t, err)
		second, err := d.Key(ctx, region, "k1")
		must(t, err)
		if (first == second) != want {
			t.Errorf("%s after %v: kept is %v", row, before, first == second)
		}
	}
	kept(`'w', 7, '[[["key","us-east-1","k2"]]]'`, seen{"w": 6}, true)
	kept(`'w', 7, '[[["key","us-east-1","k1"]]]'`, seen{"w": 6}, false)
	kept(`'w', 7, '[[["key","us-east-1","k1"]]]'`, seen{"w": 7}, true)
	kept(`'w', 7, '[[["key","us-east-1","k2"]]]'`, seen{"w": 5}, false) // one is not told of
	kept(`'w', 7, '[[["key","us-east-1","k2"]]]'`, seen{}, false)
	kept(`'w', 1, '[[["key","us-east-1","k2"]]]'`, seen{}, true)
	kept(`'w', 6, '[[["key","us-east-1","k2"]]]'`, seen{"w": 7}, false)
	kept(`'w', 7, '[[["galaxy","x"]]]'`, seen{"w": 6}, false)
	kept(`'w', 7, 'nothing'`, seen{"w": 6}, false)
}

// TestUncertainCommit: the row of a connection whose commit may still happen is nobody's any more.
func TestUncertainCommit(t *testing.T) {
	d, err := Open(ctx, Config{Path: postgrestest.NewDatabase(t), Create: true, Connections: 3})
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	must(t, d.InsertKey(ctx, newKey("k1")))
	writer := func() string {
		w := <-d.writers
		defer func() { d.writers <- w }()
		return w.id
	}
	first := writer()
	refused := fmt.Errorf("refused")
	wantError(t, d.UpdateKey(ctx, region, "k1", func(*service.Key) error { return refused }), refused)
	if writer() != first {
		t.Error("a change that was not tried took the row")
	}
	must(t, d.UpdateKey(ctx, region, "k1", func(*service.Key) error { return nil }))
	if writer() != first {
		t.Error("a change that was made took the row")
	}
	// The database dies between the last statement and the commit.
	wantError(t, d.changing(ctx, "die", &[]touched{}, func(tx *sql.Tx) error {
		_, err := tx.Exec(`CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
			CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON verenc_changes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()`)
		return err
	}), context.DeadlineExceeded)
	if writer() == first {
		t.Error("a change whose outcome is not known left the row in use")
	}
}

// TestDatabaseAway: keys that are cached are used for the grace, and everything heals by itself.
func TestDatabaseAway(t *testing.T) {
	s := postgrestest.Start(t)
	for _, test := range []struct {
		name       string
		grace      time.Duration
		fail, heal func(testing.TB)
	}{
		{"killed", time.Hour, func(t testing.TB) { s.Signal(t, syscall.SIGKILL) }, s.Restart},
		{"killed without grace", 0, func(t testing.TB) { s.Signal(t, syscall.SIGKILL) }, s.Restart},
		{"hangs", 1200 * time.Millisecond, s.Hang, s.Resume},
	} {
		t.Run(test.name, func(t *testing.T) {
			changes := make(chan error, 10)
			d, err := Open(ctx, Config{Path: s.NewDatabase(t), Create: true, Grace: test.grace,
				OnChange: func(err error) { changes <- err }})
			must(t, err)
			t.Cleanup(func() { must(t, d.Close()) })
			must(t, d.InsertKey(ctx, newKey("k1")))
			_, err = d.Key(ctx, region, "k1")
			must(t, err)
			test.fail(t)
			if err := <-changes; err == nil {
				t.Error("no reason")
			}
			soon, cancel := context.WithTimeout(ctx, 3*time.Second)
			defer cancel()
			same := func(*service.Key) error { return nil }
			wantError(t, d.UpdateKey(soon, region, "k1", same), context.DeadlineExceeded)
			if test.grace > time.Minute { // also after the change that failed
				_, err = d.Key(ctx, region, "k1")
				must(t, err)
			}
			eventually(t, "the end of the grace", func() bool { return d.Serves() == (test.grace > time.Minute) })
			if !d.Serves() {
				_, err = d.Key(ctx, region, "k1")
				wantError(t, err, context.DeadlineExceeded)
			}
			test.heal(t)
			began := time.Now()
			if err := <-changes; err != nil {
				t.Errorf("lost again: %v", err)
			}
			must(t, d.UpdateKey(ctx, region, "k1", func(*service.Key) error { return nil }))
			if _, err := d.Key(ctx, region, "k1"); err != nil || !d.Serves() {
				t.Errorf("not healed: %v", err)
			}
			t.Logf("healed after %v", time.Since(began))
		})
	}
}
