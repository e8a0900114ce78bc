package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	lookInterval = 300 * time.Millisecond
	lookTimeout  = time.Second // of a look, a connection included
	// promised is how old what is cached may be while the database answers. It has room for a slow look.
	promised = time.Second
	// changesKept is how long a row of verenc_changes lives that no connection uses any more.
	changesKept = 24 * time.Hour
)

// errStale is of a server that can't tell any more whether what it has cached is still so.
var errStale = awayError{errors.New("what is cached is older than database_grace allows")}

// freshness is when what is cached was last known to be so.
type freshness struct {
	at    atomic.Pointer[time.Time] // nil: never
	limit time.Duration
	grace time.Duration
}

// age is by the clock that ran more: the monotonic one stands still while a machine is suspended, the
// other one can be set.
func (f *freshness) age() time.Duration {
	at := f.at.Load()
	if at == nil {
		return time.Duration(1<<63 - 1)
	}
	now := time.Now()
	return max(now.Sub(*at), now.Round(0).Sub(at.Round(0)))
}

func (f *freshness) check() error {
	if f.age() > f.limit {
		return errStale
	}
	return nil
}

// Age tells how old what is cached may be. With SQLite that is never more than the contract of
// service.Store allows.
func (d *DB) Age() time.Duration {
	if d.fresh == nil {
		return 0
	}
	return d.fresh.age()
}

// Serves tells whether keys that are cached may be used, although the database may be away.
func (d *DB) Serves() bool { return d.fresh != nil && d.fresh.check() == nil }

// postgresWatch looks for changes on a connection of its own: what kept it from looking shows, and is
// not made good by another connection, perhaps to another server that lacks the last changes of the
// first one.
type postgresWatch struct {
	d        *DB
	db       *sql.DB
	conn     *sql.Conn // nil: there is none
	seen     seen
	onChange func(error)
	lost     bool
	outdated bool // what was told last is ErrOutdated
	cleared  time.Time
}

func (w *postgresWatch) run(ctx context.Context) {
	w.d.each(ctx, lookInterval, func() { _ = w.step(ctx) }) // onChange has told
}

// step looks once.
func (w *postgresWatch) step(ctx context.Context) error {
	began := time.Now()
	err := w.look(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		w.d.fresh.at.Store(&began)
		if w.lost {
			w.lost, w.outdated = false, false
			w.onChange(nil)
		}
		w.clear(ctx)
		return nil
	case w.d.fresh.grace == 0, errors.Is(err, ErrOutdated):
		w.d.fresh.at.Store(nil)
	}
	if outdated := errors.Is(err, ErrOutdated); !w.lost || outdated != w.outdated {
		w.lost, w.outdated = true, outdated
		w.onChange(err)
	}
	return err
}

func (w *postgresWatch) look(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	connected := w.conn == nil
	if connected {
		if w.conn, err = w.db.Conn(ctx); err != nil {
			return fmt.Errorf("connect: %w", err)
		}
	}
	var outdated outdatedError
	_, err = readSchema(w.conn.QueryRowContext(ctx, "SELECT "+schemaColumns+" FROM verenc_schema"), w.d.known)
	if errors.As(err, &outdated) {
		w.d.outdated.Store(&outdated)
		return err
	}
	seen := w.seen
	if err == nil {
		w.d.outdated.Store(nil)
		seen, err = w.d.look(ctx, w.conn, w.seen)
	}
	if err != nil {
		_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // so that it is not used again
		_ = w.conn.Close()                                           // it is bad
		w.conn = nil
		return err
	}
	if connected { // a new primary server may have lost changes of the old one
		w.d.forget()
	}
	w.seen = seen
	return nil
}

// clear removes the rows of connections that are gone. One that is not, but idle, makes its row again.
func (w *postgresWatch) clear(ctx context.Context) {
	if time.Since(w.cleared) < changesKept/24 {
		return
	}
	w.cleared = time.Now()
	_ = w.d.change(ctx, "remove old rows of changes", func(tx *sql.Tx) error { // whose only harm is that they are read
		before := time.Now().Add(-changesKept)
		_, err := tx.ExecContext(ctx, "DELETE FROM verenc_changes WHERE at < ?", before.UnixNano())
		return err
	})
}

func (w *postgresWatch) close() error {
	if w.conn != nil {
		_ = w.conn.Close() // so does closing the DB
	}
	return w.db.Close()
}
