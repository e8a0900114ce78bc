package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/verenc/kms/service"
)

// ServiceObject implements service.ServiceObjectRows.
func (d *DB) ServiceObject(ctx context.Context, purpose string) (id service.ObjectID, err error) {
	var raw []byte
	err = d.read.QueryRowContext(ctx, "SELECT cka_id FROM service_objects WHERE purpose = ?", purpose).Scan(&raw)
	if _, err := one(raw, err, "service object"); err != nil {
		return id, err
	}
	return objectID(raw, "service object "+purpose)
}

// InsertServiceObject implements service.ServiceObjectRows.
func (d *DB) InsertServiceObject(ctx context.Context, purpose string, id service.ObjectID, at time.Time) error {
	return d.change(ctx, "insert service object", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO service_objects (purpose, cka_id, created_at) VALUES (?, ?, ?)",
			purpose, id[:], nanos(at))
		return constraintError(err)
	})
}

// PutServiceObjectPublic implements service.ServiceObjectRows.
func (d *DB) PutServiceObjectPublic(ctx context.Context, purpose string, spki []byte) error {
	return d.change(ctx, "put the public key of a service object", func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "UPDATE service_objects SET public = ? WHERE purpose = ?", spki, purpose))
	})
}

// ServiceObjectPublic implements service.ServiceObjectRows.
func (d *DB) ServiceObjectPublic(ctx context.Context, purpose string) (spki []byte, err error) {
	const query = "SELECT public FROM service_objects WHERE purpose = ? AND public IS NOT NULL"
	err = d.read.QueryRowContext(ctx, query, purpose).Scan(&spki)
	return one(spki, err, "service object")
}

// OwnObjects implements service.ServiceObjectRows.
func (d *DB) OwnObjects(ctx context.Context) (map[string]service.ObjectID, error) {
	type object struct {
		purpose string
		raw     []byte
	}
	rows, err := d.read.QueryContext(ctx, `SELECT purpose, cka_id FROM service_objects WHERE key_store = ''
		UNION ALL SELECT '', cka_id FROM wrapping_keys WHERE key_store = ''`)
	objects, err := collect(rows, err, func(row scanner) (o object, err error) {
		err = row.Scan(&o.purpose, &o.raw)
		return o, err
	})
	if err != nil {
		return nil, err
	}
	byPurpose := map[string]service.ObjectID{}
	for _, o := range objects {
		if o.purpose == "" {
			o.purpose = fmt.Sprintf("import/%X", o.raw)
		}
		if byPurpose[o.purpose], err = objectID(o.raw, "service object "+o.purpose); err != nil {
			return nil, err
		}
	}
	return byPurpose, nil
}

func objectID(raw []byte, what string) (id service.ObjectID, err error) {
	if len(raw) != len(id) {
		return id, fmt.Errorf("read %s: its object id has %d bytes, not %d", what, len(raw), len(id))
	}
	return service.ObjectID(raw), nil
}
