package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// movedTable is a table that Move copies. Rows are compared in the order of key.
type movedTable struct {
	name, key string
	own       string // a column that each database numbers by itself, in the order of key; it is not copied
}

// movedTables are all, those that others refer to first.
var movedTables = []movedTable{
	{name: "keys", key: "region, id"},
	{name: "aliases", key: "account, region, name"},
	{name: "grants", key: "id"},
	{name: "key_uses", key: "region, key_id"},
	{name: "principals", key: "arn"},
	{name: "access_keys", key: "id"},
	{name: "access_key_uses", key: "id"},
	{name: "certificates", key: "fingerprint"},
	{name: "key_stores", key: "id"},
	{name: "service_objects", key: "purpose"},
	{name: "wrapping_keys", key: "cka_id"},
	{name: "iv_leases", key: "material"},
	{name: "pending_records", key: "number", own: "number"},
	{name: "tokens", key: "serial"},
	{name: "audit_logs", key: "log"},
	{name: "guards", key: "account"},
	{name: "approval_requests", key: "number"},
	{name: "approvals", key: "request, approver"},
	{name: "destructions", key: "id"},
	{name: "break_glass_keys", key: "number"},
	{name: "break_glass_openings", key: "id"},
}

// moveMany are the rows of one statement. PostgreSQL takes 65,535 values at most.
const moveMany = 200

// moveTimeout is far more than millions of keys take.
const moveTimeout = 24 * time.Hour

// Move copies a SQLite database into a PostgreSQL database that has no rows yet, in one transaction,
// and compares every row before that is committed. No process may have the file open. It tells moved
// of each table.
func Move(ctx context.Context, path string, to Config, moved func(table string, rows int)) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("move the database: %w", err)
		}
	}()
	if IsURL(path) || !IsURL(to.Path) {
		return errors.New("it goes from a file of SQLite to a PostgreSQL database")
	}
	ctx, cancel := context.WithTimeout(ctx, moveTimeout) // without it, each statement would have one
	defer cancel()
	source, err := Open(ctx, Config{Path: path}) // which brings it up to date
	if err != nil {
		return err
	}
	if err := source.Close(); err != nil {
		return err
	}
	from, err := openAlone(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	to.Create = true
	target, err := Open(ctx, to)
	if errors.Is(err, errIsThere) { // perhaps of a move that failed
		to.Create = false
		target, err = Open(ctx, to)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	return inTransaction(ctx, target.write, sql.LevelDefault, func(tx *sql.Tx) error {
		for _, t := range movedTables {
			rows, err := t.move(ctx, from, tx)
			if err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
			moved(t.name, rows)
		}
		return nil
	})
}

// openAlone opens a file of SQLite that nobody else has open, and keeps it so.
func openAlone(ctx context.Context, path string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db := connectSQLite(path, "_locking_mode=EXCLUSIVE&_txlock=exclusive", 1)
	// A transaction takes the lock; the connection keeps it.
	err = inTransaction(ctx, db, sql.LevelDefault, func(*sql.Tx) error { return nil })
	if classOf(err) == away {
		err = fmt.Errorf("%s is in use: stop the server that has it open (%w)", path, err)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// move copies a table, and compares the copy.
func (t movedTable) move(ctx context.Context, from *sql.DB, tx *sql.Tx) (n int, err error) {
	names, err := from.QueryContext(ctx, "SELECT name FROM pragma_table_info(?) WHERE name <> ?", t.name, t.own)
	columns, err := collect(names, err, func(row scanner) (name string, err error) { return name, row.Scan(&name) })
	if err != nil {
		return 0, err
	}
	var there int
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM "+t.name).Scan(&there); err != nil {
		return 0, err
	}
	if there > 0 {
		return 0, fmt.Errorf("the PostgreSQL database has %d rows in it: name an empty database", there)
	}
	list := strings.Join(columns, ", ")
	var batch []any
	insert := func() error {
		rows := len(batch) / len(columns)
		if rows == 0 {
			return nil
		}
		values := strings.TrimPrefix(strings.Repeat(", "+placeholders(list), rows), ", ")
		_, err := tx.ExecContext(ctx, "INSERT INTO "+t.name+" ("+list+") VALUES "+values, batch...)
		n, batch = n+rows, nil
		return err
	}
	err = t.each(ctx, from, list, len(columns), func(row []any) error {
		if batch = append(batch, row...); len(batch) == moveMany*len(columns) {
			return insert()
		}
		return nil
	})
	if err = errors.Join(err, insert()); err != nil {
		return n, err
	}
	return n, t.compare(ctx, from, tx, list, len(columns), n)
}

// each reads a table in the order of its key.
func (t movedTable) each(
	ctx context.Context, db querier, list string, columns int, f func(row []any) error,
) (err error) {
	rows, err := db.QueryContext(ctx, "SELECT "+list+" FROM "+t.name+" ORDER BY "+t.key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		row, into := make([]any, columns), make([]any, columns)
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
	}
	return rows.Err()
}

var errDiffers = errors.New("the copy differs from the original")

// compare reads both tables side by side.
func (t movedTable) compare(ctx context.Context, from *sql.DB, tx *sql.Tx, list string, columns, want int) error {
	originals, stop := make(chan []any), make(chan struct{})
	read := make(chan error, 1)
	go func() {
		defer close(originals)
		read <- t.each(ctx, from, list, columns, func(row []any) error {
			select {
			case originals <- row:
				return nil
			case <-stop:
				return errDiffers
			}
		})
	}()
	n := 0
	err := t.each(ctx, tx, list, columns, func(copied []any) error {
		original := <-originals // nil at the end
		for i := range original {
			if !equalValues(original[i], copied[i]) {
				return fmt.Errorf("%w in row %d", errDiffers, n+1)
			}
		}
		if n++; original == nil {
			return errDiffers
		}
		return nil
	})
	close(stop)
	for range originals { // at most one more
		err = errors.Join(err, errDiffers)
	}
	if err = errors.Join(err, <-read); err == nil && n != want {
		err = errDiffers
	}
	return err
}

func equalValues(a, b any) bool {
	x, isBytes := a.([]byte)
	if y, ok := b.([]byte); isBytes && ok {
		return bytes.Equal(x, y)
	}
	return !isBytes && a == b
}
