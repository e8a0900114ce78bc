package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"strings"

	"github.com/mattn/go-sqlite3"

	"github.com/verenc/kms/service/span"
)

// Values of db.system.name (OpenTelemetry's semantic conventions, "Database").
const (
	sqliteSystem   = "sqlite"
	postgresSystem = "postgresql"
)

// statement begins the span of a statement that a request waits for. Statements of this package have question marks
// in the place of values, so a span may have their text.
func statement(ctx context.Context, system, query string) *span.Span {
	parent := span.Of(ctx)
	if parent == nil {
		return nil
	}
	operation, _, _ := strings.Cut(strings.TrimSpace(query), " ")
	s := span.Call(ctx, "store "+operation)
	s.Set("db.system.name", system)
	s.Set("db.operation.name", operation)
	s.Set("db.query.text", query)
	return s
}

func failure(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "timeout"
	}
	return span.Other
}

// spannedRows ends the span of a query when its rows were read.
type spannedRows struct {
	driver.Rows
	span *span.Span
}

// Close implements driver.Rows.
func (r spannedRows) Close() error {
	err := r.Rows.Close()
	r.span.End(failure(err))
	return err
}

// rowsOf gives rows that end a span, if there is one.
func rowsOf(s *span.Span, rows driver.Rows, err error) (driver.Rows, error) {
	if err != nil {
		s.End(failure(err))
		return nil, err
	}
	if s == nil {
		return rows, nil
	}
	return spannedRows{rows, s}, nil
}

// spannedTx has a span of its commit.
type spannedTx struct {
	driver.Tx
	ctx    context.Context // of BeginTx
	system string
}

// Commit implements driver.Tx.
func (t spannedTx) Commit() error {
	s := statement(t.ctx, t.system, "COMMIT")
	err := t.Tx.Commit()
	s.End(failure(err))
	return err
}

// txOf ends a span, and gives a transaction that has spans, too.
func txOf(ctx context.Context, s *span.Span, system string, tx driver.Tx, err error) (driver.Tx, error) {
	s.End(failure(err))
	if s == nil || err != nil {
		return tx, err
	}
	return spannedTx{tx, ctx, system}, nil
}

// sqliteConnector opens connections to a file whose statements have spans.
type sqliteConnector struct {
	driver sqlite3.SQLiteDriver
	name   string
}

// Connect implements driver.Connector.
func (c *sqliteConnector) Connect(context.Context) (driver.Conn, error) {
	conn, err := c.driver.Open(c.name)
	if err != nil {
		return nil, err
	}
	return sqliteConn{conn.(*sqlite3.SQLiteConn)}, nil // which the driver's documentation says
}

// Driver implements driver.Connector.
func (c *sqliteConnector) Driver() driver.Driver { return &c.driver }

type sqliteConn struct{ *sqlite3.SQLiteConn }

// ExecContext implements driver.ExecerContext.
func (c sqliteConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	s := statement(ctx, sqliteSystem, query)
	r, err := c.SQLiteConn.ExecContext(ctx, query, args)
	s.End(failure(err))
	return r, err
}

// QueryContext implements driver.QueryerContext.
func (c sqliteConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	s := statement(ctx, sqliteSystem, query)
	rows, err := c.SQLiteConn.QueryContext(ctx, query, args)
	return rowsOf(s, rows, err)
}

// BeginTx implements driver.ConnBeginTx.
func (c sqliteConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	s := statement(ctx, sqliteSystem, "BEGIN")
	tx, err := c.SQLiteConn.BeginTx(ctx, o)
	return txOf(ctx, s, sqliteSystem, tx, err)
}
