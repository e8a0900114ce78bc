package service

import (
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/destruction"
)

// ObjectID is the CKA_ID of a token object.
type ObjectID = hsm.ObjectID

// KeyState is the state of a KMS key (AWS page "Key states of AWS KMS keys"). AWS does not have
// Deleting: the waiting period is over and the token objects are being destroyed. To clients such a
// key no longer exists.
type KeyState string

// The states of a key that a store may hold.
const (
	StateCreating        KeyState = "Creating"
	StateEnabled         KeyState = "Enabled"
	StateDisabled        KeyState = "Disabled"
	StatePendingDeletion KeyState = "PendingDeletion"
	// StatePendingReplicaDeletion: a multi-Region primary key waits for the deletion of its
	// replicas.
	StatePendingReplicaDeletion KeyState = "PendingReplicaDeletion"
	// StatePendingImport: the key lacks material that must be imported.
	StatePendingImport KeyState = "PendingImport"
	StateUpdating      KeyState = "Updating"
	StateDeleting      KeyState = "Deleting"
	// StateUnavailable is never stored: clients see it while a key's custom key store is
	// disconnected.
	StateUnavailable KeyState = "Unavailable"
)

// Role is the purpose of a token object of a key's material.
type Role string

// Roles of token objects.
const (
	RoleSeal Role = "seal" // AES-256, CKA_ENCRYPT and CKA_DECRYPT only
	RoleWrap Role = "wrap" // AES-256, CKA_WRAP and CKA_UNWRAP only
	RolePair Role = "pair" // the private key of an asymmetric key
	RoleMAC  Role = "mac"  // an HMAC key
)

// Key is the metadata of one KMS key. It has no key material in clear: Objects are the token
// objects that have it.
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

// Details are the fields of a key that are stored as JSON, since no query needs them.
type Details struct {
	PublicKey []byte `json:",omitempty"` // SubjectPublicKeyInfo (RFC 5280) of an asymmetric key
	// PrimaryRegion is the region of the primary key, for a multi-Region key.
	PrimaryRegion string `json:",omitempty"`
	// PendingWindow is the waiting period in days that begins when the last replica is gone
	// (PendingReplicaDeletion only).
	PendingWindow int32 `json:",omitempty"`
	// Deletion is who asked for the key's deletion; nil unless its waiting period has begun, or will.
	Deletion *destruction.Request `json:",omitempty"`
	Rotation Rotation             `json:",omitzero"`
}

// Rotation is the automatic and on-demand rotation of a key (AWS page "Rotate AWS KMS keys").
type Rotation struct {
	PeriodDays int32     `json:",omitempty"` // of automatic rotation; 0 when it is off
	NextAt     time.Time `json:",omitzero"`  // of automatic rotation
	OnDemand   int       `json:",omitempty"` // on-demand rotations so far
}

func (k *Key) multiRegion() bool { return k.PrimaryRegion != "" }

func (k *Key) primary() bool { return k.PrimaryRegion == k.Region }

// DueAt is when the reconciler must look at the key: at its next rotation, when imported material
// expires, or when the request that made scrap material has surely ended. Zero is never.
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
