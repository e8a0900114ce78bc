package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

func TestSealAndOpen(t *testing.T) {
	token := connect(t)
	p := newPair(t, token)
	for _, size := range []int{1, 15, 16, 17, 4096} {
		for _, aad := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte{7}, 8300)} {
			plaintext := bytes.Repeat([]byte{0xab}, size)
			box, err := token.Encrypt(t.Context(), p.Seal, plaintext, aad)
			if err != nil {
				t.Fatal(err)
			}
			if len(box) != size+Overhead {
				t.Errorf("box of %d bytes for %d", len(box), size)
			}
			if plaintext[0] != 0xab {
				t.Error("Encrypt changed its caller's plaintext")
			}
			got, err := token.Decrypt(t.Context(), p.Seal, box, aad)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
			}
		}
	}
}

// TestAgainstAnotherGCM gives the token a key that is known outside, and compares.
func TestAgainstAnotherGCM(t *testing.T) {
	iv := bytes.Repeat([]byte{3}, session.IVSize)
	token := connect(t, func(c *Config) { c.Rand = bytes.NewReader(iv) })
	key := bytes.Repeat([]byte{9}, keyobject.AESKeySize)
	id := newID(t)
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		_, err := s.Module.CreateObject(s.Handle, Seal.Template())
		if err == nil {
			t.Error("a key without a value was made")
		}
		h, err := s.Module.CreateObject(s.Handle, append(
			Seal.Template(),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, key),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
		))
		if err == nil {
			err = s.Remember(id, h)
		}
		return struct{}{}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	box, err := token.Encrypt(t.Context(), id, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := openGCM(t, key, box, []byte("aad"))
	if err != nil || string(got) != "plaintext" || !bytes.Equal(box[:session.IVSize], iv) {
		t.Errorf("box %x, in which crypto/cipher finds %q, %v", box, got, err)
	}
	if _, err := token.Encrypt(t.Context(), id, []byte("plaintext"), nil); err == nil {
		t.Error("sealed without randomness for an initialisation vector")
	}
}

func TestEveryChangedByteIsRefused(t *testing.T) {
	token := connect(t)
	p := newPair(t, token)
	box, err := token.Encrypt(t.Context(), p.Seal, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range box {
		changed := bytes.Clone(box)
		changed[i] ^= 0x80
		if _, err := token.Decrypt(t.Context(), p.Seal, changed, []byte("aad")); !errors.Is(err, ErrAuthentication) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := token.Decrypt(t.Context(), p.Seal, box[:i], []byte("aad")); !errors.Is(err, ErrAuthentication) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if s := token.Stats(); s.Failures != 0 || s.Sessions > 2 { // this one, and the one of the index
		t.Errorf("bad ciphertexts cost sessions: %+v", s)
	}
}

func rsaKey(t testing.TB, spki []byte) *rsa.PublicKey {
	t.Helper()
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PublicKey)
}

func encryptOAEP(t testing.TB, public *rsa.PublicKey, hash crypto.Hash, plaintext, label []byte) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, public, plaintext, label)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

func TestOAEP(t *testing.T) {
	token := connect(t)
	for _, kt := range []KeyType{RSA2048, RSA3072, RSA4096} {
		key, spki := newKeyPair(t, token, kt, DecryptPair)
		public := rsaKey(t, spki)
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			most := public.Size() - 2*hash.Size() - 2
			for _, size := range []int{0, 1, 32, most} {
				want := bytes.Repeat([]byte{0}, size) // a message of zeros is where unpadding goes wrong
				got, err := token.DecryptOAEP(t.Context(), key, kt, hash, encryptOAEP(t, public, hash, want, nil))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v %v: %d bytes came back as %x, %v", kt, hash, size, got, err)
				}
			}
		}
	}
}

// TestOAEPRefuses has every way of being wrong end in the one error, and the token unharmed.
func TestOAEPRefuses(t *testing.T) {
	token := connect(t)
	key, spki := newKeyPair(t, token, RSA2048, DecryptPair)
	public := rsaKey(t, spki)
	raise := func(em []byte) []byte {
		c := new(big.Int).Exp(new(big.Int).SetBytes(em), big.NewInt(int64(public.E)), public.N)
		return c.FillBytes(make([]byte, public.Size()))
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		good := encryptOAEP(t, public, hash, []byte("plaintext"), nil)
		other := crypto.SHA1 + crypto.SHA256 - hash
		for name, ciphertext := range map[string][]byte{
			"nothing":          {},
			"short":            good[1:],
			"long":             append([]byte{0}, good...),
			"changed":          append(bytes.Clone(good[:255]), good[255]^1),
			"another label":    encryptOAEP(t, public, hash, []byte("plaintext"), []byte("label")),
			"another hash":     encryptOAEP(t, public, other, []byte("plaintext"), nil),
			"the modulus":      public.N.Bytes(),
			"above it":         bytes.Repeat([]byte{0xff}, 256),
			"zero":             make([]byte, 256),
			"first byte of em": raise(append([]byte{1}, make([]byte, 255)...)),
			"no padding":       raise(append([]byte{0}, bytes.Repeat([]byte{7}, 255)...)),
		} {
			got, err := token.DecryptOAEP(t.Context(), key, RSA2048, hash, ciphertext)
			if !errors.Is(err, ErrAuthentication) || got != nil {
				t.Errorf("%v, %s: %x, %v", hash, name, got, err)
			}
		}
		if got, err := token.DecryptOAEP(t.Context(), key, RSA2048, hash, good); err != nil ||
			string(got) != "plaintext" {
			t.Errorf("%v: %q, %v", hash, got, err)
		}
	}
	if s := token.Stats(); s.Failures != 0 || s.Connections != 1 {
		t.Errorf("%+v", s)
	}

	signs, _ := newKeyPair(t, token, RSA2048, SignPair)
	for name, test := range map[string]struct {
		key  ObjectID
		kt   KeyType
		hash crypto.Hash
	}{
		"no hash":        {key, RSA2048, 0},
		"SHA-512":        {key, RSA2048, crypto.SHA512},
		"no type":        {key, 0, crypto.SHA256},
		"a curve":        {key, P256, crypto.SHA256},
		"a signing key":  {signs, RSA2048, crypto.SHA256},
		"a signing key1": {signs, RSA2048, crypto.SHA1},
		"no key":         {newID(t), RSA2048, crypto.SHA256},
	} {
		_, err := token.DecryptOAEP(t.Context(), test.key, test.kt, test.hash, make([]byte, 256))
		if err == nil || errors.Is(err, ErrAuthentication) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
