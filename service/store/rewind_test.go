package store

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/verenc/kms/service"
)

// TestRewind: keys and principals go back, with what belongs to them; counters and the service's objects do not.
func TestRewind(t *testing.T) {
	dir := t.TempDir()
	d := open(t, filepath.Join(dir, "db"), true)
	must(t, d.InsertKey(ctx, newKey("k1")))
	alias := &service.Alias{Account: newKey("k1").Account, Region: newKey("k1").Region, Name: "alias/a", KeyID: "k1",
		CreatedAt: time.Unix(1, 0), UpdatedAt: time.Unix(1, 0)}
	must(t, d.InsertAlias(ctx, alias, 50))
	backup := filepath.Join(dir, "backup")
	must(t, d.Backup(ctx, backup))

	for range 2 {
		must(t, d.InsertKey(ctx, newKey("k2")))
		must(t, d.RemoveKey(ctx, alias.Region, "k1"))
		_, err := d.LeaseIVs(ctx, []string{"material"}, 10)
		must(t, err)
		if _, err := d.Key(ctx, alias.Region, "k2"); err != nil { // which is cached from now on
			t.Fatal(err)
		}
		must(t, d.Rewind(ctx, backup))
		if _, err := d.Key(ctx, alias.Region, "k2"); !errors.Is(err, service.ErrNoRow) {
			t.Errorf("the later key: %v", err)
		}
		if a, err := d.Alias(ctx, alias.Account, alias.Region, alias.Name); err != nil || a.KeyID != "k1" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	if totals, err := d.LeaseIVs(ctx, []string{"material"}, 0); err != nil || totals[0] != 20 {
		t.Errorf("leases went back: %v, %v", totals, err)
	}
	if err := d.Rewind(ctx, filepath.Join(dir, "none")); err == nil {
		t.Error("it goes back to a file that is not there")
	}
	if _, err := d.Key(ctx, alias.Region, "k1"); err != nil {
		t.Error(err)
	}
}

// TestRewindKnowsAllTables: each table goes back, or is left alone on purpose.
func TestRewindKnowsAllTables(t *testing.T) {
	left := []string{"service_objects", "key_stores", "wrapping_keys", "iv_leases", "pending_records", "tokens",
		"audit_logs", "destructions", "break_glass_keys", "break_glass_openings"}
	d := open(t, filepath.Join(t.TempDir(), "db"), true)
	rows, err := d.read.QueryContext(ctx, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
	tables, err := collect(rows, err, func(row scanner) (name string, err error) {
		err = row.Scan(&name)
		return name, err
	})
	must(t, err)
	for _, table := range tables {
		if slices.Contains(left, table) == slices.Contains(rewound, table) {
			t.Errorf("%s is in both lists, or in none", table)
		}
	}
	if len(tables) != len(left)+len(rewound) {
		t.Errorf("the database has the tables %q", tables)
	}
}
