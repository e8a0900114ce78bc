package store

import (
	"context"
	"database/sql"

	"github.com/verenc/kms/service"
)

// RecordUses implements service.KeyUseRows. Uses of keys that no longer exist are ignored.
func (d *DB) RecordUses(ctx context.Context, uses []service.KeyUse) error {
	return d.change(ctx, "record uses", func(tx *sql.Tx) error {
		for _, u := range uses {
			_, err := tx.ExecContext(ctx, `INSERT INTO key_uses (region, key_id, operation, at, event_id, request_id)
				SELECT region, id, ?, ?, ?, ? FROM keys WHERE region = ? AND id = ?
				ON CONFLICT (region, key_id) DO UPDATE SET operation = excluded.operation, at = excluded.at,
					event_id = excluded.event_id, request_id = excluded.request_id
				WHERE excluded.at > key_uses.at`,
				u.Operation, nanos(u.At), u.EventID, u.RequestID, u.Region, u.KeyID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// LastUse implements service.KeyUseRows.
func (d *DB) LastUse(ctx context.Context, region, keyID string) (*service.KeyUse, error) {
	u := service.KeyUse{Region: region, KeyID: keyID}
	var at sql.NullInt64
	const query = "SELECT operation, at, event_id, request_id FROM key_uses WHERE region = ? AND key_id = ?"
	err := d.read.QueryRowContext(ctx, query, region, keyID).Scan(&u.Operation, &at, &u.EventID, &u.RequestID)
	u.At = fromNanos(at)
	return one(&u, err, "last use")
}

const leaseIVs = `INSERT INTO iv_leases (material, leased) VALUES (?, ?)
	ON CONFLICT (material) DO UPDATE SET leased = iv_leases.leased + excluded.leased RETURNING leased`

// LeaseIVs implements service.IVLeases.
func (d *DB) LeaseIVs(ctx context.Context, materials []string, n int64) (totals []int64, err error) {
	totals = make([]int64, len(materials))
	err = d.change(ctx, "lease initialisation vectors", func(tx *sql.Tx) error {
		for i, material := range materials {
			err := tx.QueryRowContext(ctx, leaseIVs, material, n).Scan(&totals[i])
			if err != nil {
				return err
			}
		}
		return nil
	})
	return totals, err
}
