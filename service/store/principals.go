package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/verenc/kms/service/iam"
)

const principalColumns = "arn, account, kind, created_at, details"

func scanPrincipal(row scanner) (*iam.Principal, error) {
	var p iam.Principal
	var created sql.NullInt64
	var details []byte
	if err := row.Scan(&p.ARN, &p.Account, &p.Kind, &created, &details); err != nil {
		return nil, err
	}
	p.CreatedAt = fromNanos(created)
	if err := json.Unmarshal(details, &p.PrincipalDetails); err != nil {
		return nil, fmt.Errorf("read principal %s: %w", p.ARN, err)
	}
	return &p, nil
}

// PutPrincipal implements iam.Store.
func (d *DB) PutPrincipal(ctx context.Context, p *iam.Principal) error {
	details, err := json.Marshal(p.PrincipalDetails)
	if err != nil {
		return fmt.Errorf("put principal: %w", err)
	}
	return d.changing(ctx, "put principal", &[]touched{{kindPrincipal, p.ARN}}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO principals ("+principalColumns+") VALUES "+
			placeholders(principalColumns)+
			" ON CONFLICT (arn) DO UPDATE SET details = excluded.details", p.ARN, p.Account, p.Kind, nanos(p.CreatedAt),
			string(details))
		return err
	})
}

// Principal implements iam.Store.
func (d *DB) Principal(ctx context.Context, arn string) (*iam.Principal, error) {
	return d.principals.get(arn, func() (*iam.Principal, error) {
		p, err := scanPrincipal(d.read.QueryRowContext(ctx,
			"SELECT "+principalColumns+" FROM principals WHERE arn = ?", arn))
		return one(p, err, "principal")
	})
}

// Principals implements iam.Store.
func (d *DB) Principals(ctx context.Context) ([]*iam.Principal, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+principalColumns+" FROM principals ORDER BY arn")
	return collect(rows, err, scanPrincipal)
}

// RemovePrincipal implements iam.Store. Its access keys and certificates go with it.
func (d *DB) RemovePrincipal(ctx context.Context, arn string) error {
	what := []touched{{kindPrincipal, arn}, {kindAccessKeys}, {kindCertificates}}
	return d.changing(ctx, "remove principal", &what, func(tx *sql.Tx) error {
		for _, table := range []string{"access_keys", "certificates"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table+" WHERE principal = ?", arn); err != nil {
				return err
			}
		}
		return affected(tx.ExecContext(ctx, "DELETE FROM principals WHERE arn = ?", arn))
	})
}

const accessKeyColumns = "id, account, principal, sealed_secret, enabled, created_at, expires_at"

func scanAccessKey(row scanner) (*iam.AccessKey, error) {
	var k iam.AccessKey
	var created, expires sql.NullInt64
	err := row.Scan(&k.ID, &k.Account, &k.PrincipalARN, &k.SealedSecret, &k.Enabled, &created, &expires)
	k.CreatedAt, k.ExpiresAt = fromNanos(created), fromNanos(expires)
	return &k, err
}

// InsertAccessKey implements iam.Store.
func (d *DB) InsertAccessKey(ctx context.Context, k *iam.AccessKey, maxPerUser int) error {
	return d.change(ctx, "insert access key", func(tx *sql.Tx) error {
		if k.PrincipalARN != "arn:aws:iam::"+k.Account+":root" {
			var count int
			err := tx.QueryRowContext(ctx,
				"SELECT (SELECT count(*) FROM access_keys WHERE principal = p.arn) FROM principals p WHERE arn = ?",
				k.PrincipalARN).Scan(&count)
			if _, err := one(count, err, "access keys of a principal"); err != nil {
				return err
			}
			if count >= maxPerUser {
				return iam.ErrLimit
			}
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO access_keys ("+accessKeyColumns+") VALUES "+
			placeholders(accessKeyColumns),
			k.ID, k.Account, k.PrincipalARN, k.SealedSecret, k.Enabled, nanos(k.CreatedAt), nanos(k.ExpiresAt))
		return constraintError(err)
	})
}

// AccessKey implements iam.Store.
func (d *DB) AccessKey(ctx context.Context, id string) (*iam.AccessKey, error) {
	return d.accessKeys.get(id, func() (*iam.AccessKey, error) {
		k, err := scanAccessKey(d.read.QueryRowContext(ctx,
			"SELECT "+accessKeyColumns+" FROM access_keys WHERE id = ?", id))
		return one(k, err, "access key")
	})
}

