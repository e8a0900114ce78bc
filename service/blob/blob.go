// Package blob is the format of the ciphertext that symmetric keys make: the header before the
// ciphertext, and the additional data that bind the header and the encryption context to it.
// docs/ciphertext-format.md specifies it.
//
// The package holds no keys, encrypts nothing and does no I/O. What version 1 has written, every later
// version reads.
package blob

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Form says what is encrypted in a blob.
type Form byte

// The forms of version 1.
const (
	Sealed            Form = 1 // the plaintext itself
	WrappedDataKey    Form = 2 // a data key that was wrapped with AES-KWP (RFC 5649) before
	WrappedPrivateKey Form = 3 // a private key (PKCS#8) that was wrapped with AES-KWP before
)

// Sizes in bytes.
const (
	// Overhead is how much longer the box of a blob is than what is encrypted in it: 12 bytes of
	// initialisation vector before, 16 bytes of tag behind.
	Overhead = 12 + 16
	// MaxDataKey is the longest data key of form WrappedDataKey.
	MaxDataKey = 1024
	// MaxContext is the longest canonical encryption context. AWS states no figure.
	MaxContext = 8192
)

const (
	version         = 1
	flagMultiRegion = 1
	idOffset        = 3
	idSize          = 16
	ordinalOffset   = idOffset + idSize
	lengthOffset    = ordinalOffset + 4
	shortHeader     = lengthOffset     // of the forms Sealed and WrappedPrivateKey
	longHeader      = lengthOffset + 2 // of the form WrappedDataKey

	label            = "verenc-kms/1" // the first bytes of all additional data
	multiRegionStart = "mrk-"
)

// ErrFormat is the error of Parse.
var ErrFormat = errors.New("not a ciphertext blob of this service")

// ErrContextTooLarge is the error of AdditionalData for an encryption context of more than MaxContext
// bytes.
var ErrContextTooLarge = fmt.Errorf("the canonical encryption context is longer than %d bytes", MaxContext)

// Header is what stands before the initialisation vector.
type Header struct {
	Form Form
	// KeyID is the id of the KMS key: a UUID in its usual form, 36 characters with lower-case digits,
	// or that of a multi-Region key, "mrk-" and 32 lower-case hex digits.
	KeyID string
	// Ordinal is the number of the key material, from 1.
	Ordinal uint32
	// DataKeyBytes is the length of the data key, from 1 to MaxDataKey, in the form WrappedDataKey,
	// and 0 in others. The private key of the form WrappedPrivateKey is a DER structure, which tells
	// its own length.
	DataKeyBytes int
}

// Encode returns the header's bytes: 25 in the form WrappedDataKey, 23 in others. The fields must be
// as they are described.
func (h Header) Encode() []byte { return h.EncodeFor(0) }

// EncodeFor is Encode with room for what is encrypted, of n bytes, and its overhead behind the header.
func (h Header) EncodeFor(n int) []byte {
	b := make([]byte, idOffset, longHeader+Overhead+n)
	b[0], b[1] = version, byte(h.Form)
	rest, multiRegion := strings.CutPrefix(h.KeyID, multiRegionStart)
	if multiRegion {
		b[2] = flagMultiRegion
	}
	var digits [2 * idSize]byte
	read := 0
	for i := range len(rest) {
		if rest[i] != '-' && read < len(digits) {
			digits[read] = rest[i]
			read++
		}
	}
	b, _ = hex.AppendDecode(b, digits[:read])
	b = binary.BigEndian.AppendUint32(b, h.Ordinal)
	if h.Form == WrappedDataKey {
		b = binary.BigEndian.AppendUint16(b, uint16(h.DataKeyBytes))
	}
	return b
}

// Parse splits a blob into its header, the header's bytes, and the box: initialisation vector,
// ciphertext and tag, at least Overhead bytes. head and box share the blob's memory. Parse does not
// tell whether the blob is genuine. Its error is ErrFormat. A blob that parses is the only encoding of
// its header and box.
func Parse(blob []byte) (h Header, head, box []byte, err error) {
	if len(blob) < shortHeader+Overhead || blob[0] != version || blob[2]&^flagMultiRegion != 0 {
		return Header{}, nil, nil, ErrFormat
	}
	h = Header{Form: Form(blob[1]), Ordinal: binary.BigEndian.Uint32(blob[ordinalOffset:])}
	h.KeyID = keyID(blob[idOffset:ordinalOffset], blob[2] == flagMultiRegion)
	size := shortHeader
	switch h.Form {
	case Sealed, WrappedPrivateKey:
	case WrappedDataKey:
		size, h.DataKeyBytes = longHeader, int(binary.BigEndian.Uint16(blob[lengthOffset:]))
		if h.DataKeyBytes < 1 || h.DataKeyBytes > MaxDataKey {
			return Header{}, nil, nil, ErrFormat
		}
	default:
		return Header{}, nil, nil, ErrFormat
	}
	if h.Ordinal == 0 || len(blob) < size+Overhead {
		return Header{}, nil, nil, ErrFormat
	}
	return h, blob[:size:size], blob[size:], nil
}

// keyID writes an id of idSize bytes.
func keyID(id []byte, multiRegion bool) string {
	var room [2*idSize + len(multiRegionStart)]byte // as long as a UUID with its four hyphens
	b := room[:0]
	if multiRegion {
		return string(hex.AppendEncode(append(b, multiRegionStart...), id))
	}
	b = hex.AppendEncode(b, id[:4])
	for _, part := range [][]byte{id[4:6], id[6:8], id[8:10], id[10:]} {
		b = hex.AppendEncode(append(b, '-'), part)
	}
	return string(b)
}

// AdditionalData returns the additional data of a blob's encryption: a label, the header's bytes, and
// the canonical encryption context. That is the number of pairs, then the pairs sorted by key, each
// key and value after its length; all numbers have 4 bytes. Contexts that differ never give the same
// bytes; a nil context is an empty one. The error is ErrContextTooLarge.
func AdditionalData(head []byte, context map[string]string) ([]byte, error) {
	size := 4
	for k, v := range context {
		size += 8 + len(k) + len(v)
	}
	if size > MaxContext {
		return nil, ErrContextTooLarge
	}
	aad := make([]byte, 0, len(label)+len(head)+size)
	aad = append(append(aad, label...), head...)
	aad = binary.BigEndian.AppendUint32(aad, uint32(len(context)))
	keys := make([]string, 0, len(context))
	for k := range context {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		aad = appendWithLength(aad, k)
		aad = appendWithLength(aad, context[k])
	}
	return aad, nil
}

func appendWithLength(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
