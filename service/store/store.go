// Package store keeps the service's metadata in one SQLite file.
//
// What it protects: the record of which keys exist and where their material is. A change is durable
// when its method returns (write-ahead log, synced at each commit), atomic, and seen within a
// second by every process that has the file open. The file has no key material and no secret in
// clear: who gets a copy learns only metadata. Its mode is 0600 nevertheless. Keys of residency
// wrapped are only here, wrapped by the token: they are lost with the file and its backups.
//
// What it trusts: the file system to sync when it says so, and everyone who may write the file. A
// row that is changed by other means is believed, except for sealed secrets and ciphertexts, which
// the token verifies.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

const (
	applicationID = 0x564b4d53 // "VKMS", in the header of the file
	busyTimeout   = 5 * time.Second
	readers       = 8
	watchInterval = 500 * time.Millisecond // half of the second that the contract allows
)

//go:embed migrations/*.sql
var migrations embed.FS

// Config is the configuration of a database.
type Config struct {
	Path   string // required
	Create bool   // create the file, which must not exist; without Create it must exist
	// CacheSize is the number of rows of each kind that are held in memory. Default 10,000.
	CacheSize int
}

// DB is an open database. It implements service.Store.
type DB struct {
	// write has one connection, so that the changes of this process wait here and not for the
	// file's lock.
	write *sql.DB
	read  *sql.DB

	keys         *cache[keyName, *service.Key]
	aliases      *cache[aliasName, *service.Alias]
	accessKeys   *cache[string, *iam.AccessKey]
	grants       *cache[keyName, []*service.Grant]
	principals   *cache[string, *iam.Principal]
	certificates *cache[string, *iam.Certificate]
	// policies has key policies, each mapped to itself: most keys of an account have the same
	// policy, which is so held, and parsed, only once.
	policies *cache[string, string]

	stop     context.CancelFunc
	watching sync.WaitGroup
}

var _ service.Store = (*DB)(nil)

// Open opens or creates a database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 10_000
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := checkFile(path, cfg.Create); err != nil {
		return nil, err
	}
	d := &DB{
		keys:         newCache[keyName, *service.Key](cfg.CacheSize),
		aliases:      newCache[aliasName, *service.Alias](cfg.CacheSize),
		accessKeys:   newCache[string, *iam.AccessKey](cfg.CacheSize),
		grants:       newCache[keyName, []*service.Grant](cfg.CacheSize),
		principals:   newCache[string, *iam.Principal](cfg.CacheSize),
		certificates: newCache[string, *iam.Certificate](cfg.CacheSize),
		policies:     newCache[string, string](cfg.CacheSize),
	}
	if d.write, err = connect(path, "_txlock=immediate", 1); err != nil {
		return nil, err
	}
	if d.read, err = connect(path, "_query_only=true", readers); err != nil {
		return nil, errors.Join(err, d.write.Close())
	}
	if err := migrate(ctx, d.write, path, cfg.Create); err != nil {
		return nil, errors.Join(err, d.write.Close(), d.read.Close())
	}
	version, err := d.foreignVersion(ctx)
	if err != nil {
		return nil, errors.Join(err, d.write.Close(), d.read.Close())
	}
	watch, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.watching.Go(func() { d.watch(watch, version) })
	return d, nil
}

// Close closes the file.
func (d *DB) Close() error {
	d.stop()
	d.watching.Wait()
	return errors.Join(d.read.Close(), d.write.Close())
}

// checkFile creates the file if Config says so, so that it has its mode from the beginning.
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

