package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/verenc/kms/service"
)

const destructionColumns = "id, region, key_id, at, signed"

func scanDestruction(row scanner) (*service.DestructionCertificate, error) {
	c := &service.DestructionCertificate{}
	var at sql.NullInt64
	err := row.Scan(&c.ID, &c.Region, &c.KeyID, &at, &c.Signed)
	c.At = fromNanos(at)
	return c, err
}

// InsertDestruction implements service.DestructionRows.
func (d *DB) InsertDestruction(ctx context.Context, c *service.DestructionCertificate) error {
	return d.change(ctx, "insert destruction certificate", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO destructions ("+destructionColumns+") VALUES "+
			placeholders(destructionColumns), c.ID, c.Region, c.KeyID, nanos(c.At), c.Signed)
		return constraintError(err)
	})
}

// Destruction implements service.DestructionRows.
func (d *DB) Destruction(ctx context.Context, id string) (*service.DestructionCertificate, error) {
	c, err := scanDestruction(d.read.QueryRowContext(ctx,
		"SELECT "+destructionColumns+" FROM destructions WHERE id = ?", id))
	return one(c, err, "destruction certificate")
}

// Destructions implements service.DestructionRows.
func (d *DB) Destructions(
	ctx context.Context, at time.Time, id string, limit int,
) ([]*service.DestructionCertificate, error) {
	after := int64(0)
	if !at.IsZero() {
		after = at.UnixNano()
	}
	rows, err := d.read.QueryContext(ctx, "SELECT "+destructionColumns+
		" FROM destructions WHERE (at, id) > (?, ?) ORDER BY at, id LIMIT ?", after, id, limit)
	return collect(rows, err, scanDestruction)
}
