package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/mattn/go-sqlite3"

	"github.com/verenc/kms/service"
)

// class is what an error of a database means, in either dialect.
type class int

const (
	notOurs    class = iota // no error, or not one of the database
	otherError              // of the database, and nothing below
	duplicate               // a unique key is there already
	noParent                // a foreign key refers to nothing
	conflict                // the transaction met another one, changed nothing, and may be run again
	away                    // the database doesn't answer, or not yet; the same may succeed later
)

func classOf(err error) class {
	if e := (sqlite3.Error{}); errors.As(err, &e) {
		return sqliteClass(e)
	}
	if e := (*pgconn.PgError)(nil); errors.As(err, &e) {
		return postgresClass(e.Code)
	}
	if e := (awayError{}); errors.As(err, &e) || errors.Is(err, driver.ErrBadConn) || errors.Is(err, ErrOutdated) {
		return away
	}
	return notOurs
}

// awayError is of a database that doesn't answer. For whoever asked, it is a timeout.
type awayError struct{ cause error }

func (e awayError) Error() string        { return "the database does not answer: " + e.cause.Error() }
func (e awayError) Unwrap() error        { return e.cause }
func (e awayError) Is(target error) bool { return target == context.DeadlineExceeded }

// busy marks an error that a client may try again: the database is away, or others held what was
// needed for too long.
func busy(err error) error {
	switch classOf(err) {
	case away:
		if errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		return awayError{err}
	case conflict:
		return fmt.Errorf("wait for other transactions: %w: %w", err, context.DeadlineExceeded)
	}
	return err
}

// constraintError maps a violated primary key to service.ErrExists, and a violated foreign key to
// service.ErrNoRow.
func constraintError(err error) error {
	switch classOf(err) {
	case duplicate:
		return service.ErrExists
	case noParent:
		return service.ErrNoRow
	}
	return err
}

// Advised is an error with what to do about it, which its text has in brackets.
type Advised struct {
	err    error
	advice string
}

// advise gives err an advice, unless that is empty.
func advise(err error, advice string) error {
	if advice == "" {
		return err
	}
	return &Advised{err, advice}
}

func (e *Advised) Error() string { return e.err.Error() + " (" + e.advice + ")" }

func (e *Advised) Unwrap() error { return e.err }

// Advice returns what to do.
func (e *Advised) Advice() string { return e.advice }
