package cryptoki

import (
	"encoding/binary"
	"math/bits"
)

// UlongSize is that of a CK_ULONG in bytes: Go's uint is as long wherever there is cgo and dlopen.
const UlongSize = bits.UintSize / 8

// Ulongs is a mechanism's parameter that has nothing but CK_ULONGs.
func Ulongs(values ...uint) []byte {
	var out []byte
	for _, v := range values {
		if UlongSize == 4 {
			out = binary.NativeEndian.AppendUint32(out, uint32(v))
		} else {
			out = binary.NativeEndian.AppendUint64(out, uint64(v))
		}
	}
	return out
}

// Ulong reads an attribute that is a CK_ULONG, 0 if it is none.
func Ulong(value []byte) uint {
	switch {
	case len(value) != UlongSize:
		return 0
	case UlongSize == 4:
		return uint(binary.NativeEndian.Uint32(value))
	}
	return uint(binary.NativeEndian.Uint64(value))
}

// Truth reads a CK_BBOOL.
func Truth(value []byte) bool { return len(value) == 1 && value[0] == 1 }
