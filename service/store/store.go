// Package store keeps the metadata of keys, aliases and access keys in one SQLite file, or in a
// PostgreSQL database, which several servers may have open. The statements are SQLite's and
// PostgreSQL's alike; what differs is in sqlite.go and postgres.go.
//
// What it protects: the truth about which keys exist and where their material is. A change is durable
// when its method returns (write-ahead log, synced at each commit), whole or absent, and seen by every
// process that has the database open within a second. It holds no key material and no secret in clear,
// so a copy of it gives nothing away but metadata; a file's mode is 0600 even so. Keys of residency
// wrapped are here, and nowhere else: wrapped by the token, and lost with the database and its
// backups.
//
// What it trusts: the file system, or PostgreSQL, to have stored what it says so of, and whoever may
// write there: a change of a row by other means is believed, except for sealed secrets and
// ciphertexts, which the token proves.
package store

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

const (
	busyTimeout   = 5 * time.Second      // for the locks of others, and for changes that meet others
	retryAfter    = 2 * time.Millisecond // and twice as long each time, up to
	retryAtMost   = 50 * time.Millisecond
	watchInterval = 500 * time.Millisecond // half of the second that the contract allows
)

//go:embed migrations/*/*.sql
var migrations embed.FS

// Config says where the database is.
type Config struct {
	// Path is a file of SQLite, or the URL of a PostgreSQL database, which never holds a password (see
	// CheckURL). Required.
	Path   string
	Create bool // make it; it must not be there. Without Create it must be there.
	// CacheSize is how many keys, aliases and access keys, each, are held in memory. Default 10,000.
	CacheSize int

	// The rest is for PostgreSQL.

	Password       string
	Grace          time.Duration // how long what is cached may be used while the database is away; 0: not at all
	OnChange       func(error)   // is told why the database is away, once, and nil when it is back. May be nil.
	Connections    int           // at most, at once. Default 16.
	ConnectTimeout time.Duration // for one connection. Default 2 s.
}

// DB is an open database. It implements service.Store.
type DB struct {
	// write is one connection of SQLite, so that changes of this process queue here and not at the
	// file's lock. read has others, so that whoever reads during a change always finds one.
	write *sql.DB
	read  *sql.DB
	// isolation of changes makes them serialisable.
	isolation sql.IsolationLevel
	// watch forgets what is cached when another process has changed it, until ctx ends; unwatch frees
	// what it needs.
	watch   func(ctx context.Context)
	unwatch func() error
	writers chan *writer // nil: SQLite tells by itself
	fresh   *freshness   // nil: a file is never away
	id      string       // of this server, as the holder of a lease
	known   int          // how many migrations of PostgreSQL this program has
	// outdated is why this program can't use the database any more, or nil.
	outdated atomic.Pointer[outdatedError]
	// whole reads a document of JSON that is going to be written back.
	whole func(text []byte, v any) error

	beatInterval, leaseTimeout time.Duration // shorter in tests

	keys         *cache[keyName, *service.Key]
	aliases      *cache[aliasName, *service.Alias]
	accessKeys   *cache[string, *iam.AccessKey]
	grants       *cache[keyName, []*service.Grant]
	principals   *cache[string, *iam.Principal]
	certificates *cache[string, []*iam.Certificate] // by the fingerprints of certificates
	guards       *cache[string, *iam.Guard]         // by account; one without a document where there is none
	// policies has the key policies, each under itself: most keys of an account have the same
	// policy, which is held, and parsed, once.
	policies *cache[string, string]
	// keyStores has a value when custom key stores may have changed since it was taken.
	keyStores chan struct{}

	stop     context.CancelFunc
	watching sync.WaitGroup
}

var _ service.Store = (*DB)(nil)

