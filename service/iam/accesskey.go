package iam

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/record"
)

// maxAccessKeys is how many access keys a user can have (AWS page "IAM and AWS STS quotas"): two, so
// that one can replace the other.
const maxAccessKeys = 2

// AccessKey is a SigV4 credential. Its secret is stored sealed by the token and bound to ID.
type AccessKey struct {
	ID           string // 20 characters, "AKIA..."
	Account      string
	PrincipalARN string
	SealedSecret []byte
	Enabled      bool
	CreatedAt    time.Time
	ExpiresAt    time.Time // zero: never
}

// Expired reports whether the end of an access key has come.
func (k *AccessKey) Expired(now time.Time) bool {
	return !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt)
}

// AccessKeyUse is the last request that an access key has signed.
type AccessKeyUse struct {
	ID      string
	At      time.Time
	Region  string
	Service string // kms or sts
}

// Secret is a secret access key. It never shows in logs.
type Secret []byte

func (Secret) String() string { return "[secret]" }

// GoString implements fmt.GoStringer, for %#v.
func (Secret) GoString() string { return "[secret]" }

// Credential is an access key with its secret, as it is shown once.
type Credential struct {
	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    string // of temporary credentials; empty for others
}

// newCredential draws an access key, whose id begins with prefix. The caller clears its secret.
func (d *Directory) newCredential(prefix string) (*Credential, error) {
	var random [40]byte // 10 for the id, 30 for the secret
	if _, err := io.ReadFull(d.rand, random[:]); err != nil {
		return nil, fmt.Errorf("draw an access key: %w", err)
	}
	defer clear(random[:])
	return &Credential{AccessKeyID: prefix + base32.StdEncoding.EncodeToString(random[:10]),
		SecretAccessKey: base64.StdEncoding.AppendEncode(nil, random[10:])}, nil
}

// accessKeyData is the additional data that binds a sealed secret to its access key and to this use.
func accessKeyData(id string) string { return "verenc-kms/access-key/1|" + id }

// Lifetime is how long a new access key is to be valid: a number of days, or until a time. The zero Lifetime is as long
// as the user's AccessKeyDays let it be.
type Lifetime struct {
	Days  int
	Until time.Time
}

// CreateAccessKey is CreateAccessKeyFor of an access key that ends when the user's rules say so, or never.
func (d *Directory) CreateAccessKey(ctx context.Context, account, principal string) (*Credential, error) {
	return d.CreateAccessKeyFor(ctx, account, principal, Lifetime{})
}

// CreateAccessKeyFor makes an access key of a user, or of the root principal of an account. Its secret is stored sealed
// by the token, bound to its id, and returned this once.
func (d *Directory) CreateAccessKeyFor(ctx context.Context, account, principal string, lasts Lifetime) (
	*Credential, error) {
	if kindOf(principal) == KindRole {
		return nil, fmt.Errorf("%s is a role and has no access keys: AssumeRole gives temporary credentials", principal)
	}
	created, err := d.newCredential("AKIA")
	if err != nil {
		return nil, err
	}
	if err := d.insertAccessKey(ctx, account, principal, created, lasts); err != nil {
		clear(created.SecretAccessKey)
		return nil, err
	}
	return created, nil
}

