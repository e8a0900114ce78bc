package evidence

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/audit"
)

// AuditKeys makes and finds the token keys that sign the audit log's checkpoints. Newest needs the
// Store only; for the other methods all fields are required.
type AuditKeys struct {
	Store AuditKeyStore
	Token AuditKeyToken
	Now   func() time.Time
	Rand  io.Reader
}

// AuditKeyStore is the part of a store that AuditKeys needs.
type AuditKeyStore interface {
	// ServiceObject returns the token object that serves the service itself for a purpose;
	// service.ErrNoRow when there is none.
	ServiceObject(ctx context.Context, purpose string) (service.ObjectID, error)
	// InsertServiceObject records such an object.
	InsertServiceObject(ctx context.Context, purpose string, id service.ObjectID, at time.Time) error
	// ServiceObjectPublic returns the public half of a service object that is a key pair;
	// service.ErrNoRow when there is none.
	ServiceObjectPublic(ctx context.Context, purpose string) ([]byte, error)
	// PutServiceObjectPublic records the public half.
	PutServiceObjectPublic(ctx context.Context, purpose string, spki []byte) error
}

// AuditKeyToken is the part of a token that AuditKeys needs; *hsm.Token implements it.
type AuditKeyToken interface {
	Destroy(ctx context.Context, ids ...hsm.ObjectID) error
	GenerateKeyPair(ctx context.Context, k hsm.KeyPair) (spki []byte, err error)
	Sign(ctx context.Context, key hsm.Key, t hsm.KeyType, scheme hsm.Scheme, message []byte) ([]byte, error)
}

// maxAuditKeys bounds their number. Each rotation makes one.
const maxAuditKeys = 1000

func auditPurpose(n int) string { return fmt.Sprintf("audit/%d", n) }

// Signers returns all keys, the oldest first. When there is none it makes the first. The log itself
// knows which key is in force.
func (a AuditKeys) Signers(ctx context.Context) ([]audit.Signer, error) {
	var signers []audit.Signer
	for n := 1; n <= maxAuditKeys; n++ {
		s, err := a.signer(ctx, auditPurpose(n))
		if errors.Is(err, service.ErrNoRow) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find the audit log's signing key: %w", err)
		}
		signers = append(signers, s)
	}
	if signers != nil {
		return signers, nil
	}
	first, err := a.Next(ctx)
	return []audit.Signer{first}, err
}

// Proven returns the public keys of all signers. The database, which lists them, is not believed: the
// token has to sign with each, and the signature has to verify.
func (a AuditKeys) Proven(ctx context.Context) ([]crypto.PublicKey, error) {
	signers, err := a.Signers(ctx)
	if err != nil {
		return nil, err
	}
	var keys []crypto.PublicKey
	for _, s := range signers {
		if _, err := audit.SignNote(ctx, "verenc", s, "verenc: proof of a key\n"); err != nil {
			return nil, fmt.Errorf("prove the audit log's signing keys: %w", err)
		}
		keys = append(keys, s.Public())
	}
	return keys, nil
}

// Newest returns the object and the public key (SubjectPublicKeyInfo) of the newest key, without the
// token; service.ErrNoRow when there is none.
func (a AuditKeys) Newest(ctx context.Context) (id service.ObjectID, spki []byte, err error) {
	for n := 1; n <= maxAuditKeys; n++ {
		next, err := a.Store.ServiceObjectPublic(ctx, auditPurpose(n))
		if errors.Is(err, service.ErrNoRow) {
			break
		}
		if err == nil {
			id, err = a.Store.ServiceObject(ctx, auditPurpose(n))
		}
		if err != nil {
			return id, nil, fmt.Errorf("find the audit log's signing key: %w", err)
		}
		spki = next
	}
	if spki == nil {
		return id, nil, fmt.Errorf("find the audit log's signing key: %w", service.ErrNoRow)
	}
	return id, spki, nil
}

// Next makes one more key, for the log's Rotate. It finishes an attempt that was broken off before.
func (a AuditKeys) Next(ctx context.Context) (audit.Signer, error) {
	for n := 1; n <= maxAuditKeys; n++ {
		purpose := auditPurpose(n)
		id, err := a.Store.ServiceObject(ctx, purpose)
		if errors.Is(err, service.ErrNoRow) {
			if _, err := io.ReadFull(a.Rand, id[:]); err != nil {
				return nil, fmt.Errorf("draw an object id: %w", err)
			}
			err = a.Store.InsertServiceObject(ctx, purpose, id, a.Now())
		} else if _, publicErr := a.Store.ServiceObjectPublic(ctx, purpose); publicErr == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("record the audit log's signing key: %w", err)
		}
		if err := a.generate(ctx, purpose, id); err != nil {
			return nil, fmt.Errorf("make the audit log's signing key: %w", err)
		}
		return a.signer(ctx, purpose)
	}
	return nil, fmt.Errorf("make the audit log's signing key: there are %d already", maxAuditKeys)
}

func (a AuditKeys) generate(ctx context.Context, purpose string, id service.ObjectID) error {
	if err := a.Token.Destroy(ctx, id); err != nil { // what an attempt that was broken off may have left
		return err
	}
	public, err := a.Token.GenerateKeyPair(ctx, hsm.KeyPair{
		ID: id, Label: labelPrefix + "service/" + purpose, Type: hsm.P256, Purpose: hsm.SignPair,
	})
	if err != nil {
		return err
	}
	return a.Store.PutServiceObjectPublic(ctx, purpose, public)
}

func (a AuditKeys) signer(ctx context.Context, purpose string) (audit.Signer, error) {
	id, err := a.Store.ServiceObject(ctx, purpose)
	if err != nil {
		return nil, err
	}
	spki, err := a.Store.ServiceObjectPublic(ctx, purpose)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return auditSigner{token: a.Token, id: id, public: public}, nil
}

// auditSigner signs with ECDSA on P-256, which every HSM has.
type auditSigner struct {
	token  AuditKeyToken
	id     service.ObjectID
	public crypto.PublicKey
}

func (s auditSigner) Public() crypto.PublicKey { return s.public }

func (s auditSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return s.token.Sign(ctx, s.id, hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}, digest)
}
