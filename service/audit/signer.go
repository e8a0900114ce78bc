package audit

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Signer signs checkpoints; its private key is in the token.
type Signer interface {
	// Public is an ed25519.PublicKey, or an *ecdsa.PublicKey on P-256.
	Public() crypto.PublicKey
	// Sign returns, for Ed25519, the 64 bytes of RFC 8032 over the message; for ECDSA, the
	// Ecdsa-Sig-Value of RFC 3279 section 2.2.3 in DER over the message, which is then a SHA-256
	// digest.
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// The types of signature (C2SP signed-note, "Signature types"). An ECDSA key's id is the start of the
// SHA-256 of its SubjectPublicKeyInfo alone.
const (
	algorithmEd25519 = 1
	algorithmECDSA   = 2
)

// VerifierKey returns the public key of a log's signer as text, name+key id+base64, as C2SP signed
// notes use it. The name is the log's origin.
func VerifierKey(origin string, key crypto.PublicKey) (string, error) {
	if !validOrigin(origin) {
		return "", fmt.Errorf(
			"audit log's origin %q must be up to 255 bytes of printable ASCII without spaces and +, e.g. kms.example.com/audit",
			origin)
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		return note.NewEd25519VerifierKey(origin, key)
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			break
		}
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return "", fmt.Errorf("encode audit key: %w", err)
		}
		return fmt.Sprintf("%s+%08x+%s", origin, ecdsaKeyID(der),
			base64.StdEncoding.EncodeToString(append([]byte{algorithmECDSA}, der...))), nil
	}
	return "", fmt.Errorf("audit key of type %T cannot sign checkpoints: use Ed25519 or ECDSA on P-256", key)
}

func validOrigin(origin string) bool {
	return origin != "" && len(origin) <= 255 &&
		strings.IndexFunc(origin, func(r rune) bool { return r <= ' ' || r == '+' || r > '~' }) < 0
}

func ecdsaKeyID(der []byte) uint32 {
	sum := sha256.Sum256(der)
	return binary.BigEndian.Uint32(sum[:])
}

// verifier is a note.Verifier that knows its text.
type verifier struct {
	text   string
	name   string
	id     uint32
	verify func(message, signature []byte) bool
}

func (v *verifier) Name() string                          { return v.name }
func (v *verifier) KeyHash() uint32                       { return v.id }
func (v *verifier) Verify(message, signature []byte) bool { return v.verify(message, signature) }

// NewVerifier reads a verifier key of type Ed25519 or ECDSA on P-256. It accepts a key only in the
// spelling of VerifierKey.
func NewVerifier(key string) (note.Verifier, error) { return newVerifier(key) }

func newVerifier(text string) (*verifier, error) {
	name, rest, _ := strings.Cut(text, "+")
	_, encoded, _ := strings.Cut(rest, "+")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) == 0 {
		return nil, errors.New("read verifier key: it must have the form name+key id+base64")
	}
	v := &verifier{text: text, name: name}
	var public crypto.PublicKey
	switch raw[0] {
	case algorithmEd25519:
		known, err := note.NewVerifier(text)
		if err != nil {
			return nil, fmt.Errorf("read verifier key: %w", err)
		}
		public = ed25519.PublicKey(raw[1:])
		v.id, v.verify = known.KeyHash(), known.Verify
	case algorithmECDSA:
		parsed, err := x509.ParsePKIXPublicKey(raw[1:])
		if err != nil {
			return nil, fmt.Errorf("read verifier key: %w", err)
		}
		key, ok := parsed.(*ecdsa.PublicKey)
		if !ok {
			return nil, errors.New("read verifier key: its type says ECDSA, but it is another key")
		}
		public = key
		v.id, v.verify = ecdsaKeyID(raw[1:]), func(message, signature []byte) bool {
			digest := sha256.Sum256(message)
			return ecdsa.VerifyASN1(key, digest[:], signature)
		}
	default:
		return nil, fmt.Errorf("read verifier key: signature type %d is not known, only Ed25519 (1) and ECDSA (2)",
			raw[0])
	}
	if again, err := VerifierKey(name, public); err != nil || again != text {
		return nil, errors.Join(errors.New("read verifier key: it is not spelled as the key it holds"), err)
	}
	return v, nil
}

// signing is a signer with its verifier.
type signing struct {
	signer Signer
	*verifier
}

func newSigning(origin string, s Signer) (signing, error) {
	text, err := VerifierKey(origin, s.Public())
	if err != nil {
		return signing{}, err
	}
	v, err := newVerifier(text)
	return signing{s, v}, err
}

// bound is a signing with the context that package note does not pass on. It implements
// note.Signer.
type bound struct {
	signing
	ctx context.Context
}

// Sign verifies what the token has signed: a checkpoint that does not verify must not replace one
// that does.
func (b bound) Sign(message []byte) ([]byte, error) {
	input := message
	if _, ok := b.signer.Public().(*ecdsa.PublicKey); ok {
		digest := sha256.Sum256(message)
		input = digest[:]
	}
	signature, err := b.signer.Sign(b.ctx, input)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	if !b.Verify(message, signature) {
		return nil, errors.New("sign checkpoint: the token's signature does not verify")
	}
	return signature, nil
}

// signNote signs text with every key.
func signNote(ctx context.Context, text string, keys ...signing) ([]byte, error) {
	signers := make([]note.Signer, len(keys))
	for i, k := range keys {
		signers[i] = bound{k, ctx}
	}
	return note.Sign(&note.Note{Text: text}, signers...)
}
