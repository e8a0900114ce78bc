package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Backup writes a consistent copy of the database to a new file, while the database is in use.
func (d *DB) Backup(ctx context.Context, path string) error {
	if d.isolation != sql.LevelDefault {
		return errors.New("back up: PostgreSQL does that itself: pg_dump --format=custom --file=FILE DATABASE, while servers may run")
	}
	if err := d.copyTo(ctx, path); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

func (d *DB) copyTo(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	// This process creates the file, so that it has its mode from the beginning; VACUUM INTO
	// accepts an empty file.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: move it away, or name another file", path)
	}
	if err != nil {
		return err
	}
	if _, err = d.write.ExecContext(ctx, "VACUUM INTO ?", path); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// Restore makes a new database from a backup.
func Restore(ctx context.Context, backup, path string) error {
	if IsURL(path) {
		return errors.New("restore: PostgreSQL does that itself: pg_restore --dbname=DATABASE FILE for what pg_dump made; " +
			"for what verenc backup made of SQLite: verenc database move --database FILE --to URL")
	}
	err := CheckFile(ctx, backup)
	if advised := (*Advised)(nil); errors.As(err, &advised) { // its advice is for the database of a server
		err = advise(advised.err, "name a file that verenc backup has made")
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	from, err := Open(ctx, Config{Path: backup})
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	err = from.check(ctx)
	if err == nil {
		err = from.copyTo(ctx, path)
	}
	if err != nil {
		err = fmt.Errorf("restore: %w", err)
	}
	return errors.Join(err, from.Close())
}

// check makes SQLite read and verify the whole file.
func (d *DB) check(ctx context.Context) error {
	var verdict string
	if err := d.read.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("check the database: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("check the database: %s (take another backup)", verdict)
	}
	return nil
}

// rewound are the tables that Rewind brings back, those first that others refer to. What it leaves alone must not go
// back: counters of initialisation vectors, objects of the service itself, custom key stores, which may be connected,
// the tokens' identities, and what tells of the past: records that wait for the audit log, the newest checkpoints of
// audit logs, destruction certificates, and the break-glass credential with its openings.
var rewound = []string{"keys", "aliases", "grants", "key_uses", "principals", "access_keys", "access_key_uses",
	"certificates", "guards", "approval_requests", "approvals"}

// Rewind makes the keys and principals those of a backup of this database, in one transaction. The token's objects
// are left alone: a development server (package softhsm/reset) keeps those of the backup.
func (d *DB) Rewind(ctx context.Context, backup string) (err error) {
	if d.isolation != sql.LevelDefault {
		return errors.New("rewind: only a file of SQLite can be rewound")
	}
	defer d.forget()
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if _, err := conn.ExecContext(ctx, "ATTACH DATABASE ? AS backup", backup); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	defer func() {
		_, detached := conn.ExecContext(context.WithoutCancel(ctx), "DETACH DATABASE backup")
		err = errors.Join(err, detached)
	}()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, "PRAGMA defer_foreign_keys = true"); err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	for _, table := range slices.Backward(rewound) {
		if _, err := tx.ExecContext(ctx, "DELETE FROM main."+table); err != nil {
			return fmt.Errorf("rewind %s: %w", table, err)
		}
	}
	for _, table := range rewound {
		if _, err := tx.ExecContext(ctx, "INSERT INTO main."+table+" SELECT * FROM backup."+table); err != nil {
			return fmt.Errorf("rewind %s: %w", table, err)
		}
	}
	return tx.Commit()
}