// AccessKeys implements iam.Store.
func (d *DB) AccessKeys(ctx context.Context, principal string) ([]*iam.AccessKey, error) {
	rows, err := d.read.QueryContext(ctx, "SELECT "+accessKeyColumns+
		" FROM access_keys WHERE principal = ? ORDER BY id",
		principal)
	return collect(rows, err, scanAccessKey)
}

// EnableAccessKey implements iam.Store.
func (d *DB) EnableAccessKey(ctx context.Context, id string, enabled bool) error {
	return d.changing(ctx, "enable access key", &[]touched{{kindAccessKey, id}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "UPDATE access_keys SET enabled = ? WHERE id = ?", enabled, id))
	})
}

// RemoveAccessKey implements iam.Store.
func (d *DB) RemoveAccessKey(ctx context.Context, id string) error {
	return d.changing(ctx, "remove access key", &[]touched{{kindAccessKey, id}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "DELETE FROM access_keys WHERE id = ?", id))
	})
}

// RecordAccessKeyUses implements iam.Store. A key that is gone meanwhile is passed over.
func (d *DB) RecordAccessKeyUses(ctx context.Context, uses []iam.AccessKeyUse) error {
	return d.change(ctx, "record uses of access keys", func(tx *sql.Tx) error {
		for _, u := range uses {
			_, err := tx.ExecContext(ctx, `INSERT INTO access_key_uses (id, at, region, service)
				SELECT id, ?, ?, ? FROM access_keys WHERE id = ?
				ON CONFLICT (id) DO UPDATE SET at = excluded.at, region = excluded.region, service = excluded.service
				WHERE excluded.at > access_key_uses.at`,
				nanos(u.At), u.Region, u.Service, u.ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// LastAccessKeyUse implements iam.Store.
func (d *DB) LastAccessKeyUse(ctx context.Context, id string) (*iam.AccessKeyUse, error) {
	u := iam.AccessKeyUse{ID: id}
	var at sql.NullInt64
	row := d.read.QueryRowContext(ctx, "SELECT at, region, service FROM access_key_uses WHERE id = ?", id)
	err := row.Scan(&at, &u.Region, &u.Service)
	u.At = fromNanos(at)
	return one(&u, err, "use of an access key")
}

// PutCertificate implements iam.Store.
func (d *DB) PutCertificate(ctx context.Context, c *iam.Certificate) error {
	return d.changing(ctx, "put certificate", &[]touched{{kindCertificates}}, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO certificates (fingerprint, principal, created_at) VALUES (?, ?, ?)
			ON CONFLICT (fingerprint) DO UPDATE SET principal = excluded.principal`, c.Name, c.PrincipalARN,
			nanos(c.CreatedAt))
		return err
	})
}

// Certificate implements iam.Store. Only commands ask for one.
func (d *DB) Certificate(ctx context.Context, name string) (*iam.Certificate, error) {
	c, err := scanCertificate(d.read.QueryRowContext(ctx,
		"SELECT fingerprint, principal, created_at FROM certificates WHERE fingerprint = ?", name))
	return one(c, err, "certificate")
}

// CertificatesNamed implements iam.Store.
func (d *DB) CertificatesNamed(ctx context.Context, names []string) ([]*iam.Certificate, error) {
	return d.certificates.get(names[0], func() ([]*iam.Certificate, error) {
		arguments := make([]any, len(names))
		for i, name := range names {
			arguments[i] = name
		}
		rows, err := d.read.QueryContext(ctx, "SELECT fingerprint, principal, created_at FROM certificates "+
			"WHERE fingerprint IN (?"+strings.Repeat(", ?", len(names)-1)+") ORDER BY fingerprint", arguments...)
		return collect(rows, err, scanCertificate)
	})
}

func scanCertificate(row scanner) (*iam.Certificate, error) {
	var c iam.Certificate
	var created sql.NullInt64
	err := row.Scan(&c.Name, &c.PrincipalARN, &created)
	c.CreatedAt = fromNanos(created)
	return &c, err
}

// Certificates implements iam.Store.
func (d *DB) Certificates(ctx context.Context) ([]*iam.Certificate, error) {
	rows, err := d.read.QueryContext(ctx,
		"SELECT fingerprint, principal, created_at FROM certificates ORDER BY fingerprint")
	return collect(rows, err, scanCertificate)
}

// RemoveCertificate implements iam.Store.
func (d *DB) RemoveCertificate(ctx context.Context, name string) error {
	return d.changing(ctx, "remove certificate", &[]touched{{kindCertificates}}, func(tx *sql.Tx) error {
		return affected(tx.ExecContext(ctx, "DELETE FROM certificates WHERE fingerprint = ?", name))
	})
}
