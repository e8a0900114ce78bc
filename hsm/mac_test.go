package hsm

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
)

var macPurposes = map[Purpose]crypto.Hash{
	MAC224: crypto.SHA224, MAC256: crypto.SHA256, MAC384: crypto.SHA384, MAC512: crypto.SHA512,
}

func newSecret(t testing.TB, token *Token, p Purpose) ObjectID {
	t.Helper()
	id := newID(t)
	if err := token.GenerateSecretKey(t.Context(),
		SecretKey{ID: id, Label: "verenc/test/1/secret", Purpose: p}); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestMAC(t *testing.T) {
	token := connect(t)
	for purpose, hash := range macPurposes {
		one, two := newSecret(t, token, purpose), newSecret(t, token, purpose)
		for _, message := range [][]byte{nil, []byte("m"), bytes.Repeat([]byte{7}, 4096)} {
			a, err := token.MAC(t.Context(), one, hash, message)
			if err != nil || len(a) != hash.Size() {
				t.Fatalf("%v: %x, %v", hash, a, err)
			}
			again, err := token.MAC(t.Context(), one, hash, message)
			if err != nil || !bytes.Equal(a, again) {
				t.Errorf("%v: %x then %x, %v", hash, a, again, err)
			}
			b, err := token.MAC(t.Context(), two, hash, message)
			if err != nil || bytes.Equal(a, b) {
				t.Errorf("%v: two keys give %x, %v", hash, b, err)
			}
		}
		want := map[uint]bool{
			pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_EXTRACTABLE: false,
			pkcs11.CKA_NEVER_EXTRACTABLE: true, pkcs11.CKA_MODIFIABLE: false,
			pkcs11.CKA_SIGN: true, pkcs11.CKA_VERIFY: true,
			pkcs11.CKA_ENCRYPT: false, pkcs11.CKA_DECRYPT: false,
			pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false,
			pkcs11.CKA_DERIVE: false,
		}
		checkAttributes(t, token, one, want)
	}
	seal := newSecret(t, token, Seal)
	checkAttributes(
		t, token, seal,
		map[uint]bool{pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_DERIVE: false},
	)
	if mac, err := token.MAC(t.Context(), seal, crypto.SHA256, nil); err == nil {
		t.Errorf("a sealing key gives the MAC %x", mac)
	}
	if mac, err := token.MAC(t.Context(), newSecret(t, token, MAC512), crypto.SHA1, nil); err == nil {
		t.Errorf("SHA-1 gives %x", mac)
	}
	if err := token.GenerateSecretKey(t.Context(), SecretKey{ID: newID(t), Purpose: MAC512 + 1}); err == nil {
		t.Error("a purpose that is none was taken")
	}
}

// checkAttributes compares boolean attributes of an object.
func checkAttributes(t testing.TB, token *Token, id ObjectID, want map[uint]bool) {
	t.Helper()
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.Lookup(id)
		if err != nil {
			return struct{}{}, err
		}
		for attribute, value := range want {
			got, err := s.Attributes(h, attribute)
			if err != nil || len(got[0]) != 1 || got[0][0] == 1 != value {
				t.Errorf("%s: attribute %#x is %v, not %v (%v)", id, attribute, got, value, err)
			}
		}
		return struct{}{}, nil
	})
	if err != nil {
		t.Error(err)
	}
}
