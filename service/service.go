// Package service is the key management service: every KMS operation, from a validated request to a
// typed response or a typed error.
//
// What it protects: keys and plaintexts, from callers who may not use them. Every use of a key is
// authorised by one function, authorise, and checked against the key's state and usage by the table
// of operations; keyFor does both for nearly all operations. No client's key is used in the token
// before that.
//
// What it trusts: its caller (package transport) to have verified who calls and that requests are
// well formed; the token (package hsm) to keep key material to itself; the store to keep what it
// was given. It trusts no ciphertext, alias, policy text or marker that comes from a client.
//
// Members of requests and responses have AWS's names (API Reference of AWS KMS), so that the types
// are the wire format. Package transport validates requests by the struct tags shape and
// required.
package service

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/destruction"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/keystore"
	"github.com/verenc/kms/service/quota"
	"github.com/verenc/kms/service/record"
)

// Config configures a Service.
type Config struct {
	Store Store       // required
	Token Token       // required
	Log   *zap.Logger // required; gets no secrets

	Audit record.Auditor // required: *audit.Log, record.Outbox or record.NoAudit
	// Operator runs the command that the Service is made for; nil in a server.
	Operator *record.Operator

	// Can is what the token can do, by its self-test.
	Can Capabilities
	// Residency is where new key material is kept; default ResidencyToken.
	Residency Residency
	// RequireHiddenDataKeys refuses GenerateDataKeyWithoutPlaintext and
	// GenerateDataKeyPairWithoutPlaintext where the plaintext would pass through this process.
	RequireHiddenDataKeys bool
	// TokenSources are the tokens that custom key stores may use, by CloudHsmClusterId.
	TokenSources map[string]TokenSource
	// Regions are the regions served; "*" serves every region. Default us-east-1.
	Regions []string

	// IVLimit is the limit of encryptions with one key material, and IVBlock the size of a lease of
	// them; defaults 2^31 and 2^20.
	IVLimit, IVBlock int64

	// Quotas limits how often, and how many at a time, callers may use the service. nil: nothing is
	// limited.
	Quotas *quota.Limiter

	// WebIdentities verifies the tokens of AssumeRoleWithWebIdentity. nil: there are no issuers.
	WebIdentities iam.WebIdentities
	// ApprovalsExpire is how long a call can be approved and then made; default approval.ExpiresAfter.
	ApprovalsExpire time.Duration
	// VerifyProof verifies signatures of approvals: transport.VerifyProof. nil: no approval counts.
	VerifyProof func(secret []byte, p *iam.Proof) bool
	// Certify signs the certificate of a destruction. nil: none are made.
	Certify func(context.Context, *destruction.Statement) ([]byte, error)

	// Shared says that other servers may have the store open: what they have begun is not taken for
	// what a crash has left.
	Shared bool
	// MetadataAge tells how old what the store answers from memory may be. A use that is decided on
	// what is older than the second that Store allows says so in its record. nil: nothing is.
	MetadataAge func() time.Duration

	ARNFormat arn.Format       // default arn.Verenc
	Now       func() time.Time // default time.Now
	Rand      io.Reader        // for identifiers and secrets of access keys; default crypto/rand.Reader
}

// Service is the key management service. Its methods may be called concurrently.
type Service struct {
	cfg       Config
	store     Store
	token     Token
	log       *zap.Logger
	canonical arn.Form // of ARNs in records, and in answers to requests that name no key by an ARN
	now       func() time.Time
	started   time.Time

	can Capabilities

	iam       *iam.Directory
	records   *record.Recorder
	delivery  record.Delivery
	uses      uses
	ivs       *ivBudget
	keyStores *keystore.Connections[ClosableToken]
	// connecting is held while rows of custom key stores and their connections may differ.
	connecting sync.Mutex
}

// IAM returns the principals of the service.
func (s *Service) IAM() *iam.Directory { return s.iam }

// New returns a Service. Run must be running for deletions to happen.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Token == nil || cfg.Log == nil || cfg.Audit == nil {
		return nil, errors.New("new service: Store, Token, Log and Audit are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.ARNFormat == "" {
		cfg.ARNFormat = arn.Verenc
	}
	if cfg.ARNFormat != arn.Verenc && cfg.ARNFormat != arn.AWS {
		return nil, errors.New("new service: arn_format must be verenc or aws")
	}
	if cfg.ApprovalsExpire == 0 {
		cfg.ApprovalsExpire = approval.ExpiresAfter
	}
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{"us-east-1"}
	}
	s := &Service{
		cfg:       cfg,
		store:     auditedStore{cfg.Store},
		token:     cfg.Token,
		log:       cfg.Log,
		canonical: cfg.ARNFormat.Form(),
		now:       cfg.Now,
		started:   cfg.Now(),
		can:       cfg.Can,
		ivs:       newIVBudget(cfg.IVLimit, cfg.IVBlock),
		uses:      uses{many: make(chan struct{}, 1)},
		keyStores: keystore.New[ClosableToken](cfg.Log),
	}
	s.records = record.New(record.Config{
		Auditor:  cfg.Audit,
		Operator: cfg.Operator,
		Now:      cfg.Now,
		NewID:    func() (string, error) { return s.newKeyID(false) },

		Authorise: s.authoriseCommand,
	})
	s.delivery = record.Delivery{From: s.store, To: cfg.Audit, Log: cfg.Log}
	var err error
	s.iam, err = iam.New(iam.Config{
		Store:   s.store,
		Sealer:  sealer{s},
		Records: s.records,
		Now:     cfg.Now,
		Rand:    cfg.Rand,

		WebIdentities: cfg.WebIdentities, VerifyProof: cfg.VerifyProof,
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Serves tells whether a region is served.
func (s *Service) Serves(region string) bool {
	return slices.Contains(s.cfg.Regions, region) || slices.Contains(s.cfg.Regions, "*")
}
