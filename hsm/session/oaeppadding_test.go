package session

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// fixedKey is a key of the tests; it protects nothing.
var fixedKey = func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}()

// FuzzUnpadOAEP compares with crypto/rsa, which sees the same encoded message through an RSA
// operation that undoes ours.
func FuzzUnpadOAEP(f *testing.F) {
	open := func(t testing.TB, ciphertext []byte) []byte {
		c := new(big.Int).SetBytes(ciphertext)
		return new(big.Int).Exp(c, fixedKey.D, fixedKey.N).FillBytes(make([]byte, 256))
	}
	for _, message := range []string{"", "m", "message of some length"} {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			em := open(f, encryptFixed(f, hash, []byte(message)))
			f.Add(em, true)
			for _, at := range []int{0, 1, 21, 33, 60, 100, 255} {
				changed := bytes.Clone(em)
				changed[at] ^= 1
				f.Add(changed, hash == crypto.SHA1)
			}
		}
	}
	f.Add([]byte{}, false)
	f.Add(make([]byte, 66), false)
	f.Fuzz(func(t *testing.T, em []byte, sha1 bool) {
		hash := crypto.SHA256
		if sha1 {
			hash = crypto.SHA1
		}
		if len(em) != 256 || new(big.Int).SetBytes(em).Cmp(fixedKey.N) >= 0 {
			unpadOAEP(hash, em) // of other sizes there is nothing to compare with
			return
		}
		c := new(big.Int).Exp(
			new(big.Int).SetBytes(em), big.NewInt(int64(fixedKey.E)), fixedKey.N,
		).FillBytes(make([]byte, 256))
		want, err := rsa.DecryptOAEP(hash.New(), nil, fixedKey, c, nil)
		got, ok := unpadOAEP(hash, em)
		if ok != (err == nil) || !bytes.Equal(got, want) {
			t.Errorf("%x, %v instead of %x, %v", got, ok, want, err)
		}
		if !bytes.Equal(em, make([]byte, 256)) {
			t.Error("the encoded message was left in memory")
		}
	})
}

// FuzzUnpadValidOAEP makes every message a valid one first, since random bytes never are.
func FuzzUnpadValidOAEP(f *testing.F) {
	f.Add([]byte("message"), byte(0), uint8(0))
	f.Add([]byte{1, 0, 1}, byte(1), uint8(40))
	f.Fuzz(func(t *testing.T, message []byte, flip byte, at uint8) {
		if len(message) > 190 {
			return
		}
		c := encryptFixed(t, crypto.SHA256, message)
		em := new(big.Int).Exp(new(big.Int).SetBytes(c), fixedKey.D, fixedKey.N).FillBytes(make([]byte, 256))
		em[at] ^= flip
		got, ok := unpadOAEP(crypto.SHA256, em)
		if ok != (flip == 0) || ok && !bytes.Equal(got, message) {
			t.Errorf("flip %x at %d: %x, %v", flip, at, got, ok)
		}
	})
}

func encryptFixed(t testing.TB, hash crypto.Hash, message []byte) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, &fixedKey.PublicKey, message, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}
