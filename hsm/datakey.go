package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// GenerateWrapped generates a secret of n bytes in the token, wraps it there with AES-KWP under the
// Wrap key, seals the wrapped bytes with AES-256-GCM and the aad under the Seal key, and destroys
// the secret. The secret is sensitive and in no memory but the token's. The box is that of Encrypt
// over the wrapped bytes.
func (t *Token) GenerateWrapped(ctx context.Context, keys SealingKeys, n int, aad []byte) ([]byte, error) {
	return connection.RunInTurn(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		sealing, wrapping, err := s.LookupPair(keys)
		if err != nil {
			return nil, err
		}
		mechanism, err := s.KWP()
		if err != nil {
			return nil, err
		}
		if works, known := s.KnownSecretSize(n); known && !works {
			return nil, fmt.Errorf("%w: wrap a secret of %d bytes", ErrUnsupported, n)
		}
		wrapped, err := s.GenerateWrappedSecret(mechanism, wrapping, n)
		if err != nil {
			return nil, err
		}
		return s.Seal(sealing, wrapped, aad)
	})
}

// DecryptWrapped opens a box of GenerateWrapped and gives its secret of n bytes. The box is
// authenticated before anything is unwrapped. The caller clears the secret.
func (t *Token) DecryptWrapped(ctx context.Context, keys SealingKeys, box []byte, n int, aad []byte) ([]byte, error) {
	if len(box) != session.KWPSize(n)+Overhead {
		return nil, fmt.Errorf("%w: box of %d bytes for a secret of %d", ErrAuthentication, len(box), n)
	}
	return t.openWrapped(ctx, keys, box, aad,
		func(s *connection.Session, mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte) ([]byte, error) {
			return s.UnwrapSecret(mechanisms, unwrapping, wrapped, n)
		})
}

// openWrapped opens a box and unwraps its contents.
func (t *Token) openWrapped(
	ctx context.Context, keys SealingKeys, box, aad []byte,
	unwrap func(*connection.Session, []uint, pkcs11.ObjectHandle, []byte) ([]byte, error),
) ([]byte, error) {
	return connection.RunInTurn(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		sealing, unwrapping, err := s.LookupPair(keys)
		if err != nil {
			return nil, err
		}
		mechanisms, err := s.UnwrapMechanisms(keys.Mechanism)
		if err != nil {
			return nil, err
		}
		wrapped, err := s.Unseal(sealing, box, aad)
		if err != nil {
			return nil, err
		}
		return unwrap(s, mechanisms, unwrapping, wrapped)
	})
}

// CanGenerateWrapped reports whether the token can make a secret of n bytes with GenerateWrapped
// and open it with DecryptWrapped. Tokens differ in the sizes that they accept, so each size is
// tried once for each connection, when it is first asked for.
func (t *Token) CanGenerateWrapped(ctx context.Context, n int) (bool, error) {
	if n < 1 || n > session.MaxSecretSize {
		return false, nil
	}
	if shared := t.link.Shared(); shared != nil { // without a session
		if works, known := shared.KnownSecretSize(n); known {
			return works, nil
		}
	}
	return connection.RunGenerate(ctx, t.link, func(s *connection.Session) (bool, error) {
		err := s.TrySecretSize(n)
		if works, known := s.KnownSecretSize(n); known {
			s.Broken = s.Broken || err != nil
			return works, nil
		}
		return false, err
	})
}

// KWPMechanism gives the CKM_ number of the token's AES-KWP, to be recorded with what is wrapped. A
// token that has none gives ErrUnsupported.
func (t *Token) KWPMechanism(ctx context.Context) (uint, error) {
	if shared := t.link.Shared(); shared != nil { // without a session
		if mechanism, err, known := shared.KnownKWP(); known {
			return mechanism, err
		}
	}
	return connection.RunGenerate(ctx, t.link, func(s *connection.Session) (uint, error) { return s.KWP() })
}

// GenerateWrappedPair generates a key pair in the token, wraps the private key there with AES-KWP
// under the Wrap key, seals the wrapped bytes with AES-256-GCM and the aad under the Seal key, and
// destroys both. spki is the DER SubjectPublicKeyInfo, the box is that of Encrypt over the wrapped
// PKCS#8; the private key is in no memory but the token's. The deadline is that of GenerateKeyPair.
// A token that can't wrap a key type, as SoftHSM can't Ed25519, gives ErrUnsupported; see SelfTest.
func (t *Token) GenerateWrappedPair(
	ctx context.Context, keys SealingKeys, kt KeyType, aad []byte,
) (spki, box []byte, err error) {
	k, err := kt.Known()
	if err != nil {
		return nil, nil, fmt.Errorf("generate wrapped key pair: %w", err)
	}
	both, err := connection.RunGenerate(ctx, t.link, func(s *connection.Session) ([2][]byte, error) {
		sealing, wrapping, err := s.LookupPair(keys)
		if err != nil {
			return [2][]byte{}, err
		}
		spki, wrapped, err := s.GenerateWrappedPair(wrapping, k)
		if err != nil {
			return [2][]byte{}, err
		}
		box, err := s.Seal(sealing, wrapped, aad)
		return [2][]byte{spki, box}, err
	})
	return both[0], both[1], err
}

// DecryptWrappedPair opens a box of GenerateWrappedPair and gives the private key's PKCS#8 as the
// token made it (RFC 5208). The box is authenticated before anything is unwrapped. The caller
// clears the private key.
func (t *Token) DecryptWrappedPair(ctx context.Context, keys SealingKeys, box, aad []byte) (pkcs8 []byte, err error) {
	if len(box) > session.KWPSize(keyobject.PrivateKeyBound)+Overhead {
		return nil, fmt.Errorf("%w: box of %d bytes for a private key", ErrAuthentication, len(box))
	}
	return t.openWrapped(ctx, keys, box, aad, (*connection.Session).UnwrapDER)
}

// exportedPair is a key pair that leaves the token.
type exportedPair struct {
	spki    []byte
	private []byte // PKCS#8, to be cleared by whoever takes it
}

// Clear clears the private key.
func (p exportedPair) Clear() { clear(p.private) }

// GenerateExportedPair generates a key pair in the token and gives both halves in clear: the DER
// SubjectPublicKeyInfo, and the private key's PKCS#8, which the caller clears. It is read through a
// throw-away wrap key, since the value of a sensitive object can't be read. Deadline and
// ErrUnsupported are as with GenerateWrappedPair.
func (t *Token) GenerateExportedPair(ctx context.Context, kt KeyType) (spki, pkcs8 []byte, err error) {
	k, err := kt.Known()
	if err != nil {
		return nil, nil, fmt.Errorf("generate exported key pair: %w", err)
	}
	p, err := connection.RunGenerate(ctx, t.link, func(s *connection.Session) (p exportedPair, err error) {
		wrapping, err := s.Generate(pkcs11.CKM_AES_KEY_GEN, append(
			Wrap.Template(),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyobject.AESKeySize),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		))
		if err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, s.Destroy(wrapping)) }()
		spki, wrapped, err := s.GenerateWrappedPair(wrapping, k)
		if err != nil {
			return p, err
		}
		mechanism, err := s.KWP() // that wrapped it
		if err != nil {
			return p, err
		}
		private, err := s.UnwrapDER([]uint{mechanism}, wrapping, wrapped)
		return exportedPair{spki, private}, err
	})
	return p.spki, p.private, err
}
