package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/verenc/kms/service"
)

type keyName struct{ region, id string }

const keyColumns = "region, id, account, spec, usage, origin, state, description, policy, created_at, deletion_at, materials, tags"

func scanKey(row scanner) (*service.Key, error) {
	var k service.Key
	var created, deletion sql.NullInt64
	var materials, tags []byte
	err := row.Scan(&k.Region, &k.ID, &k.Account, &k.Spec, &k.Usage, &k.Origin, &k.State, &k.Description, &k.Policy,
		&created, &deletion, &materials, &tags)
	if err != nil {
		return nil, err
	}
	k.CreatedAt, k.DeletionAt = fromNanos(created), fromNanos(deletion)
	if err := errors.Join(json.Unmarshal(materials, &k.Materials), json.Unmarshal(tags, &k.Tags)); err != nil {
		return nil, fmt.Errorf("read key %s: %w", k.ID, err)
	}
	return &k, nil
}

// documents are the JSON columns of a key.
func documents(k *service.Key) (materials, tags string, err error) {
	m, err := json.Marshal(k.Materials)
	if err != nil {
		return "", "", err
	}
	t, err := json.Marshal(k.Tags)
	return string(m), string(t), err
}

// InsertKey implements service.Store.
func (d *DB) InsertKey(ctx context.Context, k *service.Key) error {
	materials, tags, err := documents(k)
	if err != nil {
		return fmt.Errorf("insert key: %w", err)
	}
	return d.change(ctx, "insert key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO keys ("+keyColumns+") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			k.Region, k.ID, k.Account, k.Spec, k.Usage, k.Origin, k.State, k.Description, k.Policy,
			nanos(k.CreatedAt), nanos(k.DeletionAt), materials, tags)
		return taken(err)
	})
}

const keyByName = " FROM keys WHERE region = ? AND id = ?"

// Key implements service.Store.
func (d *DB) Key(ctx context.Context, region, id string) (*service.Key, error) {
	return d.keys.get(keyName{region, id}, func() (*service.Key, error) {
		k, err := scanKey(d.read.QueryRowContext(ctx, "SELECT "+keyColumns+keyByName, region, id))
		return one(k, err, "key")
	})
}

// UpdateKey implements service.Store.
func (d *DB) UpdateKey(ctx context.Context, region, id string, change func(*service.Key) error) error {
	defer d.keys.forget(keyName{region, id}) // whatever the outcome: a failed commit may have happened
	return d.change(ctx, "update key", func(tx *sql.Tx) error {
		k, err := scanKey(tx.QueryRowContext(ctx, "SELECT "+keyColumns+keyByName, region, id))
		if k, err = one(k, err, "key"); err != nil {
			return err
		}
		if err := change(k); err != nil {
			return err
		}
		materials, tags, err := documents(k)
		if err != nil {
			return fmt.Errorf("update key: %w", err)
		}
		_, err = tx.ExecContext(ctx, `UPDATE keys SET spec = ?, usage = ?, origin = ?, state = ?, description = ?, policy = ?,
			created_at = ?, deletion_at = ?, materials = ?, tags = ? WHERE region = ? AND id = ?`,
			k.Spec, k.Usage, k.Origin, k.State, k.Description, k.Policy, nanos(k.CreatedAt), nanos(k.DeletionAt), materials, tags, region, id)
		return err
	})
}

// RemoveKey implements service.Store. The key's aliases go with it.
func (d *DB) RemoveKey(ctx context.Context, region, id string) error {
	defer d.aliases.forgetAll() // rare, and cheaper than knowing which
	defer d.keys.forget(keyName{region, id})
	return d.change(ctx, "remove key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE"+keyByName, region, id)
		return err
	})
}

const keysOfAccount = " FROM keys WHERE account = ? AND region = ? AND id > ? AND state NOT IN ('Creating', 'Deleting') ORDER BY id LIMIT ?"

// Keys implements service.Store.
func (d *DB) Keys(ctx context.Context, account, region, after string, limit int) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+keysOfAccount, account, region, after, limit)
	return collect(rows, err, scanKey)
}

// unfinished has one part for each partial index.
const unfinished = ` FROM (
	SELECT * FROM keys WHERE state = 'Deleting'
	UNION ALL SELECT * FROM keys WHERE state = 'PendingDeletion' AND deletion_at <= ?
	UNION ALL SELECT * FROM keys WHERE state = 'Creating' AND created_at < ?
) LIMIT ?`

// UnfinishedKeys implements service.Store.
func (d *DB) UnfinishedKeys(ctx context.Context, createdBefore, dueBy time.Time, limit int) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+unfinished, nanos(dueBy), nanos(createdBefore), limit)
	return collect(rows, err, scanKey)
}
