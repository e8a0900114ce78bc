package faults_test

import (
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// TestCreationIsNotRepeated loses the answer of calls that make a token object, with errors that
// may only mean that an idle session was closed: starting again would make a second object, which
// nobody destroys.
func TestCreationIsNotRepeated(t *testing.T) {
	token, m := connect(t)
	known(t, token)
	under, unwrapping := newID(t), newID(t)
	if err := token.GenerateWrappingKey(t.Context(), under, "verenc/test"); err != nil {
		t.Fatal(err)
	}
	outside := hsm.WrappedKey{Name: newID(t), Under: under, Purpose: hsm.Seal}
	var err error
	if outside.Wrapped, _, err = token.GenerateWrappedKey(t.Context(), outside); err != nil {
		t.Fatal(err)
	}
	material := newWrapping(t, token, unwrapping)(make([]byte, 32))
	for name, create := range map[string]func(hsm.ObjectID) error{
		"secret key": func(id hsm.ObjectID) error {
			return token.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: id, Purpose: hsm.Seal})
		},
		"wrapping key": func(id hsm.ObjectID) error {
			return token.GenerateWrappingKey(t.Context(), id, "verenc/test")
		},
		"key pair": func(id hsm.ObjectID) error {
			_, err := token.GenerateKeyPair(t.Context(), hsm.KeyPair{ID: id, Type: hsm.P256, Purpose: hsm.SignPair})
			return err
		},
		"persisted key": func(id hsm.ObjectID) error { return token.Persist(t.Context(), outside, id, "verenc/test") },
		"imported key": func(id hsm.ObjectID) error {
			_, err := token.Import(t.Context(),
				hsm.Import{Wrapping: unwrapping, WrappingType: hsm.RSA2048, Algorithm: hsm.OAEPSHA1, Wrapped: material,
					Secret: &hsm.SecretKey{ID: id, Purpose: hsm.Seal}})
			return err
		},
	} {
		m.ResetCounts()
		if err := create(newID(t)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := objects(t, token)
		for function := range m.Counts() {
			for _, rv := range []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED} {
				if err := token.Ping(t.Context()); err != nil { // leaves an idle session
					t.Fatal(err)
				}
				id := newID(t)
				m.Fail(function, rv, faults.Times(1), faults.AfterCall())
				created := create(id)
				m.Clear()
				if err := token.Destroy(t.Context(), id); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				if after := objects(t, token); len(after) != len(before) {
					t.Errorf("%s, %s lost, %#x: %v; when it is destroyed there are %d objects, not %d", name, function,
						rv, created, len(after), len(before))
				}
			}
		}
	}
}

func objects(t *testing.T, token *hsm.Token) []hsm.Object {
	t.Helper()
	all, err := token.Objects(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSearchMeetsTheNextLogin: a search that finds nothing because the login was lost does not mean
// that an object is missing, even if there is a new login by the time of the check.
func TestSearchMeetsTheNextLogin(t *testing.T) {
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	changes, tell := telling()
	token, other := open(t, m, soft, tell), open(t, m, soft)
	known(t, token)
	known(t, other)
	next(t, changes, false)
	id := newID(t)
	if err := other.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: id, Purpose: hsm.Seal}); err != nil {
		t.Fatal(err)
	}
	m.Hang("C_GetSessionInfo", faults.Times(1))
	m.LogOut()
	done := make(chan error)
	go func() { done <- token.Destroy(t.Context(), id) }()
	if err := m.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := token.GenerateSecretKey(t.Context(), hsm.SecretKey{ID: newID(t), Purpose: hsm.Seal}); !errors.Is(err,
		hsm.ErrUnavailable) {
		t.Fatal(err)
	}
	next(t, changes, true)
	next(t, changes, false)
	m.Release()
	if err := <-done; !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("the object is said to be destroyed: %v", err)
	}
	if err := token.Destroy(t.Context(), id); err != nil {
		t.Error(err)
	}
	if all := objects(t, token); len(all) != 0 {
		t.Errorf("%v", all)
	}
}

// TestUntoldSessionObjects: a wrapped key that was unwrapped, but whose answer was lost, leaves no
// object behind, although its session continues.
func TestUntoldSessionObjects(t *testing.T) {
	token, m := connect(t)
	under := newID(t)
	if err := token.GenerateWrappingKey(t.Context(), under, "verenc/test"); err != nil {
		t.Fatal(err)
	}
	key := hsm.WrappedKey{Name: newID(t), Under: under, Purpose: hsm.Seal}
	var err error
	if key.Wrapped, _, err = token.GenerateWrappedKey(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	for _, rv := range []uint{pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_HOST_MEMORY} {
		if err := token.Evict(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		m.Fail("C_UnwrapKey", rv, faults.Times(1), faults.AfterCall())
		if _, err := token.Encrypt(t.Context(), key, []byte("x"), nil); err == nil {
			t.Errorf("%#x: used without an answer", rv)
		}
		if n := m.Usage().Objects; n != 0 {
			t.Errorf("%#x: %d objects are left", rv, n)
		}
		if _, err := token.Encrypt(t.Context(), key, []byte("x"), nil); err != nil {
			t.Errorf("%#x: afterwards: %v", rv, err)
		}
	}
	if err := token.Evict(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if s := token.Stats(); s.Connections != 1 {
		t.Errorf("%+v", s)
	}
}
