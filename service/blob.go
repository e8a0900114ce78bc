package service

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
)

// The ciphertext blob of a symmetric key. What is made today can be read by every later version.
//
//	offset  bytes  field
//	0       1      version, 1
//	1       1      form: 1 sealed, 2 wrapped in the token and then sealed, 3 the same for a private key
//	2       1      key id flags: bit 0 set for a multi-Region key (mrk-)
//	3       16     key id: the 32 hex digits of the UUID, or those behind mrk-
//	19      4      ordinal of the key material, from 1
//	23      2      form 2 only: length of the data key, 1 to 1024
//	...     12     initialisation vector
//	...     n      ciphertext; form 2: of the data key wrapped with AES-KWP; form 3: of the private key (PKCS#8) so wrapped
//	...     16     tag
//
// Numbers are big endian. The cipher is AES-256-GCM under the material's seal key; its additional data are
// "verenc-kms/1", every byte of the blob before the initialisation vector, and the canonical encryption context.
const (
	blobVersion = 1

	formSealed      = 1
	formWrapped     = 2
	formWrappedPair = 3 // no length: a PKCS#8 structure tells its own

	flagMultiRegion = 1

	sealedHeader  = 23 // bytes
	wrappedHeader = sealedHeader + 2

	aadLabel = "verenc-kms/1"
)

// header is all of a blob but its box.
type header struct {
	form    byte
	keyID   string
	ordinal uint32
	length  int // form 2: bytes of the data key
}

var errBlob = errors.New("not a ciphertext blob of this service")

// encode gives the header's bytes. The key id has the form of keyIDPattern.
func (h header) encode() []byte {
	b := make([]byte, 3, wrappedHeader)
	b[0], b[1] = blobVersion, h.form
	digits, multiRegion := strings.CutPrefix(h.keyID, "mrk-")
	if multiRegion {
		b[2] = flagMultiRegion
	}
	b, _ = hex.AppendDecode(b, []byte(strings.ReplaceAll(digits, "-", "")))
	b = binary.BigEndian.AppendUint32(b, h.ordinal)
	if h.form == formWrapped {
		b = binary.BigEndian.AppendUint16(b, uint16(h.length))
	}
	return b
}

// parseBlob splits a blob into its header and box. A blob that parses is the only encoding of its parts.
func parseBlob(blob []byte) (h header, head, box []byte, err error) {
	if len(blob) < sealedHeader+hsm.Overhead || blob[0] != blobVersion || blob[2]&^flagMultiRegion != 0 {
		return header{}, nil, nil, errBlob
	}
	h = header{form: blob[1], ordinal: binary.BigEndian.Uint32(blob[19:])}
	digits := hex.EncodeToString(blob[3:19])
	if blob[2] == flagMultiRegion {
		h.keyID = "mrk-" + digits
	} else {
		h.keyID = strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
	}
	size := sealedHeader
	switch h.form {
	case formSealed, formWrappedPair:
	case formWrapped:
		size, h.length = wrappedHeader, int(binary.BigEndian.Uint16(blob[sealedHeader:]))
		if h.length < 1 || h.length > maxRandom {
			return header{}, nil, nil, errBlob
		}
	default:
		return header{}, nil, nil, errBlob
	}
	if h.ordinal == 0 || len(blob) < size+hsm.Overhead {
		return header{}, nil, nil, errBlob
	}
	return h, blob[:size:size], blob[size:], nil
}

// maxContext is how many bytes a canonical encryption context may have. AWS states no figure.
const maxContext = 8192

// additionalData binds a blob's header and the encryption context. The canonical context is the number of pairs, then the
// pairs sorted by key, each key and value behind its length, all lengths in 4 bytes; so different contexts never
// give the same bytes.
func additionalData(head []byte, context map[string]string) ([]byte, error) {
	size := 4
	for k, v := range context {
		size += 8 + len(k) + len(v)
	}
	if size > maxContext {
		return nil, apierror.New(apierror.Validation, "The encryption context is too large: its keys and values, with 8 bytes for each pair, must not be longer than %d bytes.", maxContext-4)
	}
	aad := make([]byte, 0, len(aadLabel)+len(head)+size)
	aad = append(append(aad, aadLabel...), head...)
	aad = binary.BigEndian.AppendUint32(aad, uint32(len(context)))
	keys := make([]string, 0, len(context))
	for k := range context {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		aad = appendCounted(aad, k)
		aad = appendCounted(aad, context[k])
	}
	return aad, nil
}

func appendCounted(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}
