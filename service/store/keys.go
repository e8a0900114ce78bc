package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/verenc/kms/service"
)

type keyName struct{ region, id string }

func nameOf(k *service.Key) keyName { return keyName{k.Region, k.ID} }

// keyColumns is the order of columns in scanKey and keyValues; changed_at follows in keyValues.
const keyColumns = "region, id, account, spec, usage, origin, state, description, policy, created_at, deletion_at, " +
	"materials, tags, details, due_at, key_store"

func scanKey(row scanner) (*service.Key, error) { return scanKeyBy(json.Unmarshal, row) }

// scanToChange is scanKey for a key that is written back.
func (d *DB) scanToChange(row scanner) (*service.Key, error) { return scanKeyBy(d.whole, row) }

func scanKeyBy(unmarshal func([]byte, any) error, row scanner) (*service.Key, error) {
	var k service.Key
	var created, deletion, due sql.NullInt64
	var materials, tags, details []byte
	err := row.Scan(&k.Region, &k.ID, &k.Account, &k.Spec, &k.Usage, &k.Origin, &k.State, &k.Description, &k.Policy,
		&created, &deletion, &materials, &tags, &details, &due, &k.CustomKeyStore)
	if err != nil {
		return nil, err
	}
	k.CreatedAt, k.DeletionAt = fromNanos(created), fromNanos(deletion)
	err = errors.Join(
		unmarshal(materials, &k.Materials),
		unmarshal(tags, &k.Tags),
		unmarshal(details, &k.Details),
	)
	if err != nil {
		return nil, fmt.Errorf("read key %s: %w", k.ID, err)
	}
	return &k, nil
}

func keyValues(k *service.Key) ([]any, error) {
	var documents [3]string
	for i, v := range []any{k.Materials, k.Tags, k.Details} {
		text, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("write key %s: %w", k.ID, err)
		}
		documents[i] = string(text)
	}
	return []any{k.Region, k.ID, k.Account, k.Spec, k.Usage, k.Origin, k.State, k.Description, k.Policy,
		nanos(k.CreatedAt), nanos(k.DeletionAt), documents[0], documents[1], documents[2], nanos(k.DueAt()),
		k.CustomKeyStore, time.Now().UnixNano()}, nil
}

// placeholders has a question mark for each column.
func placeholders(columns string) string {
	return "(?" + strings.Repeat(", ?", strings.Count(columns, ",")) + ")"
}

// writtenColumns are keyColumns and the time of the change.
const writtenColumns = keyColumns + ", changed_at"

var insertKey = "INSERT INTO keys (" + writtenColumns + ") VALUES " + placeholders(writtenColumns)

// updatedColumns are all columns after those of the primary key.
var updatedColumns = strings.TrimPrefix(writtenColumns, "region, id, ")

var updateKey = "UPDATE keys SET (" + updatedColumns + ") = " + placeholders(updatedColumns) +
	" WHERE region = ? AND id = ?"

func writeNewKey(ctx context.Context, tx *sql.Tx, k *service.Key) error {
	values, err := keyValues(k)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, insertKey, values...)
	return constraintError(err)
}

func writeKey(ctx context.Context, tx *sql.Tx, k *service.Key) error {
	values, err := keyValues(k)
	if err != nil {
		return err
	}
	return affected(tx.ExecContext(ctx, updateKey, append(values[2:], k.Region, k.ID)...))
}

// InsertKey implements service.KeyRows.
func (d *DB) InsertKey(ctx context.Context, k *service.Key) error {
	return d.change(ctx, "insert key", func(tx *sql.Tx) error { return writeNewKey(ctx, tx, k) })
}

const keyByName = " FROM keys WHERE region = ? AND id = ?"

// Key implements service.KeyRows. Each use of a key asks for its grants, too, and most keys have none. So one
// statement finds out both.
func (d *DB) Key(ctx context.Context, region, id string) (*service.Key, error) {
	name := keyName{region, id}
	return d.keys.get(name, func() (*service.Key, error) {
		epoch := d.grants.now()
		k, granted, err := d.readKey(ctx, name)
		if err == nil && !granted {
			d.grants.add(name, nil, epoch)
		}
		return k, err
	})
}

// KeyNow implements service.KeyRows.
func (d *DB) KeyNow(ctx context.Context, region, id string) (*service.Key, error) {
	k, _, err := d.readKey(ctx, keyName{region, id})
	return k, err
}

const keyAndWhetherGranted = "SELECT " + keyColumns +
	", EXISTS (SELECT 1 FROM grants WHERE grants.region = keys.region AND grants.key_id = keys.id)" + keyByName

