package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/verenc/kms/service/iam"
)

func scanGuard(row scanner) (*iam.Guard, error) {
	var g iam.Guard
	var changed sql.NullInt64
	err := row.Scan(&g.Account, &g.Document, &changed)
	g.ChangedAt = fromNanos(changed)
	return &g, err
}

// Guard implements iam.Store. That there is none is cached, too: every request asks.
func (d *DB) Guard(ctx context.Context, account string) (*iam.Guard, error) {
	return d.guards.get(account, func() (*iam.Guard, error) {
		g, err := scanGuard(d.read.QueryRowContext(ctx,
			"SELECT account, document, changed_at FROM guards WHERE account = ?", account))
		if errors.Is(err, sql.ErrNoRows) {
			return &iam.Guard{Account: account}, nil
		}
		return one(g, err, "guard")
	})
}

// Guards implements iam.Store.
func (d *DB) Guards(ctx context.Context) ([]*iam.Guard, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT account, document, changed_at FROM guards ORDER BY account")
	return collect(rows, err, scanGuard)
}

// PutGuard implements iam.Store.
func (d *DB) PutGuard(ctx context.Context, g *iam.Guard) error {
	return d.changing(ctx, "put guard", &[]touched{{kindGuard, g.Account}}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO guards (account, document, changed_at) VALUES (?, ?, ?)
			ON CONFLICT (account) DO UPDATE SET document = excluded.document, changed_at = excluded.changed_at`,
			g.Account, g.Document, nanos(g.ChangedAt))
		return err
	})
}

// RemoveGuard implements iam.Store.
func (d *DB) RemoveGuard(ctx context.Context, account string) error {
	return d.changing(ctx, "remove guard", &[]touched{{kindGuard, account}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "DELETE FROM guards WHERE account = ?", account))
	})
}
