package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/verenc/kms/service/audit/witness"
)

const auditLogColumns = "log, newest, seen, trouble, retired"

func scanAuditLog(row scanner) (e witness.Entry, err error) {
	return e, row.Scan(&e.Log, &e.Newest, &e.Seen, &e.Trouble, &e.Retired)
}

// AuditLogs implements witness.Store.
func (d *DB) AuditLogs(ctx context.Context, limit int) ([]witness.Entry, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+auditLogColumns+" FROM audit_logs ORDER BY log LIMIT ?", limit)
	entries, err := collect(rows, err, scanAuditLog)
	if err != nil {
		return nil, fmt.Errorf("read audit logs: %w", err)
	}
	return entries, nil
}

// ChangeAuditLog implements witness.Store.
func (d *DB) ChangeAuditLog(ctx context.Context, log string, change func(*witness.Entry) error) error {
	return d.change(ctx, "change an audit log's entry", func(tx *sql.Tx) error {
		e, err := scanAuditLog(tx.QueryRowContext(ctx, "SELECT "+auditLogColumns+" FROM audit_logs WHERE log = ?", log))
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if err := change(&e); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO audit_logs ("+auditLogColumns+`) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (log) DO UPDATE SET newest = excluded.newest, seen = excluded.seen,
				trouble = excluded.trouble, retired = excluded.retired`,
			log, notNil(e.Newest), notNil(e.Seen), e.Trouble, notNil(e.Retired))
		return err
	})
}

// notNil is b, but never NULL.
func notNil(b []byte) []byte { return append([]byte{}, b...) }
