package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/verenc/kms/service"
)

const keyStoreColumns = "id, account, region, name, cluster, trust_anchor, sealed_password, connected, connection_error, created_at"

func scanKeyStore(row scanner) (*service.KeyStore, error) {
	var s service.KeyStore
	var created sql.NullInt64
	err := row.Scan(&s.ID, &s.Account, &s.Region, &s.Name, &s.ClusterID, &s.TrustAnchor, &s.SealedPassword, &s.Connected, &s.ConnectionError, &created)
	s.CreatedAt = fromNanos(created)
	return &s, err
}

// InsertKeyStore implements service.Store.
func (d *DB) InsertKeyStore(ctx context.Context, s *service.KeyStore, max int) error {
	return d.change(ctx, "insert key store", func(tx *sql.Tx) error {
		var count int
		err := tx.QueryRowContext(ctx, "SELECT count(*) FROM key_stores WHERE account = ? AND region = ?", s.Account, s.Region).Scan(&count)
		if err != nil {
			return err
		}
		if count >= max {
			return service.ErrLimit
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO key_stores ("+keyStoreColumns+") VALUES "+placeholders(keyStoreColumns),
			s.ID, s.Account, s.Region, s.Name, s.ClusterID, s.TrustAnchor, s.SealedPassword, s.Connected, s.ConnectionError, nanos(s.CreatedAt))
		return taken(err)
	})
}

const keyStoreByID = " FROM key_stores WHERE id = ?"

// KeyStore implements service.Store.
func (d *DB) KeyStore(ctx context.Context, id string) (*service.KeyStore, error) {
	s, err := scanKeyStore(d.read.QueryRowContext(ctx, "SELECT "+keyStoreColumns+keyStoreByID, id))
	return one(s, err, "key store")
}

// KeyStores implements service.Store.
func (d *DB) KeyStores(ctx context.Context, account, region string) ([]*service.KeyStore, error) {
	query, args := " FROM key_stores WHERE account = ? AND region = ? ORDER BY id", []any{account, region}
	if account == "" {
		query, args = " FROM key_stores ORDER BY id", nil
	}
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyStoreColumns+query, args...)
	return collect(rows, err, scanKeyStore)
}

// UpdateKeyStore implements service.Store.
func (d *DB) UpdateKeyStore(ctx context.Context, id string, change func(*service.KeyStore) error) error {
	return d.change(ctx, "update key store", func(tx *sql.Tx) error {
		s, err := scanKeyStore(tx.QueryRowContext(ctx, "SELECT "+keyStoreColumns+keyStoreByID, id))
		if s, err = one(s, err, "key store"); err != nil {
			return err
		}
		if err := change(s); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE key_stores SET name = ?, cluster = ?, trust_anchor = ?, sealed_password = ?, connected = ?,
			connection_error = ? WHERE id = ?`, s.Name, s.ClusterID, s.TrustAnchor, s.SealedPassword, s.Connected, s.ConnectionError, id)
		return taken(err)
	})
}

// RemoveKeyStore implements service.Store.
func (d *DB) RemoveKeyStore(ctx context.Context, id string) error {
	return d.change(ctx, "remove key store", func(tx *sql.Tx) error {
		var count int
		err := tx.QueryRowContext(ctx, "SELECT count(*) FROM keys WHERE key_store = ? AND key_store <> ''", id).Scan(&count)
		if err != nil {
			return err
		}
		if count > 0 {
			return service.ErrLimit
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM service_objects WHERE key_store = ? AND key_store <> ''", id); err != nil {
			return err
		}
		return affected(tx.ExecContext(ctx, "DELETE"+keyStoreByID, id))
	})
}

// InsertWrappingKey implements service.Store.
func (d *DB) InsertWrappingKey(ctx context.Context, k service.WrappingKey) error {
	return d.change(ctx, "insert wrapping key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO wrapping_keys (cka_id, expires_at, key_store) VALUES (?, ?, ?)", k.ObjectID[:], nanos(k.ExpiresAt), k.KeyStore)
		return taken(err)
	})
}

// ExpiredWrappingKeys implements service.Store.
func (d *DB) ExpiredWrappingKeys(ctx context.Context, before time.Time, limit int) ([]service.WrappingKey, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT cka_id, expires_at, key_store FROM wrapping_keys WHERE expires_at < ? ORDER BY expires_at LIMIT ?", nanos(before), limit)
	return collect(rows, err, func(row scanner) (k service.WrappingKey, err error) {
		var raw []byte
		var expires sql.NullInt64
		if err := row.Scan(&raw, &expires, &k.KeyStore); err != nil {
			return k, err
		}
		k.ExpiresAt = fromNanos(expires)
		k.ObjectID, err = objectID(raw, "wrapping key")
		return k, err
	})
}

// AdoptServiceObject implements service.Store.
func (d *DB) AdoptServiceObject(ctx context.Context, purpose string, id service.ObjectID, at time.Time) error {
	return d.change(ctx, "adopt service object", func(tx *sql.Tx) error {
		err := affected(tx.ExecContext(ctx, `INSERT INTO service_objects (purpose, cka_id, created_at, key_store)
			SELECT ?, cka_id, ?, key_store FROM wrapping_keys WHERE cka_id = ?`, purpose, nanos(at), id[:]))
		if err != nil {
			return taken(err)
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM wrapping_keys WHERE cka_id = ?", id[:])
		return err
	})
}

// RemoveWrappingKey implements service.Store.
func (d *DB) RemoveWrappingKey(ctx context.Context, id service.ObjectID) error {
	return d.change(ctx, "remove wrapping key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM wrapping_keys WHERE cka_id = ?", id[:])
		return err
	})
}

func objectID(raw []byte, what string) (id service.ObjectID, err error) {
	if len(raw) != len(id) {
		return id, fmt.Errorf("read %s: its object id has %d bytes, not %d", what, len(raw), len(id))
	}
	return service.ObjectID(raw), nil
}
