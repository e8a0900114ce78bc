package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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
