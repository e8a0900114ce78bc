package transport_test

import (
	"context"
	"crypto"
	"sync/atomic"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
)

// failures makes a server's store or token fail while its members are set.
type failures struct {
	store, token atomic.Pointer[error]
	inserts      atomic.Pointer[error] // of the store
}

func raised(these ...*atomic.Pointer[error]) error {
	for _, p := range these {
		if err := p.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// install puts the failures before a server's store and token.
func (f *failures) install(c *service.Config) {
	c.Store, c.Token = faultyStore{c.Store, f}, faultyToken{c.Token, f}
}

// faultyStore fails where operations begin. Authentication keeps working.
type faultyStore struct {
	service.Store
	failures *failures
}

func (s faultyStore) Key(ctx context.Context, region, id string) (*service.Key, error) {
	if err := raised(&s.failures.store); err != nil {
		return nil, err
	}
	return s.Store.Key(ctx, region, id)
}

func (s faultyStore) Keys(ctx context.Context, account, region, after string, limit int) ([]*service.Key, error) {
	if err := raised(&s.failures.store); err != nil {
		return nil, err
	}
	return s.Store.Keys(ctx, account, region, after, limit)
}

func (s faultyStore) InsertKey(ctx context.Context, k *service.Key) error {
	if err := raised(&s.failures.store); err != nil {
		return err
	}
	return s.Store.InsertKey(ctx, k)
}

func (s faultyStore) Alias(ctx context.Context, account, region, name string) (*service.Alias, error) {
	if err := raised(&s.failures.store); err != nil {
		return nil, err
	}
	return s.Store.Alias(ctx, account, region, name)
}

func (s faultyStore) InsertGrant(ctx context.Context, g *service.Grant, maxPerKey int) error {
	if err := raised(&s.failures.store, &s.failures.inserts); err != nil {
		return err
	}
	return s.Store.InsertGrant(ctx, g, maxPerKey)
}

func (s faultyStore) RetirableGrants(ctx context.Context, region, principal, after string,
	limit int) ([]*service.Grant, error) {
	if err := raised(&s.failures.store); err != nil {
		return nil, err
	}
	return s.Store.RetirableGrants(ctx, region, principal, after, limit)
}

func (s faultyStore) KeyStore(ctx context.Context, id string) (*service.KeyStore, error) {
	if err := raised(&s.failures.store); err != nil {
		return nil, err
	}
	return s.Store.KeyStore(ctx, id)
}

func (s faultyStore) KeyStores(ctx context.Context, account, region string) ([]*service.KeyStore, error) {
	if err := raised(&s.failures.store); err != nil {
		return nil, err
	}
	return s.Store.KeyStores(ctx, account, region)
}

func (s faultyStore) InsertKeyStore(ctx context.Context, k *service.KeyStore, most int) error {
	if err := raised(&s.failures.store, &s.failures.inserts); err != nil {
		return err
	}
	return s.Store.InsertKeyStore(ctx, k, most)
}

// faultyToken fails in what the cryptographic operations call.
type faultyToken struct {
	service.Token
	failures *failures
}

func (t faultyToken) GenerateSecretKey(ctx context.Context, k hsm.SecretKey) error {
	if err := raised(&t.failures.token); err != nil {
		return err
	}
	return t.Token.GenerateSecretKey(ctx, k)
}

func (t faultyToken) GenerateKeyPair(ctx context.Context, k hsm.KeyPair) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.GenerateKeyPair(ctx, k)
}

func (t faultyToken) Random(ctx context.Context, n int) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.Random(ctx, n)
}

func (t faultyToken) Encrypt(ctx context.Context, key hsm.Key, plaintext, aad []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.Encrypt(ctx, key, plaintext, aad)
}

func (t faultyToken) Decrypt(ctx context.Context, key hsm.Key, box, aad []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.Decrypt(ctx, key, box, aad)
}

func (t faultyToken) GenerateSealed(ctx context.Context, key hsm.Key, n int, aad []byte) (hsm.Sealed, error) {
	if err := raised(&t.failures.token); err != nil {
		return hsm.Sealed{}, err
	}
	return t.Token.GenerateSealed(ctx, key, n, aad)
}

func (t faultyToken) GenerateWrapped(ctx context.Context, keys hsm.SealingKeys, n int, aad []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.GenerateWrapped(ctx, keys, n, aad)
}

func (t faultyToken) GenerateWrappedPair(ctx context.Context, keys hsm.SealingKeys, kind hsm.KeyType, aad []byte) (spki,
	box []byte, err error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, nil, err
	}
	return t.Token.GenerateWrappedPair(ctx, keys, kind, aad)
}

func (t faultyToken) Sign(ctx context.Context, key hsm.Key, kind hsm.KeyType, scheme hsm.Scheme,
	message []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.Sign(ctx, key, kind, scheme, message)
}

func (t faultyToken) MAC(ctx context.Context, key hsm.Key, hash crypto.Hash, message []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.MAC(ctx, key, hash, message)
}

func (t faultyToken) Decapsulate(ctx context.Context, key hsm.Key, kind hsm.KeyType,
	ciphertext []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.Decapsulate(ctx, key, kind, ciphertext)
}

func (t faultyToken) Derive(ctx context.Context, key hsm.Key, kind hsm.KeyType, peer []byte) ([]byte, error) {
	if err := raised(&t.failures.token); err != nil {
		return nil, err
	}
	return t.Token.Derive(ctx, key, kind, peer)
}

func (t faultyToken) VerifyMu(ctx context.Context, kind hsm.KeyType, spki, mu, signature []byte) (bool, error) {
	if err := raised(&t.failures.token); err != nil {
		return false, err
	}
	return t.Token.VerifyMu(ctx, kind, spki, mu, signature)
}
