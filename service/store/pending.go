package store

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/verenc/kms/service/record"
)

// InsertPendingRecord implements record.PendingStore.
func (d *DB) InsertPendingRecord(ctx context.Context, record []byte) error {
	return d.change(ctx, "insert pending record", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO pending_records (record) VALUES (?)", string(record))
		return err
	})
}

// PendingRecords implements record.PendingStore.
func (d *DB) PendingRecords(ctx context.Context, limit int) ([]record.PendingRecord, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT number, record FROM pending_records ORDER BY number LIMIT ?", limit)
	records, err := collect(rows, err, func(row scanner) (r record.PendingRecord, err error) {
		err = row.Scan(&r.Number, &r.Record)
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("read pending records: %w", err)
	}
	return records, nil
}

// RemovePendingRecord implements record.PendingStore.
func (d *DB) RemovePendingRecord(ctx context.Context, number int64) error {
	return d.change(ctx, "remove pending record", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM pending_records WHERE number = ?", number)
		return err
	})
}
