package service

import (
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
	// StatePendingReplicaDeletion: a multi-Region primary key waits for the deletion of its replicas.
	StatePendingReplicaDeletion KeyState = "PendingReplicaDeletion"
	// StatePendingImport: key material that belongs to the key is not there.
	StatePendingImport KeyState = "PendingImport"
	StateUpdating      KeyState = "Updating"
	StateDeleting      KeyState = "Deleting"
	// StateUnavailable is in no store: it is what clients see while a key's custom key store is disconnected.
	StateUnavailable KeyState = "Unavailable"
)

// Role says what a token object does for its key material.
type Role string

// Roles of token objects.
const (
	RoleSeal Role = "seal" // AES-256, CKA_ENCRYPT and CKA_DECRYPT only
	RoleWrap Role = "wrap" // AES-256, CKA_WRAP and CKA_UNWRAP only
	RolePair Role = "pair" // the private key of an asymmetric key
	RoleMAC  Role = "mac"  // an HMAC key
)

// Key is the metadata of one KMS key. It holds no key material in clear: Objects name where that is in the token.
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
	// CustomKeyStore is the CustomKeyStoreId; empty for the service's own token.
	CustomKeyStore string
	Details
}

// Details is the part of a key that no query asks for.
type Details struct {
	PublicKey []byte `json:",omitempty"` // SubjectPublicKeyInfo (RFC 5280) of an asymmetric key
	// PrimaryRegion is the region of the primary key, for a multi-Region key.
	PrimaryRegion string `json:",omitempty"`
	// PendingWindow is the waiting period in days that begins when the last replica is gone
	// (PendingReplicaDeletion only).
	PendingWindow int32    `json:",omitempty"`
	Rotation      Rotation `json:",omitzero"`
}

// Rotation is the automatic and on-demand rotation of a key (AWS page "Rotate AWS KMS keys").
type Rotation struct {
	PeriodDays int32     `json:",omitempty"` // of automatic rotation; 0 when it is off
	NextAt     time.Time `json:",omitzero"`  // of automatic rotation
	OnDemand   int       `json:",omitempty"` // on-demand rotations so far
}

func (k *Key) multiRegion() bool { return k.PrimaryRegion != "" }

func (k *Key) primary() bool { return k.PrimaryRegion == k.Region }

// DueAt is when a reconciler must look at the key: at its next rotation, when imported material expires, or when
// something begun is surely broken off. Zero is never.
func (k *Key) DueAt() time.Time {
	var due time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	for i := range k.Materials {
		m := &k.Materials[i]
		if m.Scrap {
			sooner(m.CreatedAt.Add(creationGrace))
		} else if m.present() {
			sooner(m.ExpiresAt)
		}
	}
	if k.State == StateEnabled && (!k.multiRegion() || k.primary()) { // a replica rotates with its primary
		sooner(k.Rotation.NextAt)
	}
	return due
}

// Material is one generation of a key's cryptographic material. Its ordinal (from 1) is part of every
// ciphertext blob.
type Material struct {
	Ordinal   uint32
	ID        string // KeyMaterialId: 64 hex digits
	CreatedAt time.Time
	// Objects is empty while imported material is not there: deleted, expired, or not yet imported into a replica.
	Objects map[Role]ObjectID

	// WrappedBy is, with residency wrapped, the token object under which the token has wrapped the material's keys. Wrapped are
	// these, and Objects only name them.
	WrappedBy ObjectID        `json:",omitzero"`
	Wrapped   map[Role][]byte `json:",omitempty"`
	// WrapMechanism is the CKM_ number of AES-KWP (RFC 5649) that the token had when the material was made, and wraps the
	// material's data keys and its own keys with. 0: it was not recorded, or the token has none.
	WrapMechanism uint `json:",omitempty"`

	// Scrap material is still being made, or no longer wanted: unless that changes, a reconciler destroys its objects
	// and forgets it. It is how no crash leaves an object that nobody knows of.
	Scrap bool `json:",omitempty"`
	// Pending material was imported and becomes current with the next rotation.
	Pending      bool      `json:",omitempty"`
	RotatedAt    time.Time `json:",omitzero"`  // when it became current; zero for the first
	RotationType string    `json:",omitempty"` // AUTOMATIC or ON_DEMAND, with RotatedAt
	Description  string    `json:",omitempty"` // of imported material
	ExpiresAt    time.Time `json:",omitzero"`  // of imported material; zero is never
}

func (m *Material) present() bool { return len(m.Objects) > 0 }

// current is the material that new ciphertexts are made with: the newest that waits for no rotation. It is nil for a
// key that never had any.
func (k *Key) current() *Material {
	for i := len(k.Materials) - 1; i >= 0; i-- {
		if m := &k.Materials[i]; !m.Pending && !m.Scrap {
			return m
		}
	}
	return nil
}

// pending is the material that waits for a rotation, or nil.
func (k *Key) pending() *Material {
	for i := range k.Materials {
		if m := &k.Materials[i]; m.Pending && !m.Scrap {
			return m
		}
	}
	return nil
}

// materialID is the KeyMaterialId in answers: only symmetric keys have one.
func (k *Key) materialID() string {
	if m := k.current(); m != nil && k.symmetric() {
		return m.ID
	}
	return ""
}

func (k *Key) material(ordinal uint32) (*Material, bool) {
	for i := range k.Materials {
		if k.Materials[i].Ordinal == ordinal {
			return &k.Materials[i], true
		}
	}
	return nil, false
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

// Grant gives a principal some operations on one key (AWS page "Grants in AWS KMS").
type Grant struct {
	ID        string // 64 hex digits
	Region    string
	KeyID     string
	Account   string // of the key
	Name      string // empty when it has none
	Grantee   string // ARN or service principal
	Retiring  string // ARN or service principal; empty for none
	Issuer    string // ARN of the account under which it was issued
	CreatedAt time.Time
	GrantTerms
	Secret []byte // 32 bytes, the proof in its grant token
}

// GrantTerms is the part of a grant that no query asks for.
type GrantTerms struct {
	Operations []string
	Equals     map[string]string `json:",omitempty"` // EncryptionContextEquals
	Subset     map[string]string `json:",omitempty"` // EncryptionContextSubset
	SourceARN  string            `json:",omitempty"`
	// GranteeIsService and RetiringIsService tell service principals from ARNs.
	GranteeIsService  bool `json:",omitempty"`
	RetiringIsService bool `json:",omitempty"`
}

// KeyStore is a custom key store: another PKCS#11 token, named in the configuration by its cluster id.
type KeyStore struct {
	ID              string // CustomKeyStoreId: cks- and 16 hex digits
	Account         string
	Region          string
	Name            string
	ClusterID       string
	TrustAnchor     string
	SealedPassword  []byte // the token's user PIN, sealed by the service's token and bound to ID
	Connected       bool   // as the owner wishes: ConnectCustomKeyStore was called
	ConnectionError string // ConnectionErrorCode of the last failed connection
	CreatedAt       time.Time
}

// WrappingKey is a token object for a time: the key pair that GetParametersForImport made, for which a client wraps key
// material, or an object that is to be adopted as one of the service's own.
type WrappingKey struct {
	ObjectID  ObjectID
	ExpiresAt time.Time
	KeyStore  string // CustomKeyStoreId of its token; empty for the service's own
}

// KeyUse is the last successful cryptographic operation with a key.
type KeyUse struct {
	Region    string
	KeyID     string
	Operation string
	At        time.Time
	EventID   string // of its audit record
	RequestID string
}
