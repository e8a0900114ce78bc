package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/profile"
)

// holding has a connection hold so many wrapped keys at most.
func holding(keys int) func(*Config) { return func(c *Config) { c.HeldKeys = keys } }

func newWrappingKey(t *testing.T, token *Token) ObjectID {
	t.Helper()
	id := newID(t)
	if err := token.GenerateWrappingKey(t.Context(), id, "verenc/test/wrapping"); err != nil {
		t.Fatal(err)
	}
	return id
}

func newWrapped(t *testing.T, token *Token, k WrappedKey) (_ WrappedKey, spki []byte) {
	t.Helper()
	k.Name = newID(t)
	var err error
	if k.Wrapped, spki, err = token.GenerateWrappedKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	return k, spki
}

// TestWrappedKeys uses keys of each kind that are no token objects, with room for two, so that each
// is unwrapped again and again; and once more on another connection.
func TestWrappedKeys(t *testing.T) {
	var cfg Config
	token := connect(t, holding(2), func(c *Config) { cfg = *c })
	under := newWrappingKey(t, token)
	seal, _ := newWrapped(t, token, WrappedKey{Under: under, Purpose: Seal})
	wrap, _ := newWrapped(t, token, WrappedKey{Under: under, Purpose: Wrap})
	var macs []WrappedKey
	for _, p := range []Purpose{MAC224, MAC256, MAC384, MAC512} {
		mac, _ := newWrapped(t, token, WrappedKey{Under: under, Purpose: p})
		macs = append(macs, mac)
	}
	signer, spki := newWrapped(t, token, WrappedKey{Under: under, Pair: KeyPair{Type: P256, Purpose: SignPair}})
	opener, _ := newWrapped(t, token, WrappedKey{Under: under, Pair: KeyPair{Type: RSA2048, Purpose: DecryptPair}})
	if objects, err := token.Objects(t.Context(), ""); err != nil || len(objects) != 1 {
		t.Errorf("token objects: %v, %v", objects, err)
	}
	keys := SealingKeys{Seal: seal, Wrap: wrap}
	aad := []byte("aad")
	box, err := token.GenerateWrapped(t.Context(), keys, 32, aad)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := token.DecryptWrapped(t.Context(), keys, box, 32, aad)
	if err != nil {
		t.Fatal(err)
	}
	tags := map[Purpose][]byte{}
	for i, token := range []*Token{token, connect(t, func(c *Config) { *c = cfg })} {
		if again, err := token.DecryptWrapped(t.Context(), keys, box, 32, aad); err != nil ||
			!bytes.Equal(again, secret) {
			t.Errorf("decrypt: %v", err)
		}
		for _, mac := range macs {
			tag, err := token.MAC(t.Context(), mac, mac.Purpose.Hash(), aad)
			if before := tags[mac.Purpose]; err != nil || before != nil && !bytes.Equal(before, tag) {
				t.Errorf("MAC %v: %v", mac.Purpose.Hash(), err)
			}
			tags[mac.Purpose] = tag
		}
		digest := sha256.Sum256(aad)
		signature, err := token.Sign(
			t.Context(), signer, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, digest[:],
		)
		public, _ := x509.ParsePKIXPublicKey(spki)
		if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("sign: %v", err)
		}
		// The public key of an RSA pair can be read of its private key, so that this needs none
		// from outside.
		ciphertext, err := connection.Run(t.Context(), token.link, func(s *connection.Session) ([]byte, error) {
			h, err := s.Lookup(opener)
			if err != nil {
				return nil, err
			}
			return s.EncryptOAEP(h, RSA2048.Info(), crypto.SHA256, aad)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := token.DecryptOAEP(t.Context(), opener, RSA2048, crypto.SHA256, ciphertext); err != nil ||
			!bytes.Equal(got, aad) {
			t.Errorf("OAEP: %q, %v", got, err)
		}
		if held := token.Stats().Held; held != 2 {
			t.Errorf("%d keys are held, not 2", held)
		}
		if n := sessionObjects(t, token); n != 2*(i+1) { // both connections' are seen
			t.Errorf("%d session objects, not %d", n, 2*(i+1))
		}
	}
}

// sessionObjects counts the secret and private session objects that the process has.
func sessionObjects(t *testing.T, token *Token) int {
	t.Helper()
	n, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (int, error) {
		handles, err := s.Search(
			[]*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
			},
		)
		return len(handles), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestWrappedKeysStayInside has somebody with the PIN and the stored bytes try to get at a key.
func TestWrappedKeysStayInside(t *testing.T) {
	token := connect(t)
	k, _ := newWrapped(t, token, WrappedKey{Under: newWrappingKey(t, token), Purpose: Seal})
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		wrapping, err := s.Lookup(k.Under)
		if err != nil {
			return struct{}{}, err
		}
		h, err := s.Lookup(k)
		if err != nil {
			return struct{}{}, err
		}
		if value, err := s.Value(h, 32); err == nil {
			t.Errorf("the session object gives out %x", value)
		}
		if _, err := s.WrapKey(profile.CKMAESKeyWrapPad, nil, wrapping, h, 64); err == nil {
			t.Error("the session object was wrapped")
		}
		for name, template := range map[string][]*pkcs11.Attribute{
			"readable": keyobject.ReadableSecret(),
			"extractable": append(keyobject.SecretTemplate(pkcs11.CKK_AES),
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)),
		} {
			if _, err := s.Unwrap(profile.CKMAESKeyWrapPad, nil, wrapping, k.Wrapped, template); err == nil {
				t.Errorf("the stored bytes were unwrapped into a key that is %s", name)
			}
		}
		if _, _, err := s.Module.Operate(s.Handle, cryptoki.Decrypt, pkcs11.CKM_AES_ECB, nil, wrapping,
			k.Wrapped, 64); err == nil {
			t.Error("the wrapping key decrypts")
		}
		return struct{}{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestWrappedKeyIsSpoilt: stored bytes that were changed, and those of another wrapping key, are no
// fault of a ciphertext.
func TestWrappedKeyIsSpoilt(t *testing.T) {
	token := connect(t)
	k, _ := newWrapped(t, token, WrappedKey{Under: newWrappingKey(t, token), Purpose: Seal})
	changed, moved, lost := k, k, k
	changed.Name, changed.Wrapped = newID(t), bytes.Clone(k.Wrapped)
	changed.Wrapped[3] ^= 1
	moved.Name, moved.Under = newID(t), newWrappingKey(t, token)
	lost.Name, lost.Under = newID(t), newID(t)
	for _, bad := range []WrappedKey{changed, moved} {
		if _, err := token.Encrypt(t.Context(), bad, []byte("x"), nil); err == nil ||
			errors.Is(err, ErrAuthentication) {
			t.Errorf("a spoilt key: %v", err)
		}
	}
	if _, err := token.Encrypt(t.Context(), lost, []byte("x"), nil); !errors.Is(err, ErrNoObject) {
		t.Errorf("a key whose wrapping key is gone: %v", err)
	}
	if _, err := token.Encrypt(t.Context(), k, []byte("x"), nil); err != nil {
		t.Errorf("the key itself: %v", err)
	}
}

// TestPersist makes token objects of wrapped keys, which are the same keys.
func TestPersist(t *testing.T) {
	token := connect(t)
	under := newWrappingKey(t, token)
	seal, _ := newWrapped(t, token, WrappedKey{Under: under, Purpose: Seal})
	signer, spki := newWrapped(t, token, WrappedKey{Under: under, Pair: KeyPair{Type: P256, Purpose: SignPair}})
	box, err := token.Encrypt(t.Context(), seal, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[ObjectID]WrappedKey{newID(t): seal, newID(t): signer}
	for id, k := range ids {
		if err := token.Persist(t.Context(), k, id, "verenc/test/persisted"); err != nil {
			t.Fatal(err)
		}
		a, err := token.Attributes(t.Context(), id)
		if err != nil || !a.Sensitive || a.Extractable || a.Local || a.Label != "verenc/test/persisted" {
			t.Errorf("%+v, %v", a, err)
		}
		if k.Purpose == Seal {
			if got, err := token.Decrypt(t.Context(), id, box, nil); err != nil || string(got) != "x" {
				t.Errorf("decrypt: %q, %v", got, err)
			}
			continue
		}
		digest := sha256.Sum256(nil)
		signature, err := token.Sign(t.Context(), id, P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, digest[:])
		public, _ := x509.ParsePKIXPublicKey(spki)
		if err != nil || !ecdsa.VerifyASN1(public.(*ecdsa.PublicKey), digest[:], signature) {
			t.Errorf("sign: %v", err)
		}
	}
}

// TestWrappedKeysUnderLoad has many callers use more keys than are held; an object that is
// destroyed under a call, or taken for another, would show.
func TestWrappedKeysUnderLoad(t *testing.T) {
	token := connect(t, holding(3))
	under := newWrappingKey(t, token)
	var keys []WrappedKey
	for range 8 {
		k, _ := newWrapped(t, token, WrappedKey{Under: under, Purpose: Seal})
		keys = append(keys, k)
	}
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for i := range 40 {
				k := keys[(caller*7+i*i)%len(keys)]
				want := fmt.Appendf(nil, "%d/%d", caller, i)
				box, err := token.Encrypt(t.Context(), k, want, k.Name[:])
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := token.Decrypt(t.Context(), k, box, k.Name[:]); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%q, %v", got, err)
				}
				if i%10 == 0 {
					if err := token.Evict(t.Context(), k); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	callers.Wait()
	for _, k := range keys {
		if err := token.Evict(t.Context(), k); err != nil {
			t.Error(err)
		}
	}
	if n := sessionObjects(t, token); n != 0 || token.Stats().Held != 0 {
		t.Errorf("%d session objects are left, %d held", n, token.Stats().Held)
	}
}
