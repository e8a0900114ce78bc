package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/store/postgrestest"
)

// TestNewerSchema: additive migrations of a newer version disturb nobody, and a breaking one ends the
// service of older versions, those that run too.
func TestNewerSchema(t *testing.T) {
	database := postgrestest.NewDatabase(t)
	changes := make(chan error, 10)
	d, err := Open(ctx, Config{Path: database, Create: true, OnChange: func(err error) { changes <- err }})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	must(t, d.InsertKey(ctx, newKey("k1")))
	migrate := func(statements string) { postgrestest.Exec(t, database, statements) }

	migrate(`ALTER TABLE keys ADD COLUMN color TEXT NOT NULL DEFAULT 'red';
		UPDATE verenc_schema SET version = 99, made_by = 'verenc v9.9.9'`)
	older := open(t, database, false)
	must(t, older.InsertKey(ctx, newKey("k2")))
	must(t, d.UpdateKey(ctx, region, "k2", func(*service.Key) error { return nil }))
	_, err = d.Key(ctx, region, "k1")
	must(t, err)

	migrate("UPDATE verenc_schema SET minimum = 99")
	if err := <-changes; !errors.Is(err, ErrOutdated) || !strings.Contains(err.Error(), "was made by verenc v9.9.9") {
		t.Errorf("got %v", err)
	}
	if d.Serves() {
		t.Error("keys are still served")
	}
	_, cached := d.Key(ctx, region, "k1")
	_, read := d.Keys(ctx, account, region, "", 9)
	for what, err := range map[string]error{"ping": d.Ping(ctx), "change": d.InsertKey(ctx, newKey("k3")),
		"cached": cached, "read": read} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", what, err)
		}
	}
	migrate("UPDATE verenc_schema SET minimum = 1") // such as by a restored backup
	if err := <-changes; err != nil {
		t.Errorf("got %v", err)
	}
	must(t, d.Ping(ctx))
	_, err = d.Key(ctx, region, "k1")
	must(t, err)
}

// TestDatabaseWithoutMinimum: a database of before there was the column gets it.
func TestDatabaseWithoutMinimum(t *testing.T) {
	database := postgrestest.NewDatabase(t)
	must(t, open(t, database, true).InsertKey(ctx, newKey("k1")))
	postgrestest.Exec(t, database, "ALTER TABLE verenc_schema DROP COLUMN minimum")
	_, err := open(t, database, false).Key(ctx, region, "k1")
	must(t, err)
}

// TestNewerDocument: a row that a newer version has written is read, and not written back without what
// this one does not know.
func TestNewerDocument(t *testing.T) {
	d := open(t, postgrestest.NewDatabase(t), true)
	must(t, d.InsertKey(ctx, newKey("k1")))
	same := func(*service.Key) error { return nil }
	must(t, d.UpdateKey(ctx, region, "k1", same))
	must(t, d.exec(`UPDATE keys SET details = '{"Color":"red"}'`))
	_, err := d.Key(ctx, region, "k1")
	must(t, err)
	wantError(t, d.UpdateKey(ctx, region, "k1", same), context.DeadlineExceeded)
	must(t, d.RemoveKey(ctx, region, "k1"))
}

// TestCockroachDialect: what CockroachDB lacks is left out for it, and only that.
func TestCockroachDialect(t *testing.T) {
	all, err := migrationsOf("postgres")
	must(t, err)
	for i, m := range all {
		if suited(m.text, "PostgreSQL 15.13") != m.text {
			t.Errorf("migration %d is changed for PostgreSQL", i+1)
		}
		if text := suited(m.text, "CockroachDB CCL v24.3.1"); strings.Contains(text, ` COLLATE "`) {
			t.Errorf("migration %d for CockroachDB:\n%s", i+1, text)
		}
	}
	// Tables without the collation are as good where text is compared byte by byte.
	d, err := Open(ctx, Config{Path: postgrestest.NewDatabase(t), Create: true})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	must(t, d.change(ctx, "make the tables anew", func(tx *sql.Tx) error {
		_, err := tx.Exec("CREATE SCHEMA anew; SET search_path = anew; " + suited(all[0].text, "CockroachDB"))
		return err
	}))
}

// TestMigrationsAreNamed: their order is that of their numbers.
func TestMigrationsAreNamed(t *testing.T) {
	name := regexp.MustCompile(`^[0-9]{4}_[a-z_]+(\.breaking)?\.sql$`)
	for _, dialect := range []string{"sqlite", "postgres"} {
		files, err := migrations.ReadDir("migrations/" + dialect)
		must(t, err)
		for i, f := range files {
			if want := fmt.Sprintf("%04d", i+1); !name.MatchString(f.Name()) || f.Name()[:4] != want {
				t.Errorf("%s/%s is not %s_name.sql or %[3]s_name.breaking.sql", dialect, f.Name(), want)
			}
		}
	}
}
