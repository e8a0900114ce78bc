package hsm

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
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

func newSecret(t testing.TB, token *Token, p Purpose) ObjectID {
	t.Helper()
	id := newID(t)
	if err := token.GenerateSecretKey(t.Context(),
		SecretKey{ID: id, Label: "verenc/test/1/secret", Purpose: p}); err != nil {
		t.Fatal(err)
	}
	return id
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

func TestKeysNeverLeave(t *testing.T) {
	token := connect(t)
	p := newPair(t, token)
	for _, id := range []ObjectID{p.Seal.TokenObject(), p.Wrap.TokenObject()} {
		_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
			h, err := s.Lookup(id)
			if err != nil {
				return struct{}{}, err
			}
			types := []uint{
				pkcs11.CKA_SENSITIVE, pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_NEVER_EXTRACTABLE,
				pkcs11.CKA_LOCAL, pkcs11.CKA_PRIVATE, pkcs11.CKA_TOKEN, pkcs11.CKA_EXTRACTABLE,
			}
			values, err := s.Attributes(h, types...)
			if err != nil {
				return struct{}{}, err
			}
			for i, want := range []byte{1, 1, 1, 1, 1, 1, 0} {
				if got := values[i]; len(got) != 1 || got[0] != want {
					t.Errorf("%s: attribute %#x is %v, not %d", id, types[i], got, want)
				}
			}
			if _, err := s.Value(h, 64); err == nil {
				t.Errorf("%s: its value can be read", id)
			}
			return struct{}{}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Neither key can do the other's work, which is what makes the pair safe.
	if _, err := token.Encrypt(t.Context(), p.Wrap, []byte("x"), nil); err == nil {
		t.Error("the wrapping key encrypts")
	}
	if _, err := token.GenerateWrapped(t.Context(), SealingKeys{Seal: p.Seal, Wrap: p.Seal}, 32, nil); err == nil {
		t.Error("the sealing key wraps")
	}
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

func TestAttributes(t *testing.T) {
	token := connect(t)
	born := Attributes{
		Label: "verenc/test/1/pair", Local: true, Sensitive: true, AlwaysSensitive: true,
		NeverExtractable: true,
	}
	for kt, names := range map[KeyType][2]string{RSA2048: {"CKK_RSA", "CKM_RSA_PKCS_KEY_PAIR_GEN"},
		P384:    {"CKK_EC", "CKM_EC_KEY_PAIR_GEN"},
		Ed25519: {"CKK_EC_EDWARDS", "CKM_EC_EDWARDS_KEY_PAIR_GEN"}} {
		id, _ := newKeyPair(t, token, kt, SignPair)
		want := born
		want.KeyType, want.Mechanism = names[0], names[1]
		if got, err := token.Attributes(t.Context(), id); err != nil || got != want {
			t.Errorf("%+v, %v instead of %+v", got, err, want)
		}
	}
	for purpose, names := range map[Purpose][2]string{Seal: {"CKK_AES", "CKM_AES_KEY_GEN"},
		MAC384: {"CKK_GENERIC_SECRET", "CKM_GENERIC_SECRET_KEY_GEN"}} {
		want := born
		want.Label, want.KeyType, want.Mechanism = "verenc/test/1/secret", names[0], names[1]
		if got, err := token.Attributes(t.Context(), newSecret(t, token, purpose)); err != nil || got != want {
			t.Errorf("%+v, %v instead of %+v", got, err, want)
		}
	}
	if _, err := token.Attributes(t.Context(), newID(t)); !errors.Is(err, ErrNoObject) {
		t.Error(err)
	}

	// What came from outside says so.
	wrapping, spki := newKeyPair(t, token, RSA2048, UnwrapPair)
	id := newID(t)
	_, err := token.Import(t.Context(), Import{
		Wrapping: wrapping, WrappingType: RSA2048, Algorithm: OAEPSHA1,
		Wrapped: wrapMaterial(t, rsaKey(t, spki), OAEPSHA1, make([]byte, 32)),
		Secret:  &SecretKey{ID: id, Label: "imported", Purpose: Seal},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Attributes{Label: "imported", KeyType: "CKK_AES", Sensitive: true}
	if got, err := token.Attributes(t.Context(), id); err != nil || got != want {
		t.Errorf("%+v, %v instead of %+v", got, err, want)
	}
}

func TestAbsentAttributes(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {})
	p := newPair(t, token)
	m.HideAttributes(pkcs11.CKA_KEY_GEN_MECHANISM)
	a, err := token.Attributes(t.Context(), p.Seal)
	if err != nil || a.Mechanism != "" || !a.Sensitive || a.KeyType != "CKK_AES" {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestDestroy(t *testing.T) {
	token := connect(t)
	p := newPair(t, token)
	for range 2 { // the second time there is nothing left to do
		if err := token.Destroy(t.Context(), p.Seal.TokenObject(), p.Wrap.TokenObject()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); !errors.Is(err, ErrNoObject) {
		t.Errorf("the destroyed key says %v", err)
	}
	if objects, err := token.Objects(t.Context(), ""); err != nil || len(objects) > 0 {
		t.Errorf("left %v, %v", objects, err)
	}
}

func TestObjectsOutliveTheConnection(t *testing.T) {
	soft := softhsm.New(t)
	cfg := patient(Config{Module: soft.Module, Serial: soft.Serial, PIN: soft.PIN})
	one, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	p := newPair(t, one)
	box, err := one.Encrypt(t.Context(), p.Seal, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Encrypt(t.Context(), p.Seal, []byte("x"), nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a closed token says %v", err)
	}
	two, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if got, err := two.Decrypt(t.Context(), p.Seal, box, nil); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	objects, err := two.Objects(t.Context(), "verenc/test/")
	if err != nil || len(objects) != 2 {
		t.Errorf("%v, %v", objects, err)
	}
}

// TestFullToken answers CKR_HOST_MEMORY for want of room, which a token object meets and a session
// object does not.
func TestFullToken(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {})
	p := newPair(t, token)
	m.LimitObjects(2, pkcs11.CKR_HOST_MEMORY)
	if err := token.GenerateSecretKey(t.Context(), SecretKey{ID: newID(t), Purpose: Seal}); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if _, err := token.GenerateKeyPair(t.Context(),
		KeyPair{ID: newID(t), Type: P256, Purpose: SignPair}); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); err != nil {
		t.Errorf("a data key needs no room: %v", err)
	}
	if s := token.Stats(); s.Objects != 2 {
		t.Errorf("%d objects", s.Objects)
	}
	wantFailing(t, token, selftest.CheckObjects, selftest.CheckCallers)
}

// TestWhatCanLeaveIsDestroyed has a token that ignores the template: the object is destroyed.
func TestWhatCanLeaveIsDestroyed(t *testing.T) {
	token := connect(t)
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		h, err := s.Generate(MAC256.Mechanism(), keyobject.DataKeyTemplate(32))
		if err != nil {
			return struct{}{}, err
		}
		if err := s.DestroyIfExtractable(h); !errors.Is(err, ErrUnsupported) {
			t.Errorf("an extractable key was kept: %v", err)
		}
		if _, err := s.Attributes(h, 0); err == nil {
			t.Error("an extractable key was left")
		}
		return struct{}{}, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDeviceErrorMeansUnsupported has the token answer CKR_DEVICE_ERROR for key pairs only, as
// often as it is asked: it does not support them, and is not lost.
func TestDeviceErrorMeansUnsupported(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {})
	generate := func() error {
		id := newID(t)
		_, err := token.GenerateKeyPair(t.Context(), KeyPair{ID: id, Type: P256, Purpose: SignPair})
		return errors.Join(err, token.Destroy(t.Context(), id))
	}
	m.Fail("C_GenerateKeyPair", pkcs11.CKR_DEVICE_ERROR)
	for range 16 {
		if err := generate(); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrUnavailable) {
			t.Fatalf("key pairs: %v", err)
		}
	}
	m.Clear()
	m.Fail("C_GenerateKeyPair", pkcs11.CKR_DEVICE_ERROR, faults.Times(1))
	if err := generate(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a moment's trouble: %v", err)
	}
	m.Fail("C_GenerateKeyPair", pkcs11.CKR_DEVICE_ERROR)
	m.Fail("C_GenerateKey", pkcs11.CKR_DEVICE_ERROR)
	if err := generate(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no keys at all: %v", err)
	}
	m.Clear()
	if err := generate(); err != nil {
		t.Error(err)
	}
	if s := token.Stats(); s.Connections != 1 {
		t.Errorf("%d connections", s.Connections)
	}
}

// TestRefusedTemplates has the token refuse what a template says.
func TestRefusedTemplates(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {})
	for _, code := range []uint{
		pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID,
		pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_TEMPLATE_INCOMPLETE, pkcs11.CKR_TEMPLATE_INCONSISTENT,
	} {
		m.Fail("C_GenerateKey", code)
		if err := token.GenerateWrappingKey(t.Context(), newID(t), ""); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%v", err)
		}
		m.Clear()
	}
}
