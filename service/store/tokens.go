package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/verenc/kms/service"
)

// ChangedKeys implements evidence.TokenCheckStore.
func (d *DB) ChangedKeys(ctx context.Context, limit int) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+` FROM keys
		WHERE key_store = '' AND state NOT IN ('Creating', 'Deleting') ORDER BY changed_at DESC LIMIT ?`, limit)
	return collect(rows, err, scanKey)
}

// TokenSerials implements evidence.TokenCheckStore.
func (d *DB) TokenSerials(ctx context.Context) ([]string, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT serial FROM tokens ORDER BY seen_at DESC LIMIT 16")
	return collect(rows, err, func(row scanner) (serial string, err error) { return serial, row.Scan(&serial) })
}

// RecordTokenSerial implements evidence.TokenCheckStore.
func (d *DB) RecordTokenSerial(ctx context.Context, serial string, at time.Time) error {
	return d.change(ctx, "record the token's serial number", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO tokens (serial, seen_at) VALUES (?, ?)
			ON CONFLICT (serial) DO UPDATE SET seen_at = excluded.seen_at`, serial, at.UnixNano())
		return err
	})
}
