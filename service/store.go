package service

import (
	"context"
	"errors"
	"time"
)

// Errors of a Store. Everything else it returns is an internal failure.
var (
	ErrNoRow  = errors.New("no such row")
	ErrExists = errors.New("row exists already")
	ErrLimit  = errors.New("limit reached")
	// ErrTakenOver: another server does this work now (Exclusively).
	ErrTakenOver = errors.New("taken over by another server")
)

// Store keeps the metadata. Its contract:
//
//   - A method that returns nil after a change has made it durable: it survives a crash of the process and of
//     the machine. One that returns an error has changed nothing, or the whole (the connection was lost
//     after commit); it never changes a part.
//   - Changes are serialisable, also between processes. A change is seen at once by the Store it went through
//     and within one second by every other one. One that can't look for changes goes on to answer from memory only for as
//     long as it was told that it may.
//   - An error that is context.DeadlineExceeded says that the store can't be reached, or was busy for too long: the same may
//     succeed later.
//   - Key, Alias, AccessKey, Principal, Certificate and GrantsOf are served from memory when they can be. What they return is shared: it must
//     not be modified.
type Store interface {
	// InsertKey adds a key with its materials and tags; ErrExists when the region has the id.
	InsertKey(ctx context.Context, k *Key) error
	// Key returns a key in any state; ErrNoRow when there is none.
	Key(ctx context.Context, region, id string) (*Key, error)
	// UpdateKey reads the key, lets change modify a private copy (all but ID, Account, Region), and writes it
	// back, as one transaction. When change returns an error nothing is written and that error is returned as it is. change is
	// run again, on a new copy, when the transaction has met another one; so are those of the other methods.
	UpdateKey(ctx context.Context, region, id string, change func(*Key) error) error
	// RemoveKey deletes a key with its materials, tags and aliases; removing an absent one is no error.
	RemoveKey(ctx context.Context, region, id string) error
	// RelatedKeys returns every key with this id, in any state and region: the keys of one multi-Region key.
	RelatedKeys(ctx context.Context, id string) ([]*Key, error)
	// ChangeRelatedKeys is UpdateKey for all of them at once: change gets private copies and returns the rows to be
	// written; one with a region that had none is added.
	ChangeRelatedKeys(ctx context.Context, id string, change func([]*Key) ([]*Key, error)) error
	// Keys returns up to limit keys of an account and region whose state is neither Creating nor Deleting, in
	// order of id, from the first id greater than after.
	Keys(ctx context.Context, account, region, after string, limit int) ([]*Key, error)
	// EveryKey returns up to limit keys of all accounts and states, in order of region and id, from the first one behind
	// these two.
	EveryKey(ctx context.Context, region, id string, limit int) ([]*Key, error)
	// UnfinishedKeys returns up to limit keys that a reconciler must finish or undo: Creating and created
	// before createdBefore, Deleting, PendingDeletion with DeletionAt not after dueBy, or any with DueAt not after dueBy.
	// It uses an index.
	UnfinishedKeys(ctx context.Context, createdBefore, dueBy time.Time, limit int) ([]*Key, error)

	// InsertAlias adds an alias; ErrExists when the name is taken, ErrLimit when its key has maxPerKey already,
	// ErrNoRow when the key is gone.
	InsertAlias(ctx context.Context, a *Alias, maxPerKey int) error
	// UpdateAlias points an alias at another key and sets UpdatedAt; ErrNoRow, ErrLimit as InsertAlias.
	UpdateAlias(ctx context.Context, a *Alias, maxPerKey int) error
	// DeleteAlias removes an alias; ErrNoRow when there is none.
	DeleteAlias(ctx context.Context, account, region, name string) error
	// Alias returns one alias; ErrNoRow when there is none.
	Alias(ctx context.Context, account, region, name string) (*Alias, error)
	// Aliases returns up to limit aliases of an account and region (of one key when keyID is not empty), in
	// order of name, from the first name greater than after.
	Aliases(ctx context.Context, account, region, keyID, after string, limit int) ([]*Alias, error)

	// InsertGrant adds a grant; ErrLimit when its key has maxPerKey already, ErrNoRow when the key is gone.
	InsertGrant(ctx context.Context, g *Grant, maxPerKey int) error
	// DeleteGrant removes a grant; ErrNoRow when there is none.
	DeleteGrant(ctx context.Context, id string) error
	// GrantsOf returns a key's grants, in order of id.
	GrantsOf(ctx context.Context, region, keyID string) ([]*Grant, error)
	// Grant returns a grant; ErrNoRow when there is none.
	Grant(ctx context.Context, id string) (*Grant, error)
	// RetirableGrants returns up to limit grants in a region that name this retiring principal, in order of id, from the
	// first id greater than after.
	RetirableGrants(ctx context.Context, region, principal, after string, limit int) ([]*Grant, error)

	// InsertKeyStore adds a custom key store; ErrExists when its account and region have the name or the cluster,
	// ErrLimit when they have max already.
	InsertKeyStore(ctx context.Context, s *KeyStore, max int) error
	// KeyStore returns a custom key store; ErrNoRow when there is none.
	KeyStore(ctx context.Context, id string) (*KeyStore, error)
	// KeyStores returns the custom key stores of an account and region, or of all when account is empty, in order of id.
	KeyStores(ctx context.Context, account, region string) ([]*KeyStore, error)
	// UpdateKeyStore is UpdateKey for a custom key store; ErrExists when another has the name.
	UpdateKeyStore(ctx context.Context, id string, change func(*KeyStore) error) error
	// RemoveKeyStore deletes a custom key store, and forgets its service object; ErrLimit when it has keys.
	RemoveKeyStore(ctx context.Context, id string) error

	// InsertWrappingKey records a token object before it is made.
	InsertWrappingKey(ctx context.Context, k WrappingKey) error
	// ExpiredWrappingKeys returns up to limit of those that expired before a time.
	ExpiredWrappingKeys(ctx context.Context, before time.Time, limit int) ([]WrappingKey, error)
	// AdoptServiceObject is InsertServiceObject of a wrapping key, which it forgets, at once; ErrNoRow when that is gone.
	AdoptServiceObject(ctx context.Context, purpose string, id ObjectID, at time.Time) error
	// RemoveWrappingKey forgets one; an absent one is no error.
	RemoveWrappingKey(ctx context.Context, id ObjectID) error

	// RecordUses keeps the last use of each key; an older one than is there changes nothing.
	RecordUses(ctx context.Context, uses []KeyUse) error
	// LastUse returns a key's last use; ErrNoRow when there is none.
	LastUse(ctx context.Context, region, keyID string) (*KeyUse, error)

	// LeaseIVs adds n to the initialisation vectors that were leased for each key material, and returns their sums.
	LeaseIVs(ctx context.Context, materials []string, n int64) (totals []int64, err error)

	// InsertAccessKey adds a credential; ErrExists when the id is taken, ErrLimit when its principal is not its account's
	// root and has maxPerUser already, ErrNoRow when its principal is neither that nor stored.
	InsertAccessKey(ctx context.Context, k *AccessKey, maxPerUser int) error
	// AccessKey returns a credential, enabled or not; ErrNoRow when there is none.
	AccessKey(ctx context.Context, id string) (*AccessKey, error)
	// AccessKeys returns a principal's credentials, in order of id.
	AccessKeys(ctx context.Context, principal string) ([]*AccessKey, error)
	// EnableAccessKey enables or disables a credential; ErrNoRow when there is none.
	EnableAccessKey(ctx context.Context, id string, enabled bool) error
	// RemoveAccessKey deletes a credential; ErrNoRow when there is none.
	RemoveAccessKey(ctx context.Context, id string) error
	// RecordAccessKeyUses keeps the last use of each; an older one than is there changes nothing.
	RecordAccessKeyUses(ctx context.Context, uses []AccessKeyUse) error
	// LastAccessKeyUse returns the last use; ErrNoRow when there is none.
	LastAccessKeyUse(ctx context.Context, id string) (*AccessKeyUse, error)

	// PutPrincipal adds a principal, or replaces the details of the one with its ARN.
	PutPrincipal(ctx context.Context, p *Principal) error
	// Principal returns a principal; ErrNoRow when there is none.
	Principal(ctx context.Context, principal string) (*Principal, error)
	// Principals returns all principals, in order of their ARNs.
	Principals(ctx context.Context) ([]*Principal, error)
	// RemovePrincipal deletes a principal with its access keys and certificates; ErrNoRow when there is none.
	RemovePrincipal(ctx context.Context, principal string) error

	// PutCertificate maps a certificate to a principal, in place of the one that it had.
	PutCertificate(ctx context.Context, c *Certificate) error
	// Certificate returns a mapping; ErrNoRow when there is none.
	Certificate(ctx context.Context, fingerprint string) (*Certificate, error)
	// Certificates returns all mappings, in order of their fingerprints.
	Certificates(ctx context.Context) ([]*Certificate, error)
	// RemoveCertificate deletes a mapping; ErrNoRow when there is none.
	RemoveCertificate(ctx context.Context, fingerprint string) error

	// ServiceObject returns the token object that serves the service itself for a purpose; ErrNoRow when
	// there is none.
	ServiceObject(ctx context.Context, purpose string) (ObjectID, error)
	// InsertServiceObject records such an object; ErrExists when the purpose has one.
	InsertServiceObject(ctx context.Context, purpose string, id ObjectID, at time.Time) error

	// PutServiceObjectPublic records the public half of a service object that is a key pair; ErrNoRow when there is none.
	PutServiceObjectPublic(ctx context.Context, purpose string, spki []byte) error
	// ServiceObjectPublic returns it; ErrNoRow when there is none.
	ServiceObjectPublic(ctx context.Context, purpose string) ([]byte, error)

	// OwnObjects returns the token objects that serve the service itself, by purpose, wrapping keys included. Those in the
	// tokens of custom key stores are not.
	OwnObjects(ctx context.Context) (map[string]ObjectID, error)

	// InsertPendingRecord keeps an audit record until it is in the log.
	InsertPendingRecord(ctx context.Context, record []byte) error
	// PendingRecords returns up to limit of them, in the order of their keeping.
	PendingRecords(ctx context.Context, limit int) ([]PendingRecord, error)
	// RemovePendingRecord forgets one; an absent one is no error.
	RemovePendingRecord(ctx context.Context, number int64) error

	// Exclusively runs work that only one server may do at a time, or returns nil without running it while another server does it.
	// A server that isn't heard of for some seconds loses the work to another one: it may live on and wake up, but whatever do
	// then changes with its context is ErrTakenOver, and has no effect.
	Exclusively(ctx context.Context, work string, do func(context.Context) error) error

	// Ping proves that the store answers and takes a transaction that may write.
	Ping(ctx context.Context) error
}
