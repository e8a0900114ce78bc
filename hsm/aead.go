package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// Overhead is how many bytes longer than its plaintext a box of Encrypt is: IV and tag.
const Overhead = ivSize + tagSize

// Sealed is random bytes of the token with their box (see Encrypt).
type Sealed struct {
	Plaintext []byte // to be cleared by whoever takes it
	Box       []byte
}

// Encrypt seals plaintext with AES-256-GCM (NIST SP 800-38D) under a Seal key and returns the box
//
//	IV (12) | ciphertext (as long as plaintext) | tag (16)
//
// The IV is random (section 8.2.2), drawn here or, on tokens that insist, there. So one key must not seal more than 2^32 times; the caller counts.
func (t *Token) Encrypt(ctx context.Context, key Key, plaintext, aad []byte) ([]byte, error) {
	plaintext, aad = bytes.Clone(plaintext), bytes.Clone(aad) // the call may outlive its caller: see run
	return runSecret(ctx, t, plaintext, func(s *session) ([]byte, error) {
		h, err := s.lookup(key)
		if err != nil {
			return nil, err
		}
		return s.seal(t.cfg.Rand, h, plaintext, aad)
	})
}

// Decrypt opens a box of Encrypt. The caller clears the plaintext.
func (t *Token) Decrypt(ctx context.Context, key Key, box, aad []byte) ([]byte, error) {
	box, aad = bytes.Clone(box), bytes.Clone(aad)
	return run(ctx, t, func(s *session) ([]byte, error) {
		h, err := s.lookup(key)
		if err != nil {
			return nil, err
		}
		return s.unseal(h, box, aad)
	})
}

// GenerateSealed takes n bytes of the token's random number generator and seals them as Encrypt does.
func (t *Token) GenerateSealed(ctx context.Context, key Key, n int, aad []byte) (Sealed, error) {
	aad = bytes.Clone(aad)
	return run(ctx, t, func(s *session) (Sealed, error) {
		h, err := s.lookup(key)
		if err != nil {
			return Sealed{}, err
		}
		plaintext, err := s.random(n)
		if err != nil {
			return Sealed{}, err
		}
		box, err := s.seal(t.cfg.Rand, h, plaintext, aad)
		if err != nil {
			clear(plaintext)
			return Sealed{}, err
		}
		return Sealed{Plaintext: plaintext, Box: box}, nil
	})
}

func (s *session) seal(rand io.Reader, h pkcs11.ObjectHandle, plaintext, aad []byte) ([]byte, error) {
	source, err := s.ivs()
	if err != nil {
		return nil, err
	}
	var ours [ivSize]byte
	if source == callersIV {
		if _, err := io.ReadFull(rand, ours[:]); err != nil {
			return nil, fmt.Errorf("draw an initialisation vector: %w", err)
		}
	}
	iv, out, err := s.encryptUnder(source, ours, h, plaintext, aad)
	if err != nil {
		return nil, err
	}
	if len(out) != len(plaintext)+tagSize {
		return nil, fmt.Errorf("C_Encrypt: %d bytes instead of %d", len(out), len(plaintext)+tagSize)
	}
	if iv == [ivSize]byte{} && source != callersIV {
		return nil, errors.New("C_Encrypt: no initialisation vector came back")
	}
	return append(append(make([]byte, 0, ivSize+len(out)), iv[:]...), out...), nil
}

// unseal opens a box. SoftHSM before 2.7.0 says CKR_GENERAL_ERROR for a wrong tag, as a device does that has a moment of
// trouble. The key's own word decides: if it opens what it has sealed, in this session, and then still not the box, the token
// is well and the box is not.
func (s *session) unseal(h pkcs11.ObjectHandle, box, aad []byte) ([]byte, error) {
	if len(box) < Overhead {
		return nil, fmt.Errorf("%w: box of %d bytes", ErrAuthentication, len(box))
	}
	plaintext, unsure, err := s.tryBox(h, box, aad)
	if !unsure {
		return plaintext, err
	}
	if probe := s.opensOwn(h); probe != nil {
		return nil, unexplained(err, probe)
	}
	if plaintext, unsure, err = s.tryBox(h, box, aad); unsure {
		err = fmt.Errorf("%w: %w", ErrAuthentication, err)
	}
	return plaintext, err
}

// tryBox decrypts. It is unsure of errors that a bad box and a bad token have in common.
func (s *session) tryBox(h pkcs11.ObjectHandle, box, aad []byte) (plaintext []byte, unsure bool, err error) {
	iv := [ivSize]byte(box)
	plaintext, started, err := s.gcm(cryptoki.Decrypt, h, &iv, box[ivSize:], aad)
	if err == nil && len(plaintext) != len(box)-Overhead {
		clear(plaintext)
		return nil, false, fmt.Errorf("C_Decrypt: %d bytes instead of %d", len(plaintext), len(box)-Overhead)
	}
	return plaintext, started && hasCode(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED), err
}

// opensOwn tells whether a key can be used in the session. The IV never counts, since the box is of a constant and thrown away.
func (s *session) opensOwn(h pkcs11.ObjectHandle) error {
	box, err := s.seal(constantIV{1}, h, []byte{0}, nil)
	if err != nil {
		return err
	}
	_, _, err = s.tryBox(h, box, nil)
	return err
}

// constantIV is a reader of one byte, again and again.
type constantIV [1]byte

func (c constantIV) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c[0]
	}
	return len(p), nil
}
