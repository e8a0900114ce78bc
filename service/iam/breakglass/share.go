// Package breakglass is the arithmetic of break-glass: a sealed credential that several people have in shares, so
// that a number of them together can open everything when nobody else can.
//
// The credential is an Ed25519 key. Its private half is derived from a secret that is split by Shamir's scheme over
// the scalars of ristretto255 (package secretsharing of CIRCL) and exists only while shares are made, and while an
// opening is signed. What is kept is public: the public half, and Feldman's commitment to the secret, with which
// each share can be checked alone. An opening is a statement that the private half has signed, with an end.
package breakglass

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
)

// MaxShares is how many people can have a share.
const MaxShares = 16

// field is the group whose scalars are shared. Its arithmetic takes constant time.
var field = group.Ristretto255

// scalarSize is the size of a scalar in bytes.
const scalarSize = 32

// Key is the public part of a credential.
type Key struct {
	Public    ed25519.PublicKey
	Threshold int // shares that open
	Shares    int // that were made
	// Commitment is Feldman's: the generator times each coefficient of the polynomial.
	Commitment [][]byte
	CreatedAt  time.Time
}

// keyID names a credential in its shares, so that those of an earlier one are told from wrong ones.
type keyID [4]byte

func (k *Key) id() keyID {
	sum := sha256.Sum256(k.Public)
	return keyID(sum[:])
}

// ID is the credential's name for people: 8 hex digits.
func (k *Key) ID() string {
	id := k.id()
	return hex.EncodeToString(id[:])
}

// Share is one of the shares of a credential.
type Share struct {
	Number int // from 1
	key    keyID
	value  group.Scalar
}

// Split makes a credential and its shares. Its randomness is that of crypto/rand, by way of the library.
func Split(shares, threshold int, now time.Time) (*Key, []Share, error) {
	if threshold < 2 || threshold > shares || shares > MaxShares {
		return nil, nil, fmt.Errorf("%d of %d shares: use at least 2 of at most %d", threshold, shares, MaxShares)
	}
	secret := field.RandomNonZeroScalar(nil)
	split := secretsharing.New(nil, uint(threshold-1), secret)
	private, err := derive(secret)
	if err != nil {
		return nil, nil, err
	}
	defer clear(private)
	k := &Key{Public: bytes.Clone(private.Public().(ed25519.PublicKey)), Threshold: threshold, Shares: shares,
		CreatedAt: now.UTC()}
	for _, element := range split.CommitSecret() {
		encoded, err := element.MarshalBinaryCompress()
		if err != nil {
			return nil, nil, fmt.Errorf("encode a commitment: %w", err)
		}
		k.Commitment = append(k.Commitment, encoded)
	}
	all := make([]Share, shares)
	for i, share := range split.Share(uint(shares)) {
		all[i] = Share{Number: i + 1, key: k.id(), value: share.Value}
	}
	return k, all, nil
}

// derive makes the private key of a secret.
func derive(secret group.Scalar) (ed25519.PrivateKey, error) {
	encoded, err := secret.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("encode a secret: %w", err)
	}
	defer clear(encoded)
	seed, err := hkdf.Key(sha256.New, encoded, nil, "verenc-kms/break-glass/1", ed25519.SeedSize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	defer clear(seed)
	return ed25519.NewKeyFromSeed(seed), nil
}

// The bytes of a share: version, credential, number, value, checksum. In base32 that is 68 characters.
const (
	shareVersion = 1
	checksumSize = 4
	bodySize     = 1 + len(keyID{}) + 1 + scalarSize
	shareSize    = bodySize + checksumSize
	groupSize    = 4 // characters between hyphens
)

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// checksum tells what was mistyped. It protects against nothing else.
func checksum(body []byte) []byte {
	sum := sha256.Sum256(append([]byte("verenc-kms break-glass share\n"), body...))
	return sum[:checksumSize]
}

