package service

import (
	"context"
	"errors"
	"time"

	"github.com/verenc/kms/hsm"
)

// ObjectID is the CKA_ID of a token object.
type ObjectID = hsm.ObjectID

// KeyState is the state of a KMS key (AWS page "Key states of AWS KMS keys").
// Deleting is ours: the waiting period is over and the token objects are being destroyed; to a client such
// a key no longer exists.
type KeyState string

// The states of a key that a store may hold.
const (
	StateCreating        KeyState = "Creating"
	StateEnabled         KeyState = "Enabled"
	StateDisabled        KeyState = "Disabled"
	StatePendingDeletion KeyState = "PendingDeletion"
	StateDeleting        KeyState = "Deleting"
)

// Role says what a token object does for its key material.
type Role string

// Roles of token objects.
const (
	RoleSeal Role = "seal" // AES-256, CKA_ENCRYPT and CKA_DECRYPT only
	RoleWrap Role = "wrap" // AES-256, CKA_WRAP and CKA_UNWRAP only
)

// Key is the metadata of one KMS key. It holds no key material: Objects name where that is in the token.
type Key struct {
	ID          string // UUID, or mrk- and 32 hex digits; unique in its region
	Account     string // 12 digits
	Region      string
	Spec        string // KeySpec, e.g. SYMMETRIC_DEFAULT
	Usage       string // KeyUsageType, e.g. ENCRYPT_DECRYPT
	Origin      string // OriginType, e.g. AWS_KMS
	State       KeyState
	Description string
	Policy      string // the text as it was given
	CreatedAt   time.Time
	DeletionAt  time.Time // zero unless State is PendingDeletion or Deleting
	Materials   []Material
	Tags        []Tag
}

// Material is one generation of a key's cryptographic material. Its ordinal (from 1) is part of every
// ciphertext blob; the one with the highest ordinal is current.
type Material struct {
	Ordinal   uint32
	ID        string // KeyMaterialId: 64 hex digits
	CreatedAt time.Time
	Objects   map[Role]ObjectID
}

// Tag is a key's tag (AWS page "Tags in AWS KMS").
type Tag struct {
	TagKey   string `shape:"TagKeyType" required:"true"`
	TagValue string `shape:"TagValueType" required:"true"`
}

// Alias is a name for a key, unique in its account and region.
type Alias struct {
	Account   string
	Region    string
	Name      string // with its prefix "alias/"
	KeyID     string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// AccessKey is a SigV4 credential. Its secret is stored sealed by the token and bound to ID.
type AccessKey struct {
	ID           string // 20 characters, "AKIA..."
	Account      string
	PrincipalARN string
	SealedSecret []byte
	Enabled      bool
	CreatedAt    time.Time
}

// Errors of a Store. Everything else it returns is an internal failure.
var (
	ErrNoRow  = errors.New("no such row")
	ErrExists = errors.New("row exists already")
	ErrLimit  = errors.New("limit reached")
)

// Store keeps the metadata. Its contract:
//
//   - A method that returns nil after a change has made it durable: it survives a crash of the process and of
//     the machine. One that returns an error has changed nothing, or the whole (the connection was lost
//     after commit); it never changes a part.
//   - Changes are serialisable, also between processes. A change is seen at once by the Store it went through
//     and within one second by every other one.
//   - Key, Alias and AccessKey are served from memory when they can be. What they return is shared: it must
//     not be modified.
type Store interface {
	// InsertKey adds a key with its materials and tags; ErrExists when the region has the id.
	InsertKey(ctx context.Context, k *Key) error
	// Key returns a key in any state; ErrNoRow when there is none.
	Key(ctx context.Context, region, id string) (*Key, error)
	// UpdateKey reads the key, lets change modify a private copy (all but ID, Account, Region), and writes it
	// back, as one transaction. When change returns an error nothing is written and that error is returned as it is.
	UpdateKey(ctx context.Context, region, id string, change func(*Key) error) error
	// RemoveKey deletes a key with its materials, tags and aliases; removing an absent one is no error.
	RemoveKey(ctx context.Context, region, id string) error
	// Keys returns up to limit keys of an account and region whose state is neither Creating nor Deleting, in
	// order of id, from the first id greater than after.
	Keys(ctx context.Context, account, region, after string, limit int) ([]*Key, error)
	// UnfinishedKeys returns up to limit keys that a reconciler must finish or undo: Creating and created
	// before createdBefore, Deleting, or PendingDeletion with DeletionAt not after dueBy. It uses an index.
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

	// InsertAccessKey adds a credential; ErrExists when the id is taken.
	InsertAccessKey(ctx context.Context, k *AccessKey) error
	// AccessKey returns a credential, enabled or not; ErrNoRow when there is none.
	AccessKey(ctx context.Context, id string) (*AccessKey, error)

	// ServiceObject returns the token object that serves the service itself for a purpose; ErrNoRow when
	// there is none.
	ServiceObject(ctx context.Context, purpose string) (ObjectID, error)
	// InsertServiceObject records such an object; ErrExists when the purpose has one.
	InsertServiceObject(ctx context.Context, purpose string, id ObjectID, at time.Time) error

	// Ping proves that the store answers and takes a transaction that may write.
	Ping(ctx context.Context) error
}
