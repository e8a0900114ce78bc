package store

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
)

// Servers of two versions may share a database while they are upgraded one after the other. The one
// row of verenc_schema says what they need to know: the number of the last migration, which program
// ran it, and the number of the last one that is breaking. Who knows that one can use the database,
// whatever additive migrations came after it. Others don't start, and stop serving within a look when
// they run. What makes a migration additive is in CONTRIBUTING.md.

// schema is the row of verenc_schema.
type schema struct {
	version int    // the number of the last migration
	minimum int    // a program must know the migrations up to this one
	madeBy  string // the program that ran the last one
}

const schemaColumns = "version, minimum, made_by"

// ErrOutdated is of a database that only newer versions of this program may use.
var ErrOutdated = errors.New("this version of verenc is too old for the database")

// outdatedError is ErrOutdated. To whoever asks a running server it is a timeout: another server may
// be newer.
type outdatedError struct {
	schema
	known int
}

func (e outdatedError) Error() string {
	return fmt.Sprintf("its schema %d was made by %s, and only versions of verenc that know schema %d can use it; "+
		"this one knows %d (%s)", e.version, e.madeBy, e.minimum, e.known, e.Advice())
}

// Advice returns what to do.
func (e outdatedError) Advice() string { return "run that version, or a newer one" }

func (e outdatedError) Is(target error) bool {
	return target == ErrOutdated || target == context.DeadlineExceeded
}

// readSchema reads the row with a query, and checks it.
func readSchema(row scanner, known int) (s schema, err error) {
	if err := row.Scan(&s.version, &s.minimum, &s.madeBy); err != nil {
		return s, fmt.Errorf("read the schema's version: %w", err)
	}
	if s.minimum > known {
		return s, outdatedError{s, known}
	}
	return s, nil
}

// usable is ErrOutdated when the watch has found that.
func (d *DB) usable() error {
	if outdated := d.outdated.Load(); outdated != nil {
		return *outdated
	}
	return nil
}

// unmarshalWhole refuses a document with members that v has no place for: a newer version wrote it,
// and they would be lost when it is written back.
func unmarshalWhole(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("a newer version of verenc has written what this one would lose: %w: %w", err,
			context.DeadlineExceeded)
	}
	return nil
}

// ErrEmpty means that a PostgreSQL database has no tables, and was to be opened without making them.
var ErrEmpty = advise(errors.New("it is empty"), "verenc init makes the tables")

var errIsThere = advise(errors.New("it has the tables of Verenc already"),
	"for a further server, verenc audit init makes its audit log; verenc init --add-access-key makes one more access key")

// migratePostgres runs the migrations that the database has not had.
func (d *DB) migratePostgres(ctx context.Context, create bool) error {
	all, err := migrationsOf("postgres")
	if err != nil {
		return err
	}
	d.known = len(all)
	var engine string
	var ours, tables int
	err = d.read.QueryRowContext(ctx, `SELECT version(), count(*),
		count(CASE WHEN tablename = 'verenc_schema' THEN 1 END)
		FROM pg_catalog.pg_tables WHERE schemaname = current_schema()`).Scan(&engine, &tables, &ours)
	switch {
	case err != nil:
		return err
	case ours > 0 && create:
		return errIsThere
	case ours == 0 && tables > 0:
		return advise(fmt.Errorf("it has %d tables, and they are not Verenc's", tables),
			"give Verenc a database of its own")
	case ours == 0 && !create:
		return ErrEmpty
	case create:
		err = d.change(ctx, "make the schema", func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `CREATE TABLE verenc_schema (one BIGINT PRIMARY KEY CHECK (one = 1),
					version BIGINT NOT NULL, minimum BIGINT NOT NULL, made_by TEXT NOT NULL);
				INSERT INTO verenc_schema VALUES (1, 0, 0, '')`)
			return err
		})
	default:
		err = d.addMinimum(ctx)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	for migrated := false; !migrated && err == nil; {
		migrated, err = d.migrateOnce(ctx, all, engine)
	}
	return err
}

// addMinimum adds the column to a database of before there was one.
func (d *DB) addMinimum(ctx context.Context) error {
	var there int
	err := d.read.QueryRowContext(ctx, `SELECT count(*) FROM information_schema.columns WHERE
		table_schema = current_schema() AND table_name = 'verenc_schema' AND column_name = 'minimum'`).Scan(&there)
	if err != nil || there > 0 {
		return err
	}
	return d.change(ctx, "add a column", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx,
			"ALTER TABLE verenc_schema ADD COLUMN IF NOT EXISTS minimum BIGINT NOT NULL DEFAULT 0")
		return err
	})
}

// migrateOnce runs the next migration, or says that there is none.
func (d *DB) migrateOnce(ctx context.Context, all []migration, engine string) (migrated bool, err error) {
	err = d.change(ctx, "migrate", func(tx *sql.Tx) error {
		// An update, so that of two servers that start together one waits for the other.
		const lock = "UPDATE verenc_schema SET one = 1 WHERE one = 1 RETURNING " + schemaColumns
		now, err := readSchema(tx.QueryRowContext(ctx, lock), len(all))
		if err != nil {
			return err
		}
		if migrated = now.version >= len(all); migrated {
			return nil
		}
		next := all[now.version]
		if _, err := tx.ExecContext(ctx, suited(next.text, engine)); err != nil {
			return fmt.Errorf("to schema %d: %w", now.version+1, err)
		}
		if next.breaking {
			now.minimum = now.version + 1
		}
		_, err = tx.ExecContext(ctx, "UPDATE verenc_schema SET version = ?, minimum = ?, made_by = ?",
			now.version+1, now.minimum, program())
		return err
	})
	return migrated, err
}

// suited is a migration as an engine takes it, given its version(). CockroachDB compares text byte by
// byte unless told otherwise, and has no columns with COLLATE "C" (its issue 108657).
func suited(text, engine string) string {
	if strings.HasPrefix(engine, "CockroachDB") {
		return strings.ReplaceAll(text, ` COLLATE "C"`, "")
	}
	return text
}

// program is this program with its version, as the linker knows it.
func program() string {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	return "verenc " + version
}
