// Package service decides: it is every KMS operation, from a validated request to a typed answer or a typed error.
//
// What it protects: keys and plaintexts, from callers who may not use them. Every operation on a key passes
// through one function, keyFor, which finds the key, authorises the caller and checks the key's state and usage
// against one table; nothing reaches the token before that.
//
// What it trusts: its caller (package transport) to have verified who calls and the shape of the request; the
// token (package hsm) to keep key material to itself; the store to keep what it was given. It trusts no
// ciphertext, no alias, no policy text and no marker that comes back from a client.
//
// Members of requests and responses have AWS's names (API Reference of AWS KMS), so that they are the wire
// format as they stand. The tags shape and required are read by transport, which validates by them.
package service

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/arn"
)

// Token is what the operations need of the HSM; *hsm.Token implements it. Errors are those of package hsm.
type Token interface {
	GenerateSecretKey(ctx context.Context, k hsm.SecretKey) error
	Destroy(ctx context.Context, ids ...hsm.ObjectID) error
	Random(ctx context.Context, n int) ([]byte, error)
	Encrypt(ctx context.Context, key hsm.Key, plaintext, aad []byte) ([]byte, error)
	Decrypt(ctx context.Context, key hsm.Key, box, aad []byte) ([]byte, error)
	GenerateSealed(ctx context.Context, key hsm.Key, n int, aad []byte) (hsm.Sealed, error)
	GenerateWrapped(ctx context.Context, keys hsm.SealingKeys, n int, aad []byte) ([]byte, error)
	DecryptWrapped(ctx context.Context, keys hsm.SealingKeys, box []byte, n int, aad []byte) ([]byte, error)

	GenerateKeyPair(ctx context.Context, k hsm.KeyPair) (spki []byte, err error)
	Sign(ctx context.Context, key hsm.Key, t hsm.KeyType, scheme hsm.Scheme, message []byte) ([]byte, error)
	VerifyMu(ctx context.Context, t hsm.KeyType, spki, mu, signature []byte) (bool, error)
	DecryptOAEP(ctx context.Context, key hsm.Key, t hsm.KeyType, hash crypto.Hash, ciphertext []byte) ([]byte, error)
	MAC(ctx context.Context, key hsm.Key, hash crypto.Hash, message []byte) ([]byte, error)
	Derive(ctx context.Context, key hsm.Key, t hsm.KeyType, peer []byte) ([]byte, error)
	Decapsulate(ctx context.Context, key hsm.Key, t hsm.KeyType, ciphertext []byte) ([]byte, error)
	GenerateWrappedPair(ctx context.Context, keys hsm.SealingKeys, t hsm.KeyType, aad []byte) (spki, box []byte, err error)
	DecryptWrappedPair(ctx context.Context, keys hsm.SealingKeys, box, aad []byte) ([]byte, error)
	GenerateExportedPair(ctx context.Context, t hsm.KeyType) (spki, pkcs8 []byte, err error)
	Import(ctx context.Context, in hsm.Import) (hsm.Imported, error)

	CanGenerateWrapped(ctx context.Context, n int) (bool, error)
	KWPMechanism(ctx context.Context) (uint, error)

	GenerateWrappingKey(ctx context.Context, id hsm.ObjectID, label string) error
	GenerateWrappedKey(ctx context.Context, k hsm.WrappedKey) (wrapped, spki []byte, err error)
	Persist(ctx context.Context, k hsm.WrappedKey, id hsm.ObjectID, label string) error
	Evict(ctx context.Context, k hsm.WrappedKey) error
}

// Config is what a Service is made of.
type Config struct {
	Store Store       // required
	Token Token       // required
	Log   *zap.Logger // required; gets no secrets

	Audit Auditor // required: *audit.Log, Outbox or NoAudit
	// Operator runs the command that the Service is made for; nil in a server.
	Operator *Operator

	// Can is what the token's self-test found.
	Can Capabilities
	// Residency is where new key material lives; default ResidencyToken.
	Residency Residency
	// RequireHiddenDataKeys refuses GenerateDataKeyWithoutPlaintext and GenerateDataKeyPairWithoutPlaintext where the
	// plaintext would pass through this process.
	RequireHiddenDataKeys bool
	// TokenSources are the tokens that custom key stores may use, by CloudHsmClusterId.
	TokenSources map[string]TokenSource
	// Regions are the regions served; "*" serves every region. Default us-east-1.
	Regions []string

	// IVLimit and IVBlock bound the encryptions of a key material and those of one lease; the defaults are 2^31 and 2^20.
	IVLimit, IVBlock int64

	// Shared says that other servers may have the store open: what they have begun is not taken for what a crash has left.
	Shared bool
	// MetadataAge tells how old what the store answers from memory may be. A use that is decided on what is older than the second
	// that Store allows says so in its record. nil: nothing is.
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

	signingKeys *lru.Cache[signingKeyID, [32]byte]
	sessions    *lru.Cache[[sha256.Size]byte, *Session]
	documents   *lru.Cache[*byte, parsedPolicy]
	uses        uses
	ivs         *ivBudget
	keyStores   keyStores
}

const signingKeyCache = 10_000 // entries of about 100 bytes

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
	if len(cfg.Regions) == 0 {
		cfg.Regions = []string{"us-east-1"}
	}
	s := &Service{cfg: cfg, store: auditedStore{cfg.Store}, token: cfg.Token, log: cfg.Log, canonical: cfg.ARNFormat.Form(), now: cfg.Now,
		started: cfg.Now(), can: cfg.Can, ivs: newIVBudget(cfg.IVLimit, cfg.IVBlock), uses: uses{last: map[keyRef]KeyUse{}, accessKeys: map[string]AccessKeyUse{}, many: make(chan struct{}, 1)},
		keyStores: keyStores{open: map[string]*connection{}}}
	var errs [3]error
	s.signingKeys, errs[0] = lru.New[signingKeyID, [32]byte](signingKeyCache)
	s.sessions, errs[1] = lru.New[[sha256.Size]byte, *Session](signingKeyCache)
	s.documents, errs[2] = lru.New[*byte, parsedPolicy](documentCache)
	return s, errors.Join(errs[:]...)
}

// serves tells whether a region is served.
func (s *Service) serves(region string) bool {
	return slices.Contains(s.cfg.Regions, region) || slices.Contains(s.cfg.Regions, "*")
}
