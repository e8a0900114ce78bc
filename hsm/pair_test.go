package hsm

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/miekg/pkcs11"
)

// allTypes are the key types, the quickest to generate first.
var allTypes = []KeyType{P256, P384, P521, Secp256k1, Ed25519, RSA2048, RSA3072, RSA4096}

func newKeyPair(t testing.TB, token *Token, kt KeyType, purpose PairPurpose) (ObjectID, []byte) {
	t.Helper()
	id := newID(t)
	spki, err := token.GenerateKeyPair(
		t.Context(), KeyPair{ID: id, Label: "verenc/test/1/pair", Type: kt, Purpose: purpose},
	)
	if err != nil {
		t.Fatalf("%v: %v", kt, err)
	}
	return id, spki
}

// TestKeyPairsNeverLeave looks at the token object of every type and purpose that there is.
func TestKeyPairsNeverLeave(t *testing.T) {
	token := connect(t)
	permissions := map[PairPurpose]uint{
		SignPair: pkcs11.CKA_SIGN, DecryptPair: pkcs11.CKA_DECRYPT, DerivePair: pkcs11.CKA_DERIVE,
		UnwrapPair: pkcs11.CKA_UNWRAP,
	}
	for _, test := range []KeyPair{
		{Type: RSA2048, Purpose: SignPair}, {Type: RSA2048, Purpose: DecryptPair}, {Type: RSA2048, Purpose: UnwrapPair},
		{Type: P256, Purpose: SignPair}, {Type: P256, Purpose: DerivePair}, {Type: P384, Purpose: DerivePair},
		{Type: P521, Purpose: DerivePair}, {Type: Secp256k1, Purpose: SignPair}, {Type: Ed25519, Purpose: SignPair},
	} {
		id, _ := newKeyPair(t, token, test.Type, test.Purpose)
		want := map[uint]bool{
			pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true,
			pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_ALWAYS_SENSITIVE: true,
			pkcs11.CKA_NEVER_EXTRACTABLE: true, pkcs11.CKA_LOCAL: true,
			pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_MODIFIABLE: false,
			pkcs11.CKA_SIGN_RECOVER: false,
		}
		for purpose, attribute := range permissions {
			want[attribute] = purpose == test.Purpose
		}
		// SoftHSM 2.6.1 unwraps nothing with OAEP of SHA-256.
		want[pkcs11.CKA_DECRYPT] = want[pkcs11.CKA_DECRYPT] || test.Purpose == UnwrapPair
		checkAttributes(t, token, id, want)
	}
	objects, err := token.Objects(t.Context(), "")
	if err != nil || len(objects) != 9 {
		t.Errorf("%d objects for 9 pairs, %v", len(objects), err)
	}
}

func TestPublicKeys(t *testing.T) {
	token := connect(t)
	for _, kt := range allTypes {
		_, spki := newKeyPair(t, token, kt, SignPair)
		if kt == Secp256k1 {
			continue // TestSignatures reads it
		}
		public, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			t.Errorf("%v: %v", kt, err)
		}
		again, err := x509.MarshalPKIXPublicKey(public)
		if err != nil || string(again) != string(spki) {
			t.Errorf("%v: %x is not canonical, %v", kt, spki, err)
		}
	}
}

func TestKeyPairsThatAreNone(t *testing.T) {
	token := connect(t)
	for _, k := range []KeyPair{{Type: 0, Purpose: SignPair}, {Type: Ed25519 + 1, Purpose: SignPair},
		{Type: P256}, {Type: P256, Purpose: UnwrapPair + 1},
		{Type: P256, Purpose: DecryptPair}, {Type: P256, Purpose: UnwrapPair}, {Type: RSA2048, Purpose: DerivePair},
		{Type: Secp256k1, Purpose: DerivePair}, {Type: Ed25519, Purpose: DerivePair}} {
		if _, err := token.GenerateKeyPair(t.Context(), k); err == nil {
			t.Errorf("%v for %d was generated", k.Type, k.Purpose)
		}
	}
	if objects, err := token.Objects(t.Context(), ""); err != nil || len(objects) != 0 {
		t.Errorf("left %v, %v", objects, err)
	}
	if text := KeyType(99).String(); text != "KeyType(99)" || fmt.Sprint(Secp256k1) != "secp256k1" {
		t.Error(text)
	}
	if _, err := token.Sign(t.Context(),
		newID(t), P256, Scheme{Algorithm: ECDSA, Hash: crypto.SHA256}, make([]byte, 32)); !errors.Is(err, ErrNoObject) {
		t.Error(err)
	}
}
