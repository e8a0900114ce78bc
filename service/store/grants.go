package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/verenc/kms/service"
)

const grantColumns = "id, region, key_id, account, name, grantee, retiring, issuer, created_at, terms, secret"

func scanGrant(row scanner) (*service.Grant, error) {
	var g service.Grant
	var created sql.NullInt64
	var terms []byte
	err := row.Scan(&g.ID, &g.Region, &g.KeyID, &g.Account, &g.Name, &g.Grantee, &g.Retiring, &g.Issuer,
		&created, &terms, &g.Secret)
	if err != nil {
		return nil, err
	}
	g.CreatedAt = fromNanos(created)
	if err := json.Unmarshal(terms, &g.GrantTerms); err != nil {
		return nil, fmt.Errorf("read grant %s: %w", g.ID, err)
	}
	return &g, nil
}

// InsertGrant implements service.GrantRows.
func (d *DB) InsertGrant(ctx context.Context, g *service.Grant, maxPerKey int) error {
	terms, err := json.Marshal(g.GrantTerms)
	if err != nil {
		return fmt.Errorf("insert grant: %w", err)
	}
	return d.changing(ctx, "insert grant", &[]touched{{kindGrants, g.Region, g.KeyID}}, func(tx *sql.Tx) error {
		var count int
		const query = "SELECT count(*) FROM grants WHERE region = ? AND key_id = ?"
		err := tx.QueryRowContext(ctx, query, g.Region, g.KeyID).Scan(&count)
		if err != nil {
			return err
		}
		if count >= maxPerKey {
			return service.ErrLimit
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO grants ("+grantColumns+") VALUES "+placeholders(grantColumns),
			g.ID, g.Region, g.KeyID, g.Account, g.Name, g.Grantee, g.Retiring, g.Issuer,
			nanos(g.CreatedAt), string(terms), g.Secret)
		return constraintError(err)
	})
}

// DeleteGrant implements service.GrantRows.
func (d *DB) DeleteGrant(ctx context.Context, g *service.Grant) error {
	return d.changing(ctx, "delete grant", &[]touched{{kindGrants, g.Region, g.KeyID}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "DELETE FROM grants WHERE id = ?", g.ID))
	})
}

// grantsOfKey has no ORDER BY: with one, SQLite plans the statement anew for every key.
const grantsOfKey = " FROM grants WHERE region = ? AND key_id = ?"

// GrantsOf implements service.GrantRows.
func (d *DB) GrantsOf(ctx context.Context, region, keyID string) ([]*service.Grant, error) {
	return d.grants.get(keyName{region, keyID}, func() ([]*service.Grant, error) {
		rows, err := d.read.QueryContext(ctx, "SELECT "+grantColumns+grantsOfKey, region, keyID)
		grants, err := collect(rows, err, scanGrant)
		slices.SortFunc(grants, func(a, b *service.Grant) int { return strings.Compare(a.ID, b.ID) })
		return grants, err
	})
}

// Grant implements service.GrantRows.
func (d *DB) Grant(ctx context.Context, id string) (*service.Grant, error) {
	g, err := scanGrant(d.read.QueryRowContext(ctx, "SELECT "+grantColumns+" FROM grants WHERE id = ?", id))
	return one(g, err, "grant")
}

const grantsRetirable = ` FROM grants WHERE region = ? AND retiring = ? AND retiring <> '' AND id > ?
	ORDER BY id LIMIT ?`

// RetirableGrants implements service.GrantRows.
func (d *DB) RetirableGrants(
	ctx context.Context, region, principal, after string, limit int,
) ([]*service.Grant, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+grantColumns+grantsRetirable, region, principal, after, limit)
	return collect(rows, err, scanGrant)
}
