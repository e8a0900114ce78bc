package faults_test

import (
	"crypto"
	"maps"
	"testing"

	"github.com/verenc/kms/hsm"
)

// TestCallsOfOperations pins what each operation costs on a network HSM, where every call is a round trip.
func TestCallsOfOperations(t *testing.T) {
	token, m := connect(t)
	p, mac, ec := newPair(t, token), newID(t), newID(t)
	if err := token.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: mac, Purpose: hsm.MAC256}); err != nil {
		t.Fatal(err)
	}
	if _, err := token.GenerateKeyPair(t.Context(),
		hsm.KeyPair{ID: ec, Type: hsm.P256, Purpose: hsm.SignPair}); err != nil {
		t.Fatal(err)
	}
	sealed := encrypted(t, token, p)
	wrapped, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	under := newID(t)
	if err := token.GenerateWrappingKey(t.Context(), under, "verenc/test"); err != nil {
		t.Fatal(err)
	}
	outside := hsm.WrappedKey{Name: newID(t), Under: under, Purpose: hsm.Seal}
	if outside.Wrapped, _, err = token.GenerateWrappedKey(t.Context(), outside); err != nil {
		t.Fatal(err)
	}
	known(t, token)
	for name, test := range map[string]struct {
		operation func() error
		calls     map[string]int
	}{
		"Encrypt": {func() error { _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); return err },
			map[string]int{"C_EncryptInit": 1, "C_Encrypt": 1}},
		"Encrypt with a key that is held": {func() error {
			_, err := token.Encrypt(t.Context(), outside, []byte("x"), nil)
			return err
		},
			map[string]int{"C_EncryptInit": 1, "C_Encrypt": 1}},
		"Decrypt": {func() error { _, err := token.Decrypt(t.Context(), p.Seal, sealed, nil); return err },
			map[string]int{"C_DecryptInit": 1, "C_Decrypt": 1}},
		"GenerateSealed": {func() error { _, err := token.GenerateSealed(t.Context(), p.Seal, 32, nil); return err },
			map[string]int{"C_GenerateRandom": 1, "C_EncryptInit": 1, "C_Encrypt": 1}},
		"GenerateWrapped": {func() error { _, err := token.GenerateWrapped(t.Context(), p, 32, nil); return err },
			map[string]int{"C_GenerateKey": 1, "C_WrapKey": 1, "C_EncryptInit": 1, "C_Encrypt": 1,
				"C_DestroyObject": 1}},
		"DecryptWrapped": {func() error {
			_, err := token.DecryptWrapped(t.Context(), p, wrapped, 32, nil)
			return err
		},
			map[string]int{"C_DecryptInit": 1, "C_Decrypt": 1, "C_UnwrapKey": 1, "C_GetAttributeValue": 1,
				"C_DestroyObject": 1}},
		"Sign": {func() error {
			_, err := token.Sign(t.Context(), ec, hsm.P256, hsm.Scheme{Algorithm: hsm.ECDSA, Hash: crypto.SHA256},
				make([]byte, 32))
			return err
		}, map[string]int{"C_SignInit": 1, "C_Sign": 1}},
		"MAC": {func() error { _, err := token.MAC(t.Context(), mac, crypto.SHA256, []byte("x")); return err },
			map[string]int{"C_SignInit": 1, "C_Sign": 1}},
	} {
		m.ResetCounts()
		if err := test.operation(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := m.Counts(); !maps.Equal(got, test.calls) {
			t.Errorf("%s: %v, not %v", name, got, test.calls)
		}
	}
}
