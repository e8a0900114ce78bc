package service

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/audit"
)

// AuditKeys makes and finds the token keys that sign the audit log's checkpoints. All members are required.
type AuditKeys struct {
	Store Store
	Token Token
	Now   func() time.Time
	Rand  io.Reader
}

// maxAuditKeys bounds the search for them: one a rotation.
const maxAuditKeys = 1000

func auditPurpose(n int) string { return fmt.Sprintf("audit/%d", n) }

// Signers gives the keys that there are, the first one made if there is none. The log itself knows which is in force.
func (a AuditKeys) Signers(ctx context.Context) ([]audit.Signer, error) {
	var signers []audit.Signer
	for n := 1; n <= maxAuditKeys; n++ {
		s, err := a.signer(ctx, auditPurpose(n))
		if errors.Is(err, ErrNoRow) {
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

// Newest gives the object and the public key (SubjectPublicKeyInfo) of the last key there is, without the token; ErrNoRow when
// there is none.
func (a AuditKeys) Newest(ctx context.Context) (id ObjectID, spki []byte, err error) {
	for n := 1; n <= maxAuditKeys; n++ {
		next, err := a.Store.ServiceObjectPublic(ctx, auditPurpose(n))
		if errors.Is(err, ErrNoRow) {
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
		return id, nil, fmt.Errorf("find the audit log's signing key: %w", ErrNoRow)
	}
	return id, spki, nil
}

// Next makes one more key, for the log's Rotate. An attempt that was broken off before is finished.
func (a AuditKeys) Next(ctx context.Context) (audit.Signer, error) {
	for n := 1; n <= maxAuditKeys; n++ {
		purpose := auditPurpose(n)
		id, err := a.Store.ServiceObject(ctx, purpose)
		if errors.Is(err, ErrNoRow) {
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
		if err := a.Token.Destroy(ctx, id); err != nil { // what a broken-off attempt may have left
			return nil, fmt.Errorf("make the audit log's signing key: %w", err)
		}
		public, err := a.Token.GenerateKeyPair(ctx, hsm.KeyPair{ID: id, Label: "verenc/service/" + purpose, Type: hsm.P256, Purpose: hsm.SignPair})
		if err == nil {
			err = a.Store.PutServiceObjectPublic(ctx, purpose, public)
		}
		if err != nil {
			return nil, fmt.Errorf("make the audit log's signing key: %w", err)
		}
		return a.signer(ctx, purpose)
	}
	return nil, fmt.Errorf("make the audit log's signing key: there are %d already", maxAuditKeys)
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
	public, err := publicKey(spki)
	if err != nil {
		return nil, err
	}
	return auditSigner{token: a.Token, id: id, public: public}, nil
}

// auditSigner signs with ECDSA on P-256, which every HSM has.
type auditSigner struct {
	token  Token
	id     ObjectID
	public crypto.PublicKey
}

func (s auditSigner) Public() crypto.PublicKey { return s.public }

func (s auditSigner) Sign(ctx context.Context, digest []byte) ([]byte, error) {
	return s.token.Sign(ctx, s.id, hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256}, digest)
}