// readKey tells also whether the key has grants.
func (d *DB) readKey(ctx context.Context, name keyName) (k *service.Key, granted bool, err error) {
	row := d.read.QueryRowContext(ctx, keyAndWhetherGranted, name.region, name.id)
	k, err = scanKey(withMore{row, []any{&granted}})
	if k, err = one(k, err, "key"); err != nil {
		return nil, false, err
	}
	k.Policy, err = d.policies.get(k.Policy, func() (string, error) { return k.Policy, nil })
	return k, granted, err
}

// withMore is a row with further columns.
type withMore struct {
	scanner
	more []any
}

func (r withMore) Scan(columns ...any) error { return r.scanner.Scan(append(columns, r.more...)...) }

// UpdateKey implements service.KeyRows.
func (d *DB) UpdateKey(ctx context.Context, region, id string, change func(*service.Key) error) error {
	return d.changing(ctx, "update key", &[]touched{{kindKey, region, id}}, func(tx *sql.Tx) error {
		k, err := d.scanToChange(tx.QueryRowContext(ctx, "SELECT "+keyColumns+keyByName, region, id))
		if k, err = one(k, err, "key"); err != nil {
			return err
		}
		if err := change(k); err != nil {
			return err
		}
		return writeKey(ctx, tx, k)
	})
}

// keysRelated has the condition of its partial index, which SQLite would not use otherwise.
const keysRelated = " FROM keys WHERE id = ? AND id LIKE 'mrk-%' ORDER BY region"

// RelatedKeys implements service.KeyRows.
func (d *DB) RelatedKeys(ctx context.Context, id string) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+keysRelated, id)
	return collect(rows, err, scanKey)
}

// ChangeRelatedKeys implements service.KeyRows.
func (d *DB) ChangeRelatedKeys(
	ctx context.Context, id string, change func([]*service.Key) ([]*service.Key, error),
) error {
	var what []touched
	return d.changing(ctx, "change related keys", &what, func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT "+keyColumns+keysRelated, id)
		keys, err := collect(rows, err, d.scanToChange)
		if err != nil {
			return err
		}
		existing := map[keyName]bool{}
		for _, k := range keys {
			existing[nameOf(k)] = true
		}
		changed, err := change(keys)
		if err != nil {
			return err
		}
		for _, k := range changed {
			what = append(what, touched{kindKey, k.Region, k.ID})
			write := writeNewKey
			if existing[nameOf(k)] {
				write = writeKey
			}
			if err := write(ctx, tx, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// RemoveKey implements service.KeyRows. The key's aliases, grants and last use go with it.
func (d *DB) RemoveKey(ctx context.Context, region, id string) error {
	// Keys are rarely removed, so it need not be only their aliases.
	what := []touched{{kindKey, region, id}, {kindGrants, region, id}, {kindAliases}}
	return d.changing(ctx, "remove key", &what, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE"+keyByName, region, id)
		return err
	})
}

const keysOfAccount = ` FROM keys WHERE account = ? AND region = ? AND id > ?
	AND state NOT IN ('Creating', 'Deleting') ORDER BY id LIMIT ?`

// Keys implements service.KeyRows.
func (d *DB) Keys(ctx context.Context, account, region, after string, limit int) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+keysOfAccount, account, region, after, limit)
	return collect(rows, err, scanKey)
}

const everyKey = " FROM keys WHERE (region, id) > (?, ?) ORDER BY region, id LIMIT ?"

// EveryKey implements service.KeyRows.
func (d *DB) EveryKey(ctx context.Context, region, id string, limit int) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+everyKey, region, id, limit)
	return collect(rows, err, scanKey)
}

// unfinished has one part for each partial index. It returns a key of two parts twice, which is
// cheaper than sorting.
const unfinished = ` FROM (
	SELECT * FROM keys WHERE state = 'Deleting'
	UNION ALL SELECT * FROM keys WHERE state = 'PendingDeletion' AND deletion_at <= ?
	UNION ALL SELECT * FROM keys WHERE state = 'Creating' AND created_at < ?
	UNION ALL SELECT * FROM keys WHERE due_at IS NOT NULL AND due_at <= ?
) AS due LIMIT ?`

// UnfinishedKeys implements service.KeyRows.
func (d *DB) UnfinishedKeys(
	ctx context.Context, createdBefore, dueBy time.Time, limit int,
) ([]*service.Key, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+keyColumns+unfinished,
		nanos(dueBy), nanos(createdBefore), nanos(dueBy), limit)
	return collect(rows, err, scanKey)
}