// insertAccessKey stores an access key with its secret sealed, and keeps the record of CreateAccessKey.
func (d *Directory) insertAccessKey(ctx context.Context, account, principal string, created *Credential,
	lasts Lifetime) error {
	lasts, err := d.accessKeyEnd(ctx, principal, lasts)
	if err != nil {
		return err
	}
	expires := lasts.Until
	id := created.AccessKeyID
	sealed, err := d.sealer.Seal(ctx, created.SecretAccessKey, accessKeyData(id))
	if err != nil {
		return fmt.Errorf("seal access key: %w", err)
	}
	command := &record.Command{Name: "CreateAccessKey", Account: account, About: aboutPrincipal(principal),
		Parameters: audit.Object{{Name: "accessKeyId", Value: id}}, Drawn: []string{"accessKeyId"}}
	if !expires.IsZero() {
		end := audit.Member{Name: "expires", Value: expires.Format(time.RFC3339)}
		command.Parameters = append(command.Parameters, end)
	}
	if lasts.Days > 0 { // who approves of so many days approves of whatever day they end on
		command.Parameters = append(command.Parameters, audit.Member{Name: "expiresDays", Value: lasts.Days})
		command.Drawn = append(command.Drawn, "expires")
	}
	err = d.records.Run(ctx, command,
		func(ctx context.Context) error {
			return d.store.InsertAccessKey(ctx, &AccessKey{ID: id, Account: account, PrincipalARN: principal,
				SealedSecret: sealed, Enabled: true, CreatedAt: d.now(), ExpiresAt: expires}, maxAccessKeys)
		})
	switch {
	case errors.Is(err, ErrLimit):
		return fmt.Errorf("%s has %d access keys already, the most that a user can have: delete one first "+
			"(verenc access-key list shows the last uses)", principal, maxAccessKeys)
	case errors.Is(err, ErrNoRow):
		return fmt.Errorf("there is no %s: create the user first", principal)
	case err != nil:
		return fmt.Errorf("store access key: %w", err)
	}
	return nil
}

// accessKeyEnd returns how long a new access key is to last, with the time of its end: zero is never.
func (d *Directory) accessKeyEnd(ctx context.Context, principal string, wanted Lifetime) (Lifetime, error) {
	now := d.now().UTC()
	if wanted.Days > 0 {
		wanted.Until = now.AddDate(0, 0, wanted.Days)
	}
	if wanted.Until = wanted.Until.UTC(); !wanted.Until.IsZero() && !now.Before(wanted.Until) {
		return wanted, fmt.Errorf("the access key would expire at %s, which is over", wanted.Until.Format(time.RFC3339))
	}
	p, err := d.store.Principal(ctx, principal)
	switch {
	case errors.Is(err, ErrNoRow): // the root principal, or nobody, as the insertion tells
		return wanted, nil
	case err != nil:
		return wanted, fmt.Errorf("find %s: %w", principal, err)
	case p.AccessKeyDays == 0:
		return wanted, nil
	}
	last := Lifetime{Days: int(p.AccessKeyDays), Until: now.AddDate(0, 0, int(p.AccessKeyDays))}
	switch {
	case wanted.Until.IsZero():
		return last, nil
	case wanted.Until.After(last.Until):
		return wanted, fmt.Errorf("access keys of %s last %d days at most, until %s", principal, p.AccessKeyDays,
			last.Until.Format(time.RFC3339))
	}
	return wanted, nil
}

// PutRootAccessKey makes an access key of the root principal of an account whose id and secret are given, in place of
// one of that id. It is for servers whose keys are thrown away: whoever guesses the secret may do everything.
func (d *Directory) PutRootAccessKey(ctx context.Context, account string, key *Credential) error {
	old, err := d.store.AccessKey(ctx, key.AccessKeyID)
	switch {
	case err == nil && old.PrincipalARN != arn.Root(account):
		return fmt.Errorf("%s has an access key %s: choose another id", old.PrincipalARN, old.ID)
	case err == nil:
		err = d.DeleteAccessKey(ctx, key.AccessKeyID)
	case errors.Is(err, ErrNoRow):
		err = nil
	}
	if err != nil {
		return fmt.Errorf("put access key: %w", err)
	}
	return d.insertAccessKey(ctx, account, arn.Root(account), key, Lifetime{})
}

// CreateRootAccessKey makes an access key of the root principal of an account.
func (d *Directory) CreateRootAccessKey(ctx context.Context, account string) (*Credential, error) {
	if !arn.IsAccount(account) {
		return nil, fmt.Errorf("create access key: account %q is not 12 digits", account)
	}
	return d.CreateAccessKey(ctx, account, arn.Root(account))
}

