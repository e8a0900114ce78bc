package service

import (
	"context"
	"crypto"

	"github.com/verenc/kms/hsm"
)

// Token is everything that the operations need of the HSM; *hsm.Token implements it. Errors are
// those of package hsm.
type Token interface {
	ObjectToken
	CipherToken
	DataKeyToken
	PrivateKeyToken
	RandomToken
	DescribingToken
}

// ObjectToken makes and destroys keys.
type ObjectToken interface {
	GenerateSecretKey(ctx context.Context, k hsm.SecretKey) error
	GenerateKeyPair(ctx context.Context, k hsm.KeyPair) (spki []byte, err error)
	GenerateWrappingKey(ctx context.Context, id hsm.ObjectID, label string) error
	GenerateWrappedKey(ctx context.Context, k hsm.WrappedKey) (wrapped, spki []byte, err error)
	Import(ctx context.Context, in hsm.Import) (hsm.Imported, error)
	// Persist makes a token object of a wrapped key. Evict destroys the session object of a wrapped
	// key.
	Persist(ctx context.Context, k hsm.WrappedKey, id hsm.ObjectID, label string) error
	Evict(ctx context.Context, k hsm.WrappedKey) error
	Destroy(ctx context.Context, ids ...hsm.ObjectID) error
	// KWPMechanism is the CKM_ number of AES-KWP that the token has; hsm.ErrUnsupported if it has
	// none.
	KWPMechanism(ctx context.Context) (uint, error)
}

// CipherToken encrypts and decrypts.
type CipherToken interface {
	Encrypt(ctx context.Context, key hsm.Key, plaintext, aad []byte) ([]byte, error)
	Decrypt(ctx context.Context, key hsm.Key, box, aad []byte) ([]byte, error)
	DecryptOAEP(ctx context.Context, key hsm.Key, t hsm.KeyType, hash crypto.Hash, ciphertext []byte) ([]byte, error)
}

// DataKeyToken makes data keys and data key pairs, and decrypts those that never left the token in
// clear.
type DataKeyToken interface {
	GenerateSealed(ctx context.Context, key hsm.Key, n int, aad []byte) (hsm.Sealed, error)
	CanGenerateWrapped(ctx context.Context, n int) (bool, error)
	GenerateWrapped(ctx context.Context, keys hsm.SealingKeys, n int, aad []byte) ([]byte, error)
	DecryptWrapped(ctx context.Context, keys hsm.SealingKeys, box []byte, n int, aad []byte) ([]byte, error)
	GenerateWrappedPair(
		ctx context.Context, keys hsm.SealingKeys, t hsm.KeyType, aad []byte,
	) (spki, box []byte, err error)
	DecryptWrappedPair(ctx context.Context, keys hsm.SealingKeys, box, aad []byte) ([]byte, error)
	GenerateExportedPair(ctx context.Context, t hsm.KeyType) (spki, pkcs8 []byte, err error)
}

// PrivateKeyToken uses private keys and HMAC keys.
type PrivateKeyToken interface {
	Sign(ctx context.Context, key hsm.Key, t hsm.KeyType, scheme hsm.Scheme, message []byte) ([]byte, error)
	VerifyMu(ctx context.Context, t hsm.KeyType, spki, mu, signature []byte) (bool, error)
	MAC(ctx context.Context, key hsm.Key, hash crypto.Hash, message []byte) ([]byte, error)
	Derive(ctx context.Context, key hsm.Key, t hsm.KeyType, peer []byte) ([]byte, error)
	Decapsulate(ctx context.Context, key hsm.Key, t hsm.KeyType, ciphertext []byte) ([]byte, error)
}

// DescribingToken tells of itself and of the objects in it.
type DescribingToken interface {
	Info() (hsm.Info, error)
	Attributes(ctx context.Context, key hsm.Key) (hsm.Attributes, error)
	// Missing returns those of some objects that a search in the token does not find.
	Missing(ctx context.Context, ids ...hsm.ObjectID) ([]hsm.ObjectID, error)
}

// RandomToken has a random number generator.
type RandomToken interface {
	Random(ctx context.Context, n int) ([]byte, error)
}
