package faults_test

import (
	"bytes"
	"testing"
)

// TestReplay: what was learnt is answered again, whatever is asked; then the token answers again,
// and nothing is left of it.
func TestReplay(t *testing.T) {
	token, m := connect(t)
	p := newPair(t, token)
	first, err := token.Encrypt(t.Context(), p.Seal, []byte("first"), nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := token.Encrypt(t.Context(), p.Seal, []byte("other"), nil)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	decrypt := func(box []byte, want string) {
		t.Helper()
		if got, err := token.Decrypt(t.Context(), p.Seal, box, nil); err != nil || string(got) != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	m.Learn()
	decrypt(first, "first")
	m.Replay()
	decrypt(other, "first")
	m.Learn()
	secret, err := token.DecryptWrapped(t.Context(), p, wrapped, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Replay()
	m.ResetCounts()
	for range 3 {
		if got, err := token.DecryptWrapped(t.Context(), p, wrapped, 32, nil); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("%x, %v; want %x", got, err, secret)
		}
	}
	if n := m.Calls("C_UnwrapKey"); n != 3 {
		t.Errorf("%d calls of C_UnwrapKey", n)
	}
	if u := m.Usage(); u.Objects != 0 {
		t.Errorf("%d objects", u.Objects)
	}
	m.StopReplay()
	decrypt(other, "other")
}