// RotateAccessKey gives a user who has one access key a second one, and returns the id of the
// first. The first stays as it is, until its users have the second. lasts is that of CreateAccessKeyFor.
func (d *Directory) RotateAccessKey(ctx context.Context, user *Principal, lasts Lifetime) (
	created *Credential, first string, err error) {
	keys, err := d.store.AccessKeys(ctx, user.ARN)
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("list access keys: %w", err)
	case len(keys) == 0:
		return nil, "", fmt.Errorf("user %s has no access key to rotate: verenc access-key create makes one", user.Name)
	case len(keys) > 1:
		return nil, "", fmt.Errorf("user %s has %d access keys already: delete the unused one first "+
			"(verenc access-key list shows the last uses)", user.Name, len(keys))
	}
	created, err = d.CreateAccessKeyFor(ctx, user.Account, user.ARN, lasts)
	return created, keys[0].ID, err
}

// AccessKeyStatus is an access key with its last use.
type AccessKeyStatus struct {
	*AccessKey
	LastUse *AccessKeyUse // nil if there was none
}

// AccessKeys returns the access keys of a principal, in order of their ids.
func (d *Directory) AccessKeys(ctx context.Context, principal string) ([]AccessKeyStatus, error) {
	keys, err := d.store.AccessKeys(ctx, principal)
	if err != nil {
		return nil, fmt.Errorf("list access keys: %w", err)
	}
	all := make([]AccessKeyStatus, len(keys))
	for i, k := range keys {
		all[i].AccessKey = k
		use, err := d.store.LastAccessKeyUse(ctx, k.ID)
		if err == nil {
			all[i].LastUse = use
		} else if !errors.Is(err, ErrNoRow) {
			return nil, fmt.Errorf("find the last use of %s: %w", k.ID, err)
		}
	}
	return all, nil
}

// EnableAccessKey enables or disables an access key. Running servers accept, or refuse, its
// requests within a second.
func (d *Directory) EnableAccessKey(ctx context.Context, id string, enabled bool) error {
	status := map[bool]string{true: "Active", false: "Inactive"}[enabled]
	parameters := audit.Object{{Name: "accessKeyId", Value: id}, {Name: "status", Value: status}}
	return d.onAccessKey(ctx, "UpdateAccessKey", id, parameters, func(ctx context.Context) error {
		return d.store.EnableAccessKey(ctx, id, enabled)
	})
}

// DeleteAccessKey deletes an access key for good.
func (d *Directory) DeleteAccessKey(ctx context.Context, id string) error {
	parameters := audit.Object{{Name: "accessKeyId", Value: id}}
	return d.onAccessKey(ctx, "DeleteAccessKey", id, parameters, func(ctx context.Context) error {
		return d.store.RemoveAccessKey(ctx, id)
	})
}

// onAccessKey runs a command on an access key. Its record is about no resource. Without knowing whose access key it is,
// no guard could be asked: so nothing is done when the store can't tell.
func (d *Directory) onAccessKey(ctx context.Context, name, id string, parameters audit.Object,
	do func(context.Context) error) error {
	c := &record.Command{Name: name, Parameters: parameters}
	k, err := d.store.AccessKey(ctx, id)
	if err == nil {
		c.Account = k.Account
	}
	if err == nil || errors.Is(err, ErrNoRow) { // of which there is a record, too
		err = d.records.Run(ctx, c, do)
	}
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("there is no access key %s (verenc access-key list shows all)", id)
	}
	if err != nil {
		return fmt.Errorf("change access key %s: %w", id, err)
	}
	return nil
}

// AddUse remembers that an identity has signed a request, if it did so with an access key.
func (d *Directory) AddUse(who *Identity, region, service string) {
	if who.AccessKeyID == "" || who.Session != nil || who.BreakGlass != "" {
		return
	}
	d.uses.Add(who.AccessKeyID, AccessKeyUse{ID: who.AccessKeyID, At: d.now(), Region: region, Service: service})
}

// StoreUses stores the last uses that AddUse has remembered. Those that can't be stored are kept
// for the next time.
func (d *Directory) StoreUses(ctx context.Context) error {
	return d.uses.Store(func(uses []AccessKeyUse) error { return d.store.RecordAccessKeyUses(ctx, uses) })
}
