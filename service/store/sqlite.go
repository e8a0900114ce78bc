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
	if cfg.Create {
		err = createFile(path)
	} else {
		err = CheckFile(ctx, path)
	}
	if err != nil {
		return err
	}
	d.write = connectSQLite(path, "_txlock=immediate", 1)
	d.read = connectSQLite(path, "_query_only=true", readers)
	if err := migrateSQLite(ctx, d.write, path); err != nil {
		return err
	}
	version, err := d.foreignVersion(ctx)
	d.watch = func(ctx context.Context) { d.watchVersion(ctx, version) }
	return err
}

// createFile makes the file, so that it has its mode from the first moment.
func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		advice := ""
		if errors.Is(err, fs.ErrNotExist) {
			advice = "make the folder " + filepath.Dir(path)
		}
		return advise(fmt.Errorf("create database: %w", err), advice)
	}
	return f.Close()
}

// CheckFile finds what is wrong with a file of SQLite that is to be Verenc's. It leaves another program's file as
// it is.
func CheckFile(ctx context.Context, path string) (err error) {
	path, err = filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return advise(fmt.Errorf("open database: %w", err), "verenc init creates it")
	}
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	db := sql.OpenDB(&sqliteConnector{name: fileURI(path, "_query_only=true")})
	defer func() { err = errors.Join(err, db.Close()) }()
	var application int
	err = db.QueryRowContext(ctx, "SELECT application_id FROM pragma_application_id").Scan(&application)
	if e := (sqlite3.Error{}); errors.As(err, &e) && e.Code == sqlite3.ErrNotADB {
		return advise(fmt.Errorf("open database %s: %w", path, err),
			"set database to a file of its own; if it was Verenc's, restore it from a backup")
	}
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	if application != applicationID {
		return advise(fmt.Errorf("open database: %s is not one of Verenc's, or its creation was broken off", path),
			"set database to a file of its own; if verenc init was broken off, move this one away and run it again")
	}
	return nil
}

// fileURI is the name of a file for SQLite, with options.
func fileURI(path, options string) string {
	query := fmt.Sprintf("mode=rw&_busy_timeout=%d&%s", busyTimeout.Milliseconds(), options)
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query}).String()
}

func connectSQLite(path, options string, connections int) *sql.DB {
	query := fmt.Sprintf("_journal_mode=WAL&_synchronous=FULL&_foreign_keys=true&_cache_size=-%d&_stmt_cache_size=%d&%s",
		pages>>10, statements, options)
	db := sql.OpenDB(&sqliteConnector{name: fileURI(path, query)})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db
}

// migrateSQLite runs the migrations that the file has not had. Its user_version is the number of the last one.
func migrateSQLite(ctx context.Context, db *sql.DB, path string) error {
	var version int
	err := db.QueryRowContext(ctx, "SELECT user_version FROM pragma_user_version").Scan(&version)
	if err != nil {
		return fmt.Errorf("open database %s: %w", path, err)
	}
	all, err := migrationsOf("sqlite")
	if err != nil {
		return err
	}
	if version > len(all) {
		return advise(fmt.Errorf("open database: %s is of a newer version of verenc (schema %d, this one knows %d)",
			path, version, len(all)), "run that version")
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