func connect(path, options string, connections int) (*sql.DB, error) {
	query := fmt.Sprintf("mode=rw&_journal_mode=WAL&_synchronous=FULL&_foreign_keys=true&_busy_timeout=%d&%s",
		busyTimeout.Milliseconds(), options)
	uri := url.URL{Scheme: "file", Path: path, RawQuery: query}
	db, err := sql.Open("sqlite3", uri.String())
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// migrate runs the migrations that are new to the file. Its user_version is the number of the last
// one that was run.
func migrate(ctx context.Context, db *sql.DB, path string, create bool) error {
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
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	if version > len(files) {
		return fmt.Errorf("open database: %s is of a newer version of verenc "+
			"(schema %d, this one knows %d): run that version", path, version, len(files))
	}
	for i, name := range files[version:] {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		err = inTransaction(ctx, db, func(tx *sql.Tx) error {
			script := fmt.Sprintf("%s; PRAGMA application_id = %d; PRAGMA user_version = %d",
				text, applicationID, version+i+1)
			_, err := tx.ExecContext(ctx, script)
			return err
		})
		if err != nil {
			return fmt.Errorf("migrate database %s to schema %d: %w", path, version+i+1, err)
		}
	}
	return nil
}

func inTransaction(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return busy(err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // if it fails, there is no change either: nothing was committed
		return err
	}
	return busy(tx.Commit())
}

// busy adds context.DeadlineExceeded to the error for another process's lock that was not released
// in time.
func busy(err error) error {
	if e := (sqlite3.Error{}); errors.As(err, &e) && e.Code == sqlite3.ErrBusy {
		return fmt.Errorf("wait for the database's lock: %w: %w", err, context.DeadlineExceeded)
	}
	return err
}

// change runs a transaction. doing is what it does, for errors of the database.
func (d *DB) change(ctx context.Context, doing string, f func(*sql.Tx) error) error {
	err := inTransaction(ctx, d.write, f)
	if errors.As(err, &sqlite3.Error{}) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return err
}

// foreignVersion is a number that changes when another process has committed a change, but not when
// this one has: data_version (SQLite page "Pragma statements") of the connection that makes the
// changes of this process.
func (d *DB) foreignVersion(ctx context.Context) (version int64, err error) {
	err = d.write.QueryRowContext(ctx, "PRAGMA data_version").Scan(&version)
	return version, err
}

// watch empties the caches when another process has changed the file.
func (d *DB) watch(ctx context.Context, seen int64) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		version, err := d.foreignVersion(ctx)
		if err != nil || version != seen {
			d.forget()
		}
		seen = version
	}
}

func (d *DB) forget() {
	d.keys.forgetAll()
	d.aliases.forgetAll()
	d.accessKeys.forgetAll()
	d.grants.forgetAll()
	d.principals.forgetAll()
	d.certificates.forgetAll()
}

// Ping proves that the file can be read, and locked for writing.
func (d *DB) Ping(ctx context.Context) error {
	err := inTransaction(ctx, d.write, func(tx *sql.Tx) error {
		var n int
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM service_objects").Scan(&n)
	})
	if err != nil {
		return fmt.Errorf("ping the database: %w", err)
	}
	return nil
}

func nanos(t time.Time) sql.NullInt64 { return sql.NullInt64{Int64: t.UnixNano(), Valid: !t.IsZero()} }

func fromNanos(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.Unix(0, n.Int64).UTC()
}

// constraintError maps a violated primary key to service.ErrExists, and a violated foreign key to
// service.ErrNoRow.
func constraintError(err error) error {
	if e := (sqlite3.Error{}); errors.As(err, &e) {
		switch e.ExtendedCode {
		case sqlite3.ErrConstraintPrimaryKey, sqlite3.ErrConstraintUnique:
			return service.ErrExists
		case sqlite3.ErrConstraintForeignKey:
			return service.ErrNoRow
		}
	}
	return err
}

// affected returns service.ErrNoRow if a statement affected no row.
func affected(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return service.ErrNoRow
}

// collect reads all rows of a query.
func collect[T any](rows *sql.Rows, err error, scan func(scanner) (T, error)) (all []T, _ error) {
	if err != nil {
		return nil, busy(err)
	}
	defer rows.Close()
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, busy(rows.Err())
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(...any) error }

// one maps the error of reading a single row.
func one[T any](v T, err error, what string) (T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return v, service.ErrNoRow
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", what, busy(err))
	}
	return v, nil
}
