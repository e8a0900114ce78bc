package service

import (
	"context"
	"errors"
	"time"

	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
)

// Errors of a Store. Everything else it returns is an internal failure. Package iam, whose store is
// a part of this one, knows two of them.
var (
	ErrNoRow  = iam.ErrNoRow
	ErrExists = errors.New("row exists already")
	ErrLimit  = iam.ErrLimit
	// ErrTakenOver: another server does this work now (Exclusively).
	ErrTakenOver = errors.New("taken over by another server")
)

// Store keeps the metadata; *store.DB implements it. Its contract, which is that of each part:
//
//   - A change is durable when its method returns nil: it survives a crash of the process and of
//     the machine. A method that returns an error has changed nothing or, if the connection was
//     lost after the commit, everything. It never changes a part.
//   - Changes are serialisable, also between processes. A change is seen at once by the Store that
//     made it, and within one second by every other one. One that can't look for changes goes on
//     to answer from memory only for as long as it was told that it may.
//   - An error that is context.DeadlineExceeded says that the store can't be reached, or was busy
//     for too long: the same may succeed later.
//   - Key, Alias, AccessKey, Principal, Certificate, Guard and GrantsOf are served from memory when they
//     can be. What they return is shared: it must not be modified.
type Store interface {
	KeyRows
	AliasRows
	GrantRows
	KeyStoreRows
	WrappingKeyRows
	ServiceObjectRows
	KeyUseRows
	IVLeases
	DestructionRows
	record.PendingStore
	approval.Store
	iam.Store

	// Exclusively runs work that only one server may do at a time, or returns nil without running
	// it while another server does it. A server that isn't heard of for some seconds loses the work
	// to another one: it may live on and wake up, but whatever do then changes with its context is
	// ErrTakenOver, and has no effect.
	Exclusively(ctx context.Context, work string, do func(context.Context) error) error

	// Ping proves that the store answers and takes a transaction that may write.
	Ping(ctx context.Context) error
}

// KeyRows keeps the metadata of keys.
type KeyRows interface {
	// InsertKey adds a key with its materials and tags; ErrExists when the region has the id.
	InsertKey(ctx context.Context, k *Key) error
	// Key returns a key in any state; ErrNoRow when there is none.
	Key(ctx context.Context, region, id string) (*Key, error)
	// KeyNow is Key as the database has it now. Key may be as old as a change of another server that has
	// not been heard of yet.
	KeyNow(ctx context.Context, region, id string) (*Key, error)
	// UpdateKey reads a key, lets change modify a private copy (all but ID, Account and Region),
	// and writes it back, in one transaction. If change returns an error, nothing is written and
	// UpdateKey returns that error. When the transaction has met another one, change is run again,
	// on a new copy; so are those of the other methods.
	UpdateKey(ctx context.Context, region, id string, change func(*Key) error) error
	// RemoveKey deletes a key with its materials, tags and aliases; removing an absent one is no
	// error.
	RemoveKey(ctx context.Context, region, id string) error
	// RelatedKeys returns every key with this id, in any state and region: the keys of one
	// multi-Region key.
	RelatedKeys(ctx context.Context, id string) ([]*Key, error)
	// ChangeRelatedKeys is UpdateKey for all keys of a multi-Region key at once: change gets
	// private copies and returns the rows to write. A row with a region that had none is added.
	ChangeRelatedKeys(ctx context.Context, id string, change func([]*Key) ([]*Key, error)) error
	// Keys returns up to limit keys of an account and region whose state is neither Creating nor
	// Deleting, in order of id, from the first id greater than after.
	Keys(ctx context.Context, account, region, after string, limit int) ([]*Key, error)
	// EveryKey returns up to limit keys of all accounts and states, in order of region and id, from
	// the first one after the given region and id.
	EveryKey(ctx context.Context, region, id string, limit int) ([]*Key, error)
	// UnfinishedKeys returns up to limit keys that the reconciler has work with: those in state
	// Creating and created before createdBefore, those in state Deleting, those in state
	// PendingDeletion with DeletionAt not after dueBy, and any with DueAt not after dueBy. It uses
	// an index.
	UnfinishedKeys(ctx context.Context, createdBefore, dueBy time.Time, limit int) ([]*Key, error)
}

// AliasRows keeps aliases.
type AliasRows interface {
	// InsertAlias adds an alias; ErrExists if there is one of its name, ErrLimit if its key has
	// maxPerKey already, ErrNoRow if its key does not exist.
	InsertAlias(ctx context.Context, a *Alias, maxPerKey int) error
	// UpdateAlias points an alias at another key and sets UpdatedAt; ErrNoRow and ErrLimit as for
	// InsertAlias.
	UpdateAlias(ctx context.Context, a *Alias, maxPerKey int) error
	// DeleteAlias removes an alias; ErrNoRow when there is none.
	DeleteAlias(ctx context.Context, account, region, name string) error
	// Alias returns one alias; ErrNoRow when there is none.
	Alias(ctx context.Context, account, region, name string) (*Alias, error)
	// Aliases returns up to limit aliases of an account and region (of one key when keyID is not
	// empty), in order of name, from the first name greater than after.
	Aliases(ctx context.Context, account, region, keyID, after string, limit int) ([]*Alias, error)
}

