package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/verenc/kms/service"
)

// Servers that share a database tell each other what they change, in the transaction that changes it.
// Each connection that writes has a row in verenc_changes, with the number of its changes and what the
// newest of them touched. Only one transaction at a time updates a row, so that nobody waits for
// another one's, numbers become visible in their order, and one that was seen is committed. Every
// server reads the few rows several times a second. Nothing of it is PostgreSQL's alone, as LISTEN and
// NOTIFY are; these also make all commits wait for each other.

// touched is what a change may have made stale in a cache: a kind, and the name that the cache has for it.
type touched []string

// Kinds of touched. A server that doesn't know one, of a newer version, forgets everything.
const (
	kindKey          = "key"         // region, id
	kindGrants       = "grants"      // of a key: region, id
	kindAlias        = "alias"       // account, region, name
	kindAliases      = "aliases"     // all
	kindAccessKey    = "access key"  // id
	kindAccessKeys   = "access keys" // all
	kindPrincipal    = "principal"   // ARN
	kindCertificate  = "certificate" // fingerprint
	kindCertificates = "certificates"
	kindKeyStores    = "key stores" // all
	kindGuard        = "guard"      // account
)

// drop forgets what was touched.
func (d *DB) drop(t touched) {
	is := func(kind string, names int) bool { return len(t) == names+1 && t[0] == kind }
	switch {
	case is(kindKey, 2):
		d.keys.forget(keyName{t[1], t[2]})
	case is(kindGrants, 2):
		d.grants.forget(keyName{t[1], t[2]})
	case is(kindAlias, 3):
		d.aliases.forget(aliasName{t[1], t[2], t[3]})
	case is(kindAliases, 0):
		d.aliases.forgetAll()
	case is(kindAccessKey, 1):
		d.accessKeys.forget(t[1])
	case is(kindAccessKeys, 0):
		d.accessKeys.forgetAll()
	case is(kindPrincipal, 1):
		d.principals.forget(t[1])
	case is(kindCertificates, 0), is(kindCertificate, 1): // a mapping is one of many certificates
		d.certificates.forgetAll()
	case is(kindGuard, 1):
		d.guards.forget(t[1])
	case is(kindKeyStores, 0):
		d.keyStoresMayDiffer()
	default:
		d.forget()
	}
}

// recentChanges are told of in a row. Whoever has missed more forgets everything.
const recentChanges = 16

// writer is a row of verenc_changes, and the right to update it.
type writer struct {
	id     string
	n      int64
	recent [][]touched // of the newest changes, the newest last
}

func newWriter() *writer { return &writer{id: uuid.NewString()} }

// newWriters gives each connection that writes a row.
func newWriters(connections int) chan *writer {
	free := make(chan *writer, connections)
	for range connections {
		free <- newWriter()
	}
	return free
}

// announce is the last statement of a change. The row's number is not changed before the commit.
func (w *writer) announce(ctx context.Context, tx *sql.Tx, what []touched) (next *writer, err error) {
	kept := w.recent[max(0, len(w.recent)+1-recentChanges):]
	next = &writer{id: w.id, n: w.n + 1, recent: append(slices.Clone(kept), what)}
	recent, err := json.Marshal(next.recent)
	if err != nil {
		return nil, err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO verenc_changes (writer, n, recent, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (writer) DO UPDATE SET n = excluded.n, recent = excluded.recent, at = excluded.at`,
		next.id, next.n, string(recent), time.Now().UnixNano())
	return next, err
}

// changing is change for what caches hold. What was touched is asked for when f has run. It is told to
// other servers, and forgotten here, also when the commit failed, since that may have happened, and when
// there was no row: another server has removed it, and what is cached is older. Whatever else never came
// to the commit is kept: a change that fails since the database is away must not end the uses of a key.
func (d *DB) changing(ctx context.Context, doing string, what *[]touched, f func(*sql.Tx) error) error {
	forget := func() {
		for _, t := range *what {
			d.drop(t)
		}
	}
	if d.writers == nil {
		defer forget()
		return d.change(ctx, doing, f)
	}
	var w *writer
	select {
	case w = <-d.writers:
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	}
	var next *writer
	free := newWriter() // after a commit that may still happen, or a panic: nobody else may update the row then
	defer func() { d.writers <- free }()
	err := d.change(ctx, doing, func(tx *sql.Tx) (err error) {
		if err = f(tx); err == nil {
			next, err = w.announce(ctx, tx, *what)
		}
		return err
	})
	if next != nil || errors.Is(err, service.ErrNoRow) {
		forget()
	}
	switch {
	case err == nil:
		free = next
	case next == nil:
		free = w
	}
	return err
}

// seen is what a server knows of the changes of others: the number of each row.
type seen map[string]int64

// look reads the rows, and forgets what changes have touched that were not seen before.
func (d *DB) look(ctx context.Context, db interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, before seen) (seen, error) {
	rows, err := db.QueryContext(ctx, "SELECT writer, n, recent FROM verenc_changes")
	type change struct {
		writer, recent string
		n              int64
	}
	all, err := collect(rows, err, func(row scanner) (c change, err error) {
		err = row.Scan(&c.writer, &c.n, &c.recent)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for changes of other servers: %w", err)
	}
	now := seen{}
	for _, c := range all {
		now[c.writer] = c.n
		missed := c.n - before[c.writer]
		if missed == 0 {
			continue
		}
		var recent [][]touched
		if err := json.Unmarshal([]byte(c.recent), &recent); err != nil || missed < 0 || missed > int64(len(recent)) {
			d.forget()
			continue
		}
		for _, change := range recent[int64(len(recent))-missed:] {
			for _, t := range change {
				d.drop(t)
			}
		}
	}
	return now, nil
}
