package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/verenc/kms/service"
)

// InsertWrappingKey implements service.WrappingKeyRows.
func (d *DB) InsertWrappingKey(ctx context.Context, k service.WrappingKey) error {
	return d.change(ctx, "insert wrapping key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO wrapping_keys (cka_id, expires_at, key_store) VALUES (?, ?, ?)",
			k.ObjectID[:], nanos(k.ExpiresAt), k.KeyStore)
		return constraintError(err)
	})
}

// ExpiredWrappingKeys implements service.WrappingKeyRows.
func (d *DB) ExpiredWrappingKeys(
	ctx context.Context, before time.Time, limit int,
) ([]service.WrappingKey, error) {
	rows, err := d.read.QueryContext(ctx, `SELECT cka_id, expires_at, key_store FROM wrapping_keys
		WHERE expires_at < ? ORDER BY expires_at LIMIT ?`, nanos(before), limit)
	return collect(rows, err, func(row scanner) (k service.WrappingKey, err error) {
		var raw []byte
		var expires sql.NullInt64
		if err := row.Scan(&raw, &expires, &k.KeyStore); err != nil {
			return k, err
		}
		k.ExpiresAt = fromNanos(expires)
		k.ObjectID, err = objectID(raw, "wrapping key")
		return k, err
	})
}

// AdoptServiceObject implements service.WrappingKeyRows.
func (d *DB) AdoptServiceObject(ctx context.Context, purpose string, id service.ObjectID, at time.Time) error {
	return d.change(ctx, "adopt service object", func(tx *sql.Tx) error {
		err := affected(tx.ExecContext(ctx, `INSERT INTO service_objects (purpose, cka_id, created_at, key_store)
			SELECT ?, cka_id, ?, key_store FROM wrapping_keys WHERE cka_id = ?`, purpose, nanos(at), id[:]))
		if err != nil {
			return constraintError(err)
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM wrapping_keys WHERE cka_id = ?", id[:])
		return err
	})
}

// RemoveWrappingKey implements service.WrappingKeyRows.
func (d *DB) RemoveWrappingKey(ctx context.Context, id service.ObjectID) error {
	return d.change(ctx, "remove wrapping key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM wrapping_keys WHERE cka_id = ?", id[:])
		return err
	})
}
