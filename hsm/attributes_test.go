package hsm

import (
	"errors"
	"testing"
)

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
