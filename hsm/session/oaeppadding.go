package session

import (
	"crypto"
	"crypto/subtle"
	"encoding/binary"
)

// unpadOAEP decodes an encoded message of RSAES-OAEP with an empty label and MGF1 of the same hash:
// RFC 8017 section 7.1.2 step 3. All failures look alike and take the same time, as that section's
// note demands: whoever can tell them apart can decrypt any ciphertext (Manger, CRYPTO 2001). em is
// as long as the modulus, and is cleared.
func unpadOAEP(hash crypto.Hash, em []byte) (message []byte, ok bool) {
	defer clear(em)
	size := hash.Size()
	if len(em) < 2*size+2 { // public: the size of the key
		return nil, false
	}
	seed, db := em[1:1+size], em[1+size:]
	maskMGF1(hash, seed, db)
	maskMGF1(hash, db, seed)

	label := hash.New().Sum(nil)
	good := subtle.ConstantTimeByteEq(em[0], 0) & subtle.ConstantTimeCompare(db[:size], label)
	// After the label's hash come zeros, a one and the message. All of it is read, wherever the one is.
	padded := db[size:]
	begins, searching := 0, 1
	for i, b := range padded {
		zero, one := subtle.ConstantTimeByteEq(b, 0), subtle.ConstantTimeByteEq(b, 1)
		begins = subtle.ConstantTimeSelect(searching&one, i+1, begins)
		good &= 1 ^ searching&(1^zero)&(1^one)
		searching &= 1 ^ one
	}
	if good&(1^searching) != 1 {
		return nil, false
	}
	return append([]byte{}, padded[begins:]...), true
}

// maskMGF1 is target XOR MGF1(seed): RFC 8017 appendix B.2.1.
func maskMGF1(hash crypto.Hash, target, seed []byte) {
	h := hash.New()
	var counter [4]byte
	for i := uint32(0); len(target) > 0; i++ {
		binary.BigEndian.PutUint32(counter[:], i)
		h.Reset()
		h.Write(seed)
		h.Write(counter[:])
		mask := h.Sum(nil)
		n := subtle.XORBytes(target, target, mask)
		target = target[n:]
	}
}
