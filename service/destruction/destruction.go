// Package destruction says what a destruction certificate is: a signed statement that the material of a KMS key was
// destroyed in the token, who asked for it and what the token has answered. Package service makes the statements.
// The package is small and needs no token and no database, so that auditors can check certificates with it.
//
// Whoever relies on a certificate trusts the token, this program and the signing key. It says nothing of copies of
// the token that the HSM's own tools have made, or of wrapped keys in backups of the database.
package destruction

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/statement"
)

const head = "verenc-kms destruction v1\n"

// Statement is what a certificate says.
type Statement struct {
	ID      string    // see NewID
	Time    time.Time // of the token's last answer
	Request Request
	Key     Key
	Token   hsm.Info // the one that has answered
	// Materials are those that were destroyed, oldest first.
	Materials []Material
}

// Request is who asked for a destruction.
type Request struct {
	Operation string    // ScheduleKeyDeletion, DeleteImportedKeyMaterial, or DeleteExpiredKeyMaterial without a request
	Principal string    `json:",omitempty"` // ARN of the caller
	EventID   string    `json:",omitempty"` // of the request's audit record
	At        time.Time `json:",omitzero"`  // of the request
	// ApprovedBy are the ARNs of those who have approved the request.
	ApprovedBy []string `json:",omitempty"`
}

// Key is the key whose material it was.
type Key struct {
	ARN             string
	ID              string
	Account         string
	Region          string
	Spec            string
	Usage           string
	Origin          string
	CreatedAt       time.Time
	PublicKeySHA256 string `json:",omitempty"` // of an asymmetric key's SubjectPublicKeyInfo, in hex
	// Deleted tells that the key itself is deleted, with all of its materials. Otherwise it can get the material
	// back only by another import.
	Deleted bool
}

// Material is one of the key's materials.
type Material struct {
	Ordinal   uint32
	ID        string
	CreatedAt time.Time // of what was destroyed: of imported material, the time of its last import
	// Objects were the material's objects in the token. A search in the token has found none of them afterwards.
	Objects []Object `json:",omitempty"`
	// WrappedUnder is the CKA_ID of the token object that had wrapped the material, which was kept in the
	// database. The row was deleted; a backup of it can be used as long as that object is in the token.
	WrappedUnder *hsm.ObjectID `json:",omitempty"`
}

// Object is one object of the token.
type Object struct {
	Role string
	ID   hsm.ObjectID // CKA_ID
	// Attributes are what the token said of the object before it was destroyed; nil when it was not there any
	// more, since an attempt before was broken off.
	Attributes *hsm.Attributes `json:",omitempty"`
}

// NewID returns the id of the certificate of some objects of a key: 32 hex digits. Servers that destroy the same
// objects at the same time come to the same id, and so to one certificate.
func NewID(region, keyID string, objects []hsm.ObjectID) string {
	objects = slices.Clone(objects)
	slices.SortFunc(objects, func(a, b hsm.ObjectID) int { return slices.Compare(a[:], b[:]) })
	h := sha256.New()
	fmt.Fprintf(h, "verenc-kms destruction\n%s\n%s\n", region, keyID)
	for _, id := range objects {
		h.Write(id[:])
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Sign returns the certificate as a C2SP signed note. The signer is a key of an audit log, whose origin is the
// signer's name.
func (s *Statement) Sign(ctx context.Context, origin string, signer audit.Signer) ([]byte, error) {
	return statement.Sign(ctx, head, s, origin, signer)
}

// Verify returns the statement of a certificate that one of the verifier keys has signed. It needs nothing else.
func Verify(signed []byte, keys ...string) (*Statement, error) {
	s := &Statement{}
	if err := statement.Open(signed, keys, s, head); err != nil {
		return nil, fmt.Errorf("verify destruction certificate: %w", err)
	}
	return s, nil
}