// Open opens or creates a database and brings its schema up to date.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.CacheSize == 0 {
		cfg.CacheSize = 10_000
	}
	d := &DB{
		id: uuid.NewString(), whole: json.Unmarshal, beatInterval: beatInterval, leaseTimeout: leaseTimeout,
		keys:         newCache[keyName, *service.Key](cfg.CacheSize),
		aliases:      newCache[aliasName, *service.Alias](cfg.CacheSize),
		accessKeys:   newCache[string, *iam.AccessKey](cfg.CacheSize),
		grants:       newCache[keyName, []*service.Grant](cfg.CacheSize),
		principals:   newCache[string, *iam.Principal](cfg.CacheSize),
		certificates: newCache[string, []*iam.Certificate](cfg.CacheSize),
		guards:       newCache[string, *iam.Guard](cfg.CacheSize),
		policies:     newCache[string, string](cfg.CacheSize),
		keyStores:    make(chan struct{}, 1),
	}
	open := d.openSQLite
	if IsURL(cfg.Path) {
		open = d.openPostgres
	}
	if err := open(ctx, cfg); err != nil {
		return nil, errors.Join(err, d.closeConnections())
	}
	watch, stop := context.WithCancel(context.Background())
	d.stop = stop
	d.watching.Go(func() { d.watch(watch) })
	return d, nil
}

// Close ends the watch and closes the connections.
func (d *DB) Close() error {
	d.stop()
	d.watching.Wait()
	return d.closeConnections()
}

func (d *DB) closeConnections() error {
	var errs []error
	if d.unwatch != nil {
		errs = append(errs, d.unwatch())
	}
	for _, db := range []*sql.DB{d.read, d.write} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

// migration is a file of migrations.
type migration struct {
	text     string
	breaking bool // programs that don't know it can't use the database; such a file's name ends in .breaking.sql
}

// migrationsOf gives a dialect's migrations: that at i makes schema i+1.
func migrationsOf(dialect string) ([]migration, error) {
	files, err := fs.Glob(migrations, "migrations/"+dialect+"/*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]migration, len(files))
	for i, name := range files {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all[i] = migration{string(text), strings.HasSuffix(name, ".breaking.sql")}
	}
	return all, nil
}

func inTransaction(ctx context.Context, db *sql.DB, isolation sql.IsolationLevel, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: isolation})
	if err != nil {
		return err
	}
	// After a commit it does nothing. If it fails, there is no change either: nothing was committed.
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// change runs a transaction, and says what it did when it fails. A transaction that met another one is
// run again, for as long as the lock of another process is waited for: so f may run several times.
func (d *DB) change(ctx context.Context, doing string, f func(*sql.Tx) error) error {
	err := d.retried(ctx, fenced(ctx, f))
	if classOf(err) != notOurs {
		return fmt.Errorf("%s: %w", doing, busy(err))
	}
	return err
}

func (d *DB) retried(ctx context.Context, f func(*sql.Tx) error) error {
	began, wait := time.Now(), retryAfter
	for {
		err := inTransaction(ctx, d.write, d.isolation, f)
		if classOf(err) != conflict || time.Since(began) > busyTimeout {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)): // so that those who met don't meet again
		}
		wait = min(2*wait, retryAtMost)
	}
}

// each runs f in intervals, until ctx ends.
func (d *DB) each(ctx context.Context, interval time.Duration, f func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}

func (d *DB) forget() {
	d.keys.forgetAll()
	d.aliases.forgetAll()
	d.accessKeys.forgetAll()
	d.grants.forgetAll()
	d.principals.forgetAll()
	d.certificates.forgetAll()
	d.guards.forgetAll()
	d.keyStoresMayDiffer()
}

// Ping proves that the database can be read, and takes a transaction that may write.
func (d *DB) Ping(ctx context.Context) error {
	return d.change(ctx, "ping the database", func(tx *sql.Tx) error {
		var n int
		return tx.QueryRowContext(ctx, "SELECT count(*) FROM service_objects").Scan(&n)
	})
}

func nanos(t time.Time) sql.NullInt64 { return sql.NullInt64{Int64: t.UnixNano(), Valid: !t.IsZero()} }

func fromNanos(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.Unix(0, n.Int64).UTC()
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

// collect reads rows to their end.
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

// one maps the outcome of reading a single row.
func one[T any](v T, err error, what string) (T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return v, service.ErrNoRow
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", what, busy(err))
	}
	return v, nil
}
