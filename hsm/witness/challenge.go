package witness

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"
)

// Kind is what a challenge has a key do.
type Kind string

// Kinds of challenges.
const (
	KindNone    Kind = "none"
	KindSign    Kind = "sign"    // RSASSA-PKCS1-v1_5 or ECDSA, both with SHA-256
	KindDecrypt Kind = "decrypt" // RSAES-OAEP
	KindSeal    Kind = "seal"    // AES-GCM
	KindMAC     Kind = "MAC"     // HMAC
)

// Challenge says what a key is to do, and how its answer is checked without the witness. Members of
// other kinds are not used.
type Challenge struct {
	Kind Kind

	Why string // KindNone: why nothing is asked

	// Verify reports whether a signature over a SHA-256 digest is good for the published public key
	// (KindSign).
	Verify func(digest, signature []byte) (bool, error)

	Public *rsa.PublicKey // KindDecrypt: the published public key

	// Open opens a box of AES-256-GCM, IV (12) | ciphertext | tag (16), with the same key in
	// package hsm (KindSeal). It gives nil and no error for a box that is not of that key.
	Open func(box, aad []byte) ([]byte, error)

	Hash crypto.Hash // KindMAC
	// MAC is the HMAC of a message with the same key in package hsm.
	MAC func(message []byte) ([]byte, error)
}

const nonceSize = 32 // bytes

// purpose comes before the nonce in all that a key signs or seals here, so that an answer is of no
// use for anything else.
const purpose = "verenc-kms witness challenge v1\n"

// macHashes are the hashes of HMAC by their name, with the mechanism.
var macHashes = map[string]struct {
	hash      crypto.Hash
	mechanism int
}{
	crypto.SHA224.String(): {crypto.SHA224, pkcs11.CKM_SHA224_HMAC},
	crypto.SHA256.String(): {crypto.SHA256, pkcs11.CKM_SHA256_HMAC},
	crypto.SHA384.String(): {crypto.SHA384, pkcs11.CKM_SHA384_HMAC},
	crypto.SHA512.String(): {crypto.SHA512, pkcs11.CKM_SHA512_HMAC},
}

// check reports whether an answer is right. It fails when that can't be told.
type check func(answer []byte) (bool, error)

func (c check) result(answer []byte, failure string) (Result, error) {
	if failure != "" {
		return NoAnswer, errors.New(failure)
	}
	right, err := c(answer)
	switch {
	case err != nil:
		return NoAnswer, fmt.Errorf("check the answer: %w", err)
	case right:
		return Passed, nil
	}
	return Failed, nil
}

// message is what is signed.
func message(nonce []byte) []byte { return append([]byte(purpose), nonce...) }

func same(a, b []byte) bool { return len(a) > 0 && subtle.ConstantTimeCompare(a, b) == 1 }

// pose draws a challenge.
func (c Challenge) pose(rand io.Reader) (challenge, check, error) {
	out := challenge{Kind: c.Kind}
	if c.Kind == KindNone {
		return out, nil, nil
	}
	nonce := make([]byte, nonceSize)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return out, nil, fmt.Errorf("draw a challenge: %w", err)
	}
	switch c.Kind {
	case KindSign:
		out.Nonce = nonce
		digest := sha256.Sum256(message(nonce))
		return out, func(answer []byte) (bool, error) { return c.Verify(digest[:], answer) }, nil
	case KindDecrypt:
		for _, h := range oaepHashes {
			ciphertext, err := rsa.EncryptOAEP(h.New(), rand, c.Public, nonce, nil)
			if err != nil {
				return out, nil, fmt.Errorf("encrypt a challenge: %w", err)
			}
			out.Ciphertexts = append(out.Ciphertexts, ciphertext)
		}
		return out, func(answer []byte) (bool, error) { return same(answer, nonce), nil }, nil
	case KindSeal:
		out.Nonce = nonce
		return out, func(answer []byte) (bool, error) {
			plaintext, err := c.Open(answer, []byte(purpose))
			return same(plaintext, nonce), err
		}, nil
	case KindMAC:
		out.Nonce, out.Hash = nonce, c.Hash.String()
		return out, func(answer []byte) (bool, error) {
			mac, err := c.MAC(message(nonce))
			return same(mac, answer), err
		}, nil
	}
	return out, nil, fmt.Errorf("challenge %q is unknown", c.Kind)
}

// oaepHashes are those of a challenge's ciphertexts.
var oaepHashes = []crypto.Hash{crypto.SHA256, crypto.SHA1}

// The hashes are linked in.
var _, _ = sha1.New, sha256.New

func (c *challenge) check() error {
	nonce, hash, ciphertexts := 0, false, 0
	switch c.Kind {
	case KindNone:
	case KindSign, KindSeal:
		nonce = nonceSize
	case KindMAC:
		nonce, hash = nonceSize, true
	case KindDecrypt:
		ciphertexts = len(oaepHashes)
	default:
		return errors.New("a challenge of an unknown kind")
	}
	_, known := macHashes[c.Hash]
	if len(c.Nonce) != nonce || known != hash || !hash && c.Hash != "" || len(c.Ciphertexts) != ciphertexts {
		return errors.New("a challenge that is not of its kind")
	}
	for _, text := range c.Ciphertexts {
		if len(text) > maxAnswer {
			return errors.New("a challenge that is too long")
		}
	}
	return nil
}
