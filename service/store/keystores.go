package store

import (
	"context"
	"database/sql"

	"github.com/verenc/kms/service"
)

const keyStoreColumns = "id, account, region, name, cluster, trust_anchor, sealed_password, connected, " +
	"connection_error, created_at, connections"

func scanKeyStore(row scanner) (*service.KeyStore, error) {
	var s service.KeyStore
	var created sql.NullInt64
	err := row.Scan(&s.ID, &s.Account, &s.Region, &s.Name, &s.ClusterID, &s.TrustAnchor, &s.SealedPassword,
		&s.Connected, &s.ConnectionError, &created, &s.Connections)
	s.CreatedAt = fromNanos(created)
	return &s, err
}

// InsertKeyStore implements service.KeyStoreRows.
func (d *DB) InsertKeyStore(ctx context.Context, s *service.KeyStore, max int) error {
	return d.changing(ctx, "insert key store", &[]touched{{kindKeyStores}}, func(tx *sql.Tx) error {
		var count int
		const query = "SELECT count(*) FROM key_stores WHERE account = ? AND region = ?"
		err := tx.QueryRowContext(ctx, query, s.Account, s.Region).Scan(&count)
		if err != nil {
			return err
		}
		if count >= max {
			return service.ErrLimit
		}
		const insert = "INSERT INTO key_stores (" + keyStoreColumns + ") VALUES "
		_, err = tx.ExecContext(ctx, insert+placeholders(keyStoreColumns),
			s.ID, s.Account, s.Region, s.Name, s.ClusterID, s.TrustAnchor, s.SealedPassword,
			s.Connected, s.ConnectionError, nanos(s.CreatedAt), s.Connections)
		return constraintError(err)
	})
}

const keyStoreByID = " FROM key_stores WHERE id = ?"

// KeyStore implements service.KeyStoreRows.
func (d *DB) KeyStore(ctx context.Context, id string) (*service.KeyStore, error) {
	s, err := scanKeyStore(d.read.QueryRowContext(ctx, "SELECT "+keyStoreColumns+keyStoreByID, id))
	return one(s, err, "key store")
}

// KeyStores implements service.KeyStoreRows.
func (d *DB) KeyStores(ctx context.Context, account, region string) ([]*service.KeyStore, error) {
	query, args := " FROM key_stores WHERE account = ? AND region = ? ORDER BY id", []any{account, region}
	if account == "" {
		query, args = " FROM key_stores ORDER BY id", nil
	}
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyStoreColumns+query, args...)
	return collect(rows, err, scanKeyStore)
}

// UpdateKeyStore implements service.KeyStoreRows.
func (d *DB) UpdateKeyStore(ctx context.Context, id string, change func(*service.KeyStore) error) error {
	return d.changing(ctx, "update key store", &[]touched{{kindKeyStores}}, func(tx *sql.Tx) error {
		s, err := scanKeyStore(tx.QueryRowContext(ctx, "SELECT "+keyStoreColumns+keyStoreByID, id))
		if s, err = one(s, err, "key store"); err != nil {
			return err
		}
		if err := change(s); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE key_stores SET name = ?, cluster = ?, trust_anchor = ?,
			sealed_password = ?, connected = ?, connection_error = ?, connections = ? WHERE id = ?`,
			s.Name, s.ClusterID, s.TrustAnchor, s.SealedPassword, s.Connected, s.ConnectionError, s.Connections, id)
		return constraintError(err)
	})
}

// RemoveKeyStore implements service.KeyStoreRows.
func (d *DB) RemoveKeyStore(ctx context.Context, id string) error {
	return d.changing(ctx, "remove key store", &[]touched{{kindKeyStores}}, func(tx *sql.Tx) error {
		var count int
		const query = "SELECT count(*) FROM keys WHERE key_store = ? AND key_store <> ''"
		err := tx.QueryRowContext(ctx, query, id).Scan(&count)
		if err != nil {
			return err
		}
		if count > 0 {
			return service.ErrLimit
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM service_objects WHERE key_store = ? AND key_store <> ''", id)
		if err != nil {
			return err
		}
		return affected(tx.ExecContext(ctx, "DELETE"+keyStoreByID, id))
	})
}

// KeyStoresChanged implements service.KeyStoreRows.
func (d *DB) KeyStoresChanged() <-chan struct{} { return d.keyStores }

func (d *DB) keyStoresMayDiffer() {
	select {
	case d.keyStores <- struct{}{}:
	default: // whoever takes the value reads the rows after that
	}
}