// GrantRows keeps grants.
type GrantRows interface {
	// InsertGrant adds a grant; ErrLimit if its key has maxPerKey already, ErrNoRow if its key does
	// not exist.
	InsertGrant(ctx context.Context, g *Grant, maxPerKey int) error
	// DeleteGrant removes a grant; ErrNoRow when there is none.
	DeleteGrant(ctx context.Context, g *Grant) error
	// GrantsOf returns a key's grants, in order of id.
	GrantsOf(ctx context.Context, region, keyID string) ([]*Grant, error)
	// Grant returns a grant; ErrNoRow when there is none.
	Grant(ctx context.Context, id string) (*Grant, error)
	// RetirableGrants returns up to limit grants in a region that name this retiring principal, in
	// order of id, from the first id greater than after.
	RetirableGrants(ctx context.Context, region, principal, after string, limit int) ([]*Grant, error)
}

// KeyStoreRows keeps custom key stores.
type KeyStoreRows interface {
	// InsertKeyStore adds a custom key store; ErrExists if its account and region have one of its
	// name or cluster, ErrLimit if they have max already.
	InsertKeyStore(ctx context.Context, s *KeyStore, max int) error
	// KeyStore returns a custom key store; ErrNoRow when there is none.
	KeyStore(ctx context.Context, id string) (*KeyStore, error)
	// KeyStores returns the custom key stores of an account and region, or of all when account is
	// empty, in order of id.
	KeyStores(ctx context.Context, account, region string) ([]*KeyStore, error)
	// UpdateKeyStore is UpdateKey for a custom key store; ErrExists when another has the name.
	UpdateKeyStore(ctx context.Context, id string, change func(*KeyStore) error) error
	// RemoveKeyStore deletes a custom key store and the row of its service object; ErrLimit if it
	// has keys.
	RemoveKeyStore(ctx context.Context, id string) error
	// KeyStoresChanged receives a value when custom key stores have changed, or may have, within the
	// second in which the change of another process is seen.
	KeyStoresChanged() <-chan struct{}
}

// WrappingKeyRows keeps token objects that expire, unless they are adopted before.
type WrappingKeyRows interface {
	// InsertWrappingKey records a token object before it is made.
	InsertWrappingKey(ctx context.Context, k WrappingKey) error
	// ExpiredWrappingKeys returns up to limit wrapping keys that expired before a time.
	ExpiredWrappingKeys(ctx context.Context, before time.Time, limit int) ([]WrappingKey, error)
	// AdoptServiceObject makes a wrapping key a service object: InsertServiceObject and
	// RemoveWrappingKey in one transaction. ErrNoRow if there is no such wrapping key.
	AdoptServiceObject(ctx context.Context, purpose string, id ObjectID, at time.Time) error
	// RemoveWrappingKey deletes the row of a wrapping key; removing an absent one is no error.
	RemoveWrappingKey(ctx context.Context, id ObjectID) error
}

// ServiceObjectRows keeps the token objects that serve the service itself.
type ServiceObjectRows interface {
	// ServiceObject returns the token object that serves the service itself for a purpose; ErrNoRow
	// when there is none.
	ServiceObject(ctx context.Context, purpose string) (ObjectID, error)
	// InsertServiceObject records such an object; ErrExists when the purpose has one.
	InsertServiceObject(ctx context.Context, purpose string, id ObjectID, at time.Time) error
	// PutServiceObjectPublic records the public key of a service object that is a key pair;
	// ErrNoRow when there is none.
	PutServiceObjectPublic(ctx context.Context, purpose string, spki []byte) error
	// ServiceObjectPublic returns the public key of a service object; ErrNoRow when there is none.
	ServiceObjectPublic(ctx context.Context, purpose string) ([]byte, error)
	// OwnObjects returns the service objects in the service's own token by their purpose, and its
	// wrapping keys.
	OwnObjects(ctx context.Context) (map[string]ObjectID, error)
}

// KeyUseRows keeps when keys were last used.
type KeyUseRows interface {
	// RecordUses records the last use of each key. A use that is older than the recorded one
	// changes nothing.
	RecordUses(ctx context.Context, uses []KeyUse) error
	// LastUse returns a key's last use; ErrNoRow when there is none.
	LastUse(ctx context.Context, region, keyID string) (*KeyUse, error)
}

// DestructionCertificate is a signed statement that key material was destroyed; see package destruction.
type DestructionCertificate struct {
	ID     string
	Region string
	KeyID  string
	At     time.Time // of the statement
	Signed []byte
}

// DestructionRows keeps destruction certificates, for ever.
type DestructionRows interface {
	// InsertDestruction adds a certificate; ErrExists when there is one with its id.
	InsertDestruction(ctx context.Context, c *DestructionCertificate) error
	// Destruction returns a certificate; ErrNoRow when there is none.
	Destruction(ctx context.Context, id string) (*DestructionCertificate, error)
	// Destructions returns up to limit certificates in order of At and ID, from the first one after these two.
	Destructions(ctx context.Context, at time.Time, id string, limit int) ([]*DestructionCertificate, error)
}

// IVLeases counts the initialisation vectors that key materials have used.
type IVLeases interface {
	// LeaseIVs adds n to the number of initialisation vectors that each key material has used, and
	// returns the totals.
	LeaseIVs(ctx context.Context, materials []string, n int64) (totals []int64, err error)
}
