package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

const (
	applicationID = 0x564b4d53 // "VKMS", in the header of the file
	readers       = 8          // each with pages of its own in memory
	pages         = 8 << 20    // bytes of them: the inner pages of the trees of some million keys
	statements    = 32         // that a connection keeps prepared; to prepare one takes longer than to read a row
)

// openSQLite opens or creates the file, and brings its schema up to date.
func (d *DB) openSQLite(ctx context.Context, cfg Config) error {
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := checkFile(path, cfg.Create); err != nil {
		return err
	}
	d.write = connectSQLite(path, "_txlock=immediate", 1)
	d.read = connectSQLite(path, "_query_only=true", readers)
	if err := migrateSQLite(ctx, d.write, path, cfg.Create); err != nil {
		return err
	}
	version, err := d.foreignVersion(ctx)
	d.watch = func(ctx context.Context) { d.watchVersion(ctx, version) }
	return err
}

// checkFile makes the file if it is to be made, so that it has its mode from the first moment.
func checkFile(path string, create bool) error {
	if !create {
		_, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open database: %w (verenc init creates it)", err)
		}
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return f.Close()
}

func connectSQLite(path, options string, connections int) *sql.DB {
	query := fmt.Sprintf("mode=rw&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=true&_busy_timeout=%d"+
		"&_cache_size=-%d&_stmt_cache_size=%d&%s", busyTimeout.Milliseconds(), pages>>10, statements, options)
	uri := url.URL{Scheme: "file", Path: path, RawQuery: query}
	db := sql.OpenDB(&sqliteConnector{name: uri.String()})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// migrateSQLite runs the migrations that the file has not had. Its user_version is the number of the last one.
func migrateSQLite(ctx context.Context, db *sql.DB, path string, create bool) error {
	var application, version int
	const query = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
	err := db.QueryRowContext(ctx, query).Scan(&application, &version)
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	if application != applicationID && !create {
		return fmt.Errorf("open database: %s is not one of Verenc's, or its creation was broken off: "+
			"move it away and run verenc init", path)
	}
	all, err := migrationsOf("sqlite")
	if err != nil {
		return err
	}
	if version > len(all) {
		return fmt.Errorf("open database: %s is of a newer version of verenc "+
			"(schema %d, this one knows %d): run that version", path, version, len(all))
	}
	for ; version < len(all); version++ {
		err = inTransaction(ctx, db, sql.LevelDefault, func(tx *sql.Tx) error {
			script := fmt.Sprintf("%s; PRAGMA application_id = %d; PRAGMA user_version = %d",
				all[version].text, applicationID, version+1)
			_, err := tx.ExecContext(ctx, script)
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate database %s to schema %d: %w", path, version+1, err)
		}
	}
	return nil
}

func sqliteClass(e sqlite3.Error) class {
	switch e.ExtendedCode {
	case sqlite3.ErrConstraintPrimaryKey, sqlite3.ErrConstraintUnique:
		return duplicate
	case sqlite3.ErrConstraintForeignKey:
		return noParent
	}
	if e.Code == sqlite3.ErrBusy { // another process has held the lock for busyTimeout
		return away
	}
	return otherError
}

// foreignVersion is a number that changes when another process, and not this one, has committed a
// change: data_version (SQLite page "Pragma statements") of the connection that our own changes go
// through.
func (d *DB) foreignVersion(ctx context.Context) (version int64, err error) {
	err = d.write.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}

// watchVersion forgets what is cached when another process has changed the file.
func (d *DB) watchVersion(ctx context.Context, seen int64) {
	d.each(ctx, watchInterval, func() {
		version, err := d.foreignVersion(ctx)
		if err != nil || version != seen {
			d.forget()
		}
		seen = version
	})
}
