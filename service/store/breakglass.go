package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
)

// InsertBreakGlassKey implements iam.BreakGlassStore.
func (d *DB) InsertBreakGlassKey(ctx context.Context, k *breakglass.Key) error {
	details, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return d.change(ctx, "insert break-glass credential", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO break_glass_keys (number, details)
			SELECT coalesce(max(number), 0) + 1, ? FROM break_glass_keys`, string(details))
		return err
	})
}

// BreakGlassKey implements iam.BreakGlassStore.
func (d *DB) BreakGlassKey(ctx context.Context) (*breakglass.Key, error) {
	var details []byte
	k := &breakglass.Key{}
	err := d.read.QueryRowContext(ctx,
		"SELECT details FROM break_glass_keys ORDER BY number DESC LIMIT 1").Scan(&details)
	if err == nil {
		err = json.Unmarshal(details, k)
	}
	return one(k, err, "break-glass credential")
}

const openingColumns = "id, opened_at, until_at, closed_at, used_at, signed"

func scanOpening(row scanner) (*iam.BreakGlassOpening, error) {
	o := &iam.BreakGlassOpening{}
	var opened, until, closed, used sql.NullInt64
	err := row.Scan(&o.ID, &opened, &until, &closed, &used, &o.Signed)
	o.OpenedAt, o.Until, o.ClosedAt, o.UsedAt = fromNanos(opened), fromNanos(until), fromNanos(closed), fromNanos(used)
	return o, err
}

// InsertBreakGlassOpening implements iam.BreakGlassStore.
func (d *DB) InsertBreakGlassOpening(ctx context.Context, o *iam.BreakGlassOpening) error {
	return d.change(ctx, "insert break-glass opening", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO break_glass_openings ("+openingColumns+") VALUES "+
			placeholders(openingColumns), o.ID, nanos(o.OpenedAt), nanos(o.Until), nanos(o.ClosedAt), nanos(o.UsedAt),
			o.Signed)
		return constraintError(err)
	})
}

const openingByID = "SELECT " + openingColumns + " FROM break_glass_openings WHERE id = ?"

// BreakGlassOpening implements iam.BreakGlassStore.
func (d *DB) BreakGlassOpening(ctx context.Context, id string) (*iam.BreakGlassOpening, error) {
	o, err := scanOpening(d.read.QueryRowContext(ctx, openingByID, id))
	return one(o, err, "break-glass opening")
}

// BreakGlassOpenings implements iam.BreakGlassStore.
func (d *DB) BreakGlassOpenings(ctx context.Context, limit int) ([]*iam.BreakGlassOpening, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+openingColumns+
		" FROM break_glass_openings ORDER BY opened_at DESC, id DESC LIMIT ?", limit)
	return collect(rows, err, scanOpening)
}

// UnclosedBreakGlassOpenings implements iam.BreakGlassStore.
func (d *DB) UnclosedBreakGlassOpenings(ctx context.Context, after time.Time, limit int) (
	[]*iam.BreakGlassOpening, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+openingColumns+
		" FROM break_glass_openings WHERE until_at > ? AND closed_at IS NULL LIMIT ?", nanos(after), limit)
	return collect(rows, err, scanOpening)
}

// UpdateBreakGlassOpening implements iam.BreakGlassStore.
func (d *DB) UpdateBreakGlassOpening(
	ctx context.Context, id string, change func(*iam.BreakGlassOpening) error,
) error {
	return d.change(ctx, "update break-glass opening", func(tx *sql.Tx) error {
		o, err := scanOpening(tx.QueryRowContext(ctx, openingByID, id))
		if o, err = one(o, err, "break-glass opening"); err != nil {
			return err
		}
		if err := change(o); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE break_glass_openings SET closed_at = ?, used_at = ? WHERE id = ?",
			nanos(o.ClosedAt), nanos(o.UsedAt), id)
		return err
	})
}
