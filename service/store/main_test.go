package store

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/store/postgrestest"
)

// TestSQLite runs the contract's tests against SQLite.
func TestSQLite(t *testing.T) {
	contract(t, func(t *testing.T) service.Store { return create(t) })
}

// TestPostgres runs them against PostgreSQL.
func TestPostgres(t *testing.T) {
	contract(t, func(t *testing.T) service.Store { return createPostgres(t) })
}

// onBoth runs a test with the address of a database of each kind, which is still to be made.
func onBoth(t *testing.T, test func(t *testing.T, database string)) {
	t.Run("SQLite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "db")) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, postgrestest.NewDatabase(t)) })
}

func createPostgres(t testing.TB) *DB {
	t.Helper()
	return open(t, postgrestest.NewDatabase(t), true)
}

// unwatched ends the watch of a DB, so that it forgets only what the test makes it forget.
func unwatched(d *DB) *DB {
	d.stop()
	d.watching.Wait()
	if d.fresh != nil {
		d.fresh.limit = time.Hour
	}
	return d
}

func create(t testing.TB) *DB {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "a b?c#d%41.db"), true)
}

func open(t testing.TB, path string, create bool) *DB {
	t.Helper()
	d, err := Open(context.Background(), Config{Path: path, Create: create})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}
