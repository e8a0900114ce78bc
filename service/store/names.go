package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/verenc/kms/service"
)

type aliasName struct{ account, region, name string }

const aliasColumns = "account, region, name, key_id, created_at, updated_at"

func scanAlias(row scanner) (*service.Alias, error) {
	var a service.Alias
	var created, updated sql.NullInt64
	if err := row.Scan(&a.Account, &a.Region, &a.Name, &a.KeyID, &created, &updated); err != nil {
		return nil, err
	}
	a.CreatedAt, a.UpdatedAt = fromNanos(created), fromNanos(updated)
	return &a, nil
}

// checkRoom refuses an alias more than a key may have, and one for a key that is gone.
func checkRoom(ctx context.Context, tx *sql.Tx, a *service.Alias, maxPerKey int) error {
	var count int
	err := tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM aliases WHERE region = k.region AND key_id = k.id AND name <> ?)
		FROM keys k WHERE k.region = ? AND k.id = ? AND k.state NOT IN ('Creating', 'Deleting')`, a.Name, a.Region, a.KeyID).Scan(&count)
	if _, err := one(count, err, "aliases of a key"); err != nil {
		return err
	}
	if count >= maxPerKey {
		return service.ErrLimit
	}
	return nil
}

// InsertAlias implements service.Store.
func (d *DB) InsertAlias(ctx context.Context, a *service.Alias, maxPerKey int) error {
	return d.change(ctx, "insert alias", func(tx *sql.Tx) error {
		if err := checkRoom(ctx, tx, a, maxPerKey); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO aliases ("+aliasColumns+") VALUES (?, ?, ?, ?, ?, ?)",
			a.Account, a.Region, a.Name, a.KeyID, nanos(a.CreatedAt), nanos(a.UpdatedAt))
		return taken(err)
	})
}

// UpdateAlias implements service.Store.
func (d *DB) UpdateAlias(ctx context.Context, a *service.Alias, maxPerKey int) error {
	return d.changing(ctx, "update alias", &[]touched{{kindAlias, a.Account, a.Region, a.Name}}, func(tx *sql.Tx) error {
		if err := checkRoom(ctx, tx, a, maxPerKey); err != nil {
			return err
		}
		return affected(tx.ExecContext(ctx, "UPDATE aliases SET key_id = ?, updated_at = ? WHERE account = ? AND region = ? AND name = ?",
			a.KeyID, nanos(a.UpdatedAt), a.Account, a.Region, a.Name))
	})
}

// DeleteAlias implements service.Store.
func (d *DB) DeleteAlias(ctx context.Context, account, region, name string) error {
	return d.changing(ctx, "delete alias", &[]touched{{kindAlias, account, region, name}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "DELETE FROM aliases WHERE account = ? AND region = ? AND name = ?", account, region, name))
	})
}

// affected is service.ErrNoRow for a statement that met no row.
func affected(r sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := r.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return service.ErrNoRow
}

// Alias implements service.Store.
func (d *DB) Alias(ctx context.Context, account, region, name string) (*service.Alias, error) {
	return d.aliases.get(aliasName{account, region, name}, func() (*service.Alias, error) {
		a, err := scanAlias(d.read.QueryRowContext(ctx, "SELECT "+aliasColumns+" FROM aliases WHERE account = ? AND region = ? AND name = ?",
			account, region, name))
		return one(a, err, "alias")
	})
}

const (
	aliasesOfAccount = " FROM aliases WHERE account = ? AND region = ? AND name > ? ORDER BY name LIMIT ?"
	aliasesOfKey     = " FROM aliases WHERE account = ? AND region = ? AND key_id = ? AND name > ? ORDER BY name LIMIT ?"
)

// Aliases implements service.Store.
func (d *DB) Aliases(ctx context.Context, account, region, keyID, after string, limit int) ([]*service.Alias, error) {
	query, args := aliasesOfAccount, []any{account, region, after, limit}
	if keyID != "" {
		query, args = aliasesOfKey, []any{account, region, keyID, after, limit}
	}
	rows, err := d.read.QueryContext(ctx, "SELECT "+aliasColumns+query, args...)
	return collect(rows, err, scanAlias)
}

// ServiceObject implements service.Store.
func (d *DB) ServiceObject(ctx context.Context, purpose string) (id service.ObjectID, err error) {
	var raw []byte
	err = d.read.QueryRowContext(ctx, "SELECT cka_id FROM service_objects WHERE purpose = ?", purpose).Scan(&raw)
	if _, err := one(raw, err, "service object"); err != nil {
		return id, err
	}
	return objectID(raw, "service object "+purpose)
}

// InsertServiceObject implements service.Store.
func (d *DB) InsertServiceObject(ctx context.Context, purpose string, id service.ObjectID, at time.Time) error {
	return d.change(ctx, "insert service object", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO service_objects (purpose, cka_id, created_at) VALUES (?, ?, ?)", purpose, id[:], nanos(at))
		return taken(err)
	})
}

// PutServiceObjectPublic implements service.Store.
func (d *DB) PutServiceObjectPublic(ctx context.Context, purpose string, spki []byte) error {
	return d.change(ctx, "put the public half of a service object", func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "UPDATE service_objects SET public = ? WHERE purpose = ?", spki, purpose))
	})
}

// ServiceObjectPublic implements service.Store.
func (d *DB) ServiceObjectPublic(ctx context.Context, purpose string) (spki []byte, err error) {
	err = d.read.QueryRowContext(ctx, "SELECT public FROM service_objects WHERE purpose = ? AND public IS NOT NULL", purpose).Scan(&spki)
	return one(spki, err, "service object")
}

// OwnObjects implements service.Store.
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
