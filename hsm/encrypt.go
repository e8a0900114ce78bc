package hsm

import (
	"bytes"
	"context"

	"github.com/verenc/kms/hsm/connection"
)

// Sealed is random bytes of the token with their box (see Encrypt).
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
// The IV is random (section 8.2.2), drawn here or, on tokens that insist, there. So one key must
// not seal more than 2^32 times; the caller counts.
func (t *Token) Encrypt(ctx context.Context, key Key, plaintext, aad []byte) ([]byte, error) {
	plaintext, aad = bytes.Clone(plaintext), bytes.Clone(aad) // the call may outlive its caller: see run
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
	box, aad = bytes.Clone(box), bytes.Clone(aad)
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.Unseal(h, box, aad)
	})
}

// GenerateSealed takes n bytes of the token's random number generator and seals them as Encrypt does.
func (t *Token) GenerateSealed(ctx context.Context, key Key, n int, aad []byte) (Sealed, error) {
	aad = bytes.Clone(aad)
	return connection.Run(ctx, t.link, func(s *connection.Session) (Sealed, error) {
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