// Text is the share as its holder keeps it: 17 groups of four letters and digits. It is a secret.
func (s Share) Text() (string, error) {
	value, err := s.value.MarshalBinary()
	if err != nil {
		return "", fmt.Errorf("encode a share: %w", err)
	}
	body := append([]byte{shareVersion}, s.key[:]...)
	body = append(append(body, byte(s.Number)), value...)
	text := encoding.EncodeToString(append(body, checksum(body)...))
	var groups []string
	for group := range slices.Chunk([]byte(text), groupSize) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, "-"), nil
}

// ErrMistyped is of what is no share: a character is wrong, missing or too many.
var ErrMistyped = errors.New("this is no share: look for a character that is wrong, missing or too many")

// maxText bounds what is read as a share, in bytes.
const maxText = 1024

// ParseShare reads what Text writes, in letters of either case, with any hyphens and spaces. Its errors tell
// nothing of the share.
func ParseShare(text []byte) (Share, error) {
	if len(text) > maxText {
		return Share{}, ErrMistyped
	}
	letters := make([]byte, 0, len(text))
	defer func() { clear(letters) }()
	for _, c := range bytes.ToUpper(text) {
		if c != '-' && c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			letters = append(letters, c)
		}
	}
	raw := make([]byte, encoding.DecodedLen(len(letters)))
	defer clear(raw)
	n, err := encoding.Decode(raw, letters)
	if err != nil || n != shareSize || encoding.EncodeToString(raw[:n]) != string(letters) ||
		!bytes.Equal(checksum(raw[:bodySize]), raw[bodySize:n]) {
		return Share{}, ErrMistyped
	}
	if raw[0] != shareVersion {
		return Share{}, fmt.Errorf("a share of version %d: use a newer verenc", raw[0])
	}
	s := Share{key: keyID(raw[1:]), Number: int(raw[1+len(keyID{})]), value: field.NewScalar()}
	if s.Number == 0 || s.value.UnmarshalBinary(raw[2+len(keyID{}):bodySize]) != nil {
		return Share{}, ErrMistyped
	}
	return s, nil
}

// ErrWrongShare is of a share of another credential, or one that somebody has made up.
var ErrWrongShare = errors.New("this share is not one of the credential in force")

// Check tells whether a share is one of the credential's.
func (k *Key) Check(s Share) error {
	commitment := make(secretsharing.SecretCommitment, len(k.Commitment))
	for i, encoded := range k.Commitment {
		commitment[i] = field.NewElement()
		if err := commitment[i].UnmarshalBinary(encoded); err != nil {
			return fmt.Errorf("read the commitment of credential %s: %w", k.ID(), err)
		}
	}
	share := secretsharing.Share{ID: field.NewScalar().SetUint64(uint64(s.Number)), Value: s.value}
	if s.key != k.id() || s.Number > k.Shares || k.Threshold < 2 ||
		!secretsharing.Verify(uint(k.Threshold-1), share, commitment) {
		return fmt.Errorf("share %d: %w (%s)", s.Number, ErrWrongShare, k.ID())
	}
	return nil
}

// Combine returns the private key, which its caller clears, of as many different shares as the threshold.
func (k *Key) Combine(shares []Share) (ed25519.PrivateKey, error) {
	points := map[int]secretsharing.Share{}
	for _, s := range shares {
		if err := k.Check(s); err != nil {
			return nil, err
		}
		points[s.Number] = secretsharing.Share{ID: field.NewScalar().SetUint64(uint64(s.Number)), Value: s.value}
	}
	if len(points) < k.Threshold {
		return nil, fmt.Errorf("%d different shares are not enough: it takes %d", len(points), k.Threshold)
	}
	all := make([]secretsharing.Share, 0, len(points))
	for _, p := range points {
		all = append(all, p)
	}
	secret, err := secretsharing.Recover(uint(k.Threshold-1), all)
	if err != nil {
		return nil, fmt.Errorf("combine shares: %w", err)
	}
	private, err := derive(secret)
	if err != nil {
		return nil, err
	}
	if !k.Public.Equal(private.Public()) {
		clear(private)
		return nil, ErrWrongShare
	}
	return private, nil
}
