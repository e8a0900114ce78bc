// Package iam knows who a caller is and what the caller's own policies allow: users, roles, access
// keys, client certificates, role sessions and the operations of AWS STS, and the declaration of
// principals that verenc apply takes.
//
// What it protects: the secrets of access keys and sessions, which are stored and sent only sealed
// by the token; and the accounts, from callers who are not who they say. A principal that was
// deleted, and a session of a role that was deleted, may do nothing, whatever credentials they have
// left.
//
// What it trusts: package transport to have verified signatures with the keys that Credentials
// returns, and client certificates before CertificateIdentity; the Sealer (the token, by way of package
// service) to open only what it has sealed. What key policies and grants allow a caller is for
// package service to decide.
//
// The methods that create, change and delete principals are for those who have the database: the
// commands. They are out of reach of the AWS API and authorise nobody. Their errors are for the
// operator, and say what to do.
package iam

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/verenc/kms/service/lastuse"
	"github.com/verenc/kms/service/record"
)

// Config is what a Directory is made of. Members are required unless they say otherwise.
type Config struct {
	Store   Store
	Sealer  Sealer
	Records *record.Recorder // of the commands that change principals
	Now     func() time.Time
	Rand    io.Reader // for identifiers and secrets
	// WebIdentities verifies the tokens of AssumeRoleWithWebIdentity. nil: there are no issuers.
	WebIdentities WebIdentities
	// VerifyProof verifies a signature with the secret of its credential: transport.VerifyProof. nil: no proof is
	// valid.
	VerifyProof func(secret []byte, p *Proof) bool
}

// Sealer seals secrets under a key of the token. Its errors, except ErrNotAuthentic, are of
// package apierror.
type Sealer interface {
	// Seal seals a secret and binds it to its use, which Open must be given too.
	Seal(ctx context.Context, secret []byte, use string) ([]byte, error)
	// Open returns a sealed secret, which its caller clears. What was not sealed for this use, or was
	// changed, is ErrNotAuthentic.
	Open(ctx context.Context, sealed []byte, use string) ([]byte, error)
}

// ErrNotAuthentic is returned for data that the Sealer did not seal for the use that is named.
var ErrNotAuthentic = errors.New("data was not sealed for this use")

// Directory knows the principals. Its methods may be called concurrently.
type Directory struct {
	store   Store
	sealer  Sealer
	records *record.Recorder
	now     func() time.Time
	rand    io.Reader

	webIdentities WebIdentities // may be nil
	verifyProof   func(secret []byte, p *Proof) bool

	signingKeys *lru.Cache[signingKeyID, [sha256.Size]byte]
	sessions    *lru.Cache[[sha256.Size]byte, *Session] // by the hash of their tokens
	policies    *lru.Cache[*byte, parsedPolicy]
	breakGlass  breakGlass
	uses        lastuse.Uses[string, AccessKeyUse] // of access keys, by id
}

// Sizes of the caches.
const (
	signingKeyCache = 10_000 // entries of about 100 bytes
	sessionCache    = 10_000
	policyCache     = 10_000 // parsed policies
)

// New returns a Directory.
func New(cfg Config) (*Directory, error) {
	if cfg.Store == nil || cfg.Sealer == nil || cfg.Records == nil || cfg.Now == nil || cfg.Rand == nil {
		return nil, errors.New("new directory of principals: Store, Sealer, Records, Now and Rand are required")
	}
	d := &Directory{store: cfg.Store, sealer: cfg.Sealer, records: cfg.Records, now: cfg.Now, rand: cfg.Rand,
		webIdentities: cfg.WebIdentities, verifyProof: cfg.VerifyProof}
	var errs [3]error
	d.signingKeys, errs[0] = lru.New[signingKeyID, [sha256.Size]byte](signingKeyCache)
	d.sessions, errs[1] = lru.New[[sha256.Size]byte, *Session](sessionCache)
	d.policies, errs[2] = lru.New[*byte, parsedPolicy](policyCache)
	return d, errors.Join(errs[:]...)
}
