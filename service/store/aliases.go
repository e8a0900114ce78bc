package store

import (
	"context"
	"database/sql"

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

const aliasesBesides = `SELECT (SELECT count(*) FROM aliases WHERE region = k.region AND key_id = k.id AND name <> ?)
	FROM keys k WHERE k.region = ? AND k.id = ? AND k.state NOT IN ('Creating', 'Deleting')`

// checkAliasLimit returns service.ErrLimit if the alias's key has maxPerKey others, and
// service.ErrNoRow if it does not exist.
func checkAliasLimit(ctx context.Context, tx *sql.Tx, a *service.Alias, maxPerKey int) error {
	var count int
	err := tx.QueryRowContext(ctx, aliasesBesides, a.Name, a.Region, a.KeyID).Scan(&count)
	if _, err := one(count, err, "aliases of a key"); err != nil {
		return err
	}
	if count >= maxPerKey {
		return service.ErrLimit
	}
	return nil
}

// InsertAlias implements service.AliasRows.
func (d *DB) InsertAlias(ctx context.Context, a *service.Alias, maxPerKey int) error {
	// One that another server has deleted may still be cached here.
	what := []touched{{kindAlias, a.Account, a.Region, a.Name}}
	return d.changing(ctx, "insert alias", &what, func(tx *sql.Tx) error {
		if err := checkAliasLimit(ctx, tx, a, maxPerKey); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO aliases ("+aliasColumns+") VALUES (?, ?, ?, ?, ?, ?)",
			a.Account, a.Region, a.Name, a.KeyID, nanos(a.CreatedAt), nanos(a.UpdatedAt))
		return constraintError(err)
	})
}

// UpdateAlias implements service.AliasRows.
func (d *DB) UpdateAlias(ctx context.Context, a *service.Alias, maxPerKey int) error {
	what := []touched{{kindAlias, a.Account, a.Region, a.Name}}
	return d.changing(ctx, "update alias", &what, func(tx *sql.Tx) error {
		if err := checkAliasLimit(ctx, tx, a, maxPerKey); err != nil {
			return err
		}
		return affected(tx.ExecContext(ctx, "UPDATE aliases SET key_id = ?, updated_at = ?"+aliasByName,
			a.KeyID, nanos(a.UpdatedAt), a.Account, a.Region, a.Name))
	})
}

// DeleteAlias implements service.AliasRows.
func (d *DB) DeleteAlias(ctx context.Context, account, region, name string) error {
	return d.changing(ctx, "delete alias", &[]touched{{kindAlias, account, region, name}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "DELETE FROM aliases"+aliasByName, account, region, name))
	})
}

// Alias implements service.AliasRows.
func (d *DB) Alias(ctx context.Context, account, region, name string) (*service.Alias, error) {
	return d.aliases.get(aliasName{account, region, name}, func() (*service.Alias, error) {
		query := "SELECT " + aliasColumns + " FROM aliases" + aliasByName
		a, err := scanAlias(d.read.QueryRowContext(ctx, query, account, region, name))
		return one(a, err, "alias")
	})
}

const (
	aliasByName      = " WHERE account = ? AND region = ? AND name = ?"
	aliasesOfAccount = " FROM aliases WHERE account = ? AND region = ? AND name > ? ORDER BY name LIMIT ?"
	aliasesOfKey     = " FROM aliases WHERE account = ? AND region = ? AND key_id = ? AND name > ?" +
		" ORDER BY name LIMIT ?"
)

// Aliases implements service.AliasRows.
func (d *DB) Aliases(
	ctx context.Context, account, region, keyID, after string, limit int,
) ([]*service.Alias, error) {
	query, args := aliasesOfAccount, []any{account, region, after, limit}
	if keyID != "" {
		query, args = aliasesOfKey, []any{account, region, keyID, after, limit}
	}
	rows, err := d.read.QueryContext(ctx, "SELECT "+aliasColumns+query, args...)
	return collect(rows, err, scanAlias)
}
