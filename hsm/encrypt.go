package hsm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/session"
)

// Sealed is random bytes of the token and their box (see Encrypt).
type Sealed struct {
	Plaintext []byte // to be cleared by whoever takes it
	Box       []byte
}

// Clear clears the plaintext.
func (s Sealed) Clear() { clear(s.Plaintext) }

// Encrypt seals plaintext with AES-256-GCM (NIST SP 800-38D) under a Seal key and returns the box
//
//	IV (12) | ciphertext (as long as plaintext) | tag (16)
//
// The IV is random (section 8.2.2), drawn by this process, or by tokens that insist on it. So one
// key must not seal more than 2^32 times; the caller counts.
func (t *Token) Encrypt(ctx context.Context, key Key, plaintext, aad []byte) ([]byte, error) {
	plaintext = bytes.Clone(plaintext) // which the caller clears; the call may outlive it
	return connection.RunSecret(ctx, t.link, plaintext, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.Seal(h, plaintext, aad)
	})
}

// Decrypt opens a box of Encrypt. The caller clears the plaintext.
func (t *Token) Decrypt(ctx context.Context, key Key, box, aad []byte) ([]byte, error) {
	return connection.RunInTurn(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.Unseal(h, box, aad)
	})
}

// GenerateSealed takes n bytes of the token's random number generator and seals them as Encrypt does.
func (t *Token) GenerateSealed(ctx context.Context, key Key, n int, aad []byte) (Sealed, error) {
	return connection.RunInTurn(ctx, t.link, func(s *connection.Session) (Sealed, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return Sealed{}, err
		}
		plaintext, err := s.Random(n)
		if err != nil {
			return Sealed{}, err
		}
		box, err := s.Seal(h, plaintext, aad)
		if err != nil {
			clear(plaintext)
			return Sealed{}, err
		}
		return Sealed{Plaintext: plaintext, Box: box}, nil
	})
}

// DecryptOAEP opens a ciphertext of RSAES-OAEP (RFC 8017 section 7.1) with a DecryptPair's private
// key: SHA-1 or SHA-256, MGF1 of the same hash, empty label. The caller clears the plaintext.
//
// A token that refuses SHA-256 (SoftHSM 2.6.1 does, with CKR_ARGUMENTS_BAD) does the RSA operation
// only, CKM_RSA_X_509, and the padding is removed in this process in constant time. That is decided
// by a test for each connection, never by a failure of this call.
func (t *Token) DecryptOAEP(
	ctx context.Context, key Key, kt KeyType, hash crypto.Hash, ciphertext []byte,
) ([]byte, error) {
	k, err := kt.Known()
	if err == nil && (!k.RSA() || !session.HasOAEP(hash)) {
		err = fmt.Errorf("%s with %v", kt, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt with OAEP: %w", err)
	}
	if len(ciphertext) != k.Size {
		return nil, fmt.Errorf("%w: %d bytes for %s", ErrAuthentication, len(ciphertext), kt)
	}
	ciphertext = bytes.Clone(ciphertext)
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		decrypt, err := s.OAEPDecrypter(hash)
		if err != nil {
			return nil, err
		}
		return s.CheckedOAEP(h, k, hash, ciphertext, decrypt)
	})
}
