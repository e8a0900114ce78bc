package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// postgresConnector connects to PostgreSQL. Its connections take the statements of this package as
// SQLite does: with question marks, truth values that are numbers, and text of any bytes. They begin
// nothing while usable says why not.
type postgresConnector struct {
	driver.Connector
	usable func() error
}

// Connect implements driver.Connector.
func (c postgresConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, answered(ctx, err)
	}
	pgx, ok := conn.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("connect to the database: a connection is a %T", conn), conn.Close())
	}
	return postgresConn{pgx, c.usable}, nil
}

type postgresConn struct {
	*stdlib.Conn
	usable func() error
}

// CheckNamedValue implements driver.NamedValueChecker.
func (postgresConn) CheckNamedValue(v *driver.NamedValue) error {
	value, err := driver.DefaultParameterConverter.ConvertValue(v.Value)
	switch x := value.(type) {
	case bool:
		value = int64(0)
		if x {
			value = int64(1)
		}
	case string:
		value = escape(x)
	}
	v.Value = value
	return err
}

// unboundedTimeout is for statements and transactions of callers that set no time of their own: a
// connection that was cut without a word would else hold them for the quarter of an hour in which TCP
// gives up.
const unboundedTimeout = 30 * time.Second

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, unboundedTimeout)
}

// ExecContext implements driver.ExecerContext.
func (c postgresConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	s := statement(ctx, postgresSystem, query)
	r, err := c.Conn.ExecContext(ctx, numbered(query, len(args)), args)
	err = c.lost(answered(ctx, err))
	s.End(failure(err))
	return r, err
}

// QueryContext implements driver.QueryerContext.
func (c postgresConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	s := statement(ctx, postgresSystem, query)
	rows, err := c.Conn.QueryContext(ctx, numbered(query, len(args)), args)
	if err != nil {
		defer cancel() // answered asks whether the time is over
		return rowsOf(s, nil, c.lost(answered(ctx, err)))
	}
	return rowsOf(s, postgresRows{rows, ctx, cancel}, nil)
}

// BeginTx implements driver.ConnBeginTx.
func (c postgresConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	s := statement(ctx, postgresSystem, "BEGIN")
	tx, err := c.Conn.BeginTx(ctx, o)
	if err != nil {
		defer cancel() // answered asks whether the time is over
		return txOf(ctx, s, postgresSystem, nil, c.lost(answered(ctx, err)))
	}
	return txOf(ctx, s, postgresSystem, postgresTx{tx, ctx, cancel}, nil)
}

// lost lets database/sql use another connection in the place of one that was lost while it was idle. A
// statement has no effect before its transaction is committed, so that it may be sent again; those of
// this package that change something are in one.
func (c postgresConn) lost(err error) error {
	if classOf(err) == away && c.Conn.Conn().IsClosed() {
		return fmt.Errorf("%w: %w", driver.ErrBadConn, err)
	}
	return err
}

type postgresTx struct {
	driver.Tx
	ctx    context.Context // of BeginTx
	cancel context.CancelFunc
}

// Commit implements driver.Tx.
func (t postgresTx) Commit() error {
	defer t.cancel()
	return answered(t.ctx, t.Tx.Commit())
}

// Rollback implements driver.Tx.
func (t postgresTx) Rollback() error {
	defer t.cancel()
	return t.Tx.Rollback()
}

type postgresRows struct {
	driver.Rows
	ctx    context.Context // of the query
	cancel context.CancelFunc
}

// Close implements driver.Rows.
func (r postgresRows) Close() error {
	defer r.cancel()
	return r.Rows.Close()
}

// Next implements driver.Rows.
func (r postgresRows) Next(dest []driver.Value) error {
	err := r.Rows.Next(dest)
	if errors.Is(err, io.EOF) {
		return err
	}
	for i, v := range dest {
		if text, ok := v.(string); ok && err == nil {
			dest[i], err = unescape(text)
		}
	}
	return answered(r.ctx, err)
}

// answered tells what the database answered from what kept it from answering. The end of the caller's
// own time is neither.
func answered(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, driver.ErrBadConn) || errors.Is(err, errEscaped) {
		return err
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	// An error while connecting is of the database's state even if it answered. classOf finds the
	// answer's code first, if it has one.
	if answer := (*pgconn.PgError)(nil); errors.As(err, &answer) && postgresClass(answer.Code) != away {
		return err
	}
	return awayError{err}
}

var numberedQueries sync.Map // string to string

// numbered gives a query PostgreSQL's placeholders. The queries of this package have question marks
// for nothing else.
func numbered(query string, args int) string {
	if args == 0 {
		return query
	}
	if known, ok := numberedQueries.Load(query); ok {
		return known.(string)
	}
	var b strings.Builder
	n := 0
	for _, c := range []byte(query) {
		if c != '?' {
			b.WriteByte(c)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	numberedQueries.Store(query, b.String())
	return b.String()
}

// PostgreSQL's text has no zero bytes, and none that aren't UTF-8; SQLite's has. Such a byte, and
// escapeMark itself, which no text of an honest user has, are written as escapeMark and two
// hexadecimal digits. All other text is stored as it is.
const escapeMark = '\x1a'

var errEscaped = errors.New("text with a broken escape")

func escape(s string) string {
	if utf8.ValidString(s) && !strings.ContainsAny(s, "\x00\x1a") {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == 0 || r == escapeMark || r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, "%c%02x", escapeMark, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

func unescape(s string) (string, error) {
	if strings.IndexByte(s, escapeMark) < 0 {
		return s, nil
	}
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, string(escapeMark))
		b.WriteString(before)
		if !found {
			return b.String(), nil
		}
		if len(after) < 2 {
			return "", errEscaped
		}
		v, err := strconv.ParseUint(after[:2], 16, 8)
		if err != nil {
			return "", errEscaped
		}
		b.WriteByte(byte(v))
		s = after[2:]
	}
}
