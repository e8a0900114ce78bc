package faults_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// connect opens a token behind a module, and sees at the end that nothing is left open.
func connect(t testing.TB, change ...func(*hsm.Config)) (*hsm.Token, *faults.Module) {
	t.Helper()
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	t.Cleanup(func() {
		if u := m.Usage(); u.Sessions != 0 || u.Objects != 0 {
			t.Errorf("left open: %+v", u)
		}
	})
	return open(t, m, soft, change...), m
}

// open opens a token behind a module until the end of the test. Calls have time enough on any
// machine, unless a change makes it short for those that hang. When the machine is too slow for a
// short ConnectTimeout, open tries again.
func open(t testing.TB, m *faults.Module, soft softhsm.Token, change ...func(*hsm.Config)) *hsm.Token {
	t.Helper()
	cfg := hsm.Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, CallTimeout: time.Minute,
		GenerateTimeout: 5 * time.Minute, ConnectTimeout: time.Minute, RetryMin: time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	token, err := hsm.Open(t.Context(), cfg)
	for errors.Is(err, hsm.ErrTimeout) {
		for m.Sessions() > 0 { // the late connection is being closed
			runtime.Gosched()
		}
		token, err = hsm.Open(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Clear()
		m.Plug()
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

func newID(t testing.TB) (id hsm.ObjectID) {
	t.Helper()
	if _, err := rand.Read(id[:]); err != nil {
		t.Fatal(err)
	}
	return id
}

func newPair(t testing.TB, token *hsm.Token) hsm.SealingKeys {
	t.Helper()
	seal, wrap := newID(t), newID(t)
	p := hsm.SealingKeys{Seal: seal, Wrap: wrap}
	for id, purpose := range map[hsm.ObjectID]hsm.Purpose{seal: hsm.Seal, wrap: hsm.Wrap} {
		if err := token.GenerateSecretKey(t.Context(),
			hsm.SecretKey{ID: id, Label: "verenc/test/1/x", Purpose: purpose}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// prove has the token prove what a test does not want to see.
func prove(t *testing.T, token *hsm.Token, p hsm.SealingKeys) {
	t.Helper()
	if _, err := token.GenerateWrapped(t.Context(), p, 32, nil); err != nil {
		t.Fatal(err)
	}
}

func TestForwardingIsFaithful(t *testing.T) {
	token, m := connect(t)
	for _, c := range token.SelfTest(t.Context()) {
		if c.Err != nil && !errors.Is(c.Err, hsm.ErrUnsupported) { // SoftHSM's own gaps
			t.Errorf("%s: %v", c.Name, c.Err)
		}
	}
	p := newPair(t, token)
	for _, size := range []int{1, 32, 4096} {
		plaintext := bytes.Repeat([]byte{7}, size)
		box, err := token.Encrypt(t.Context(), p.Seal, plaintext, []byte("aad"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := token.Decrypt(t.Context(), p.Seal, box, []byte("aad")); err != nil ||
			!bytes.Equal(got, plaintext) {
			t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
		}
		if _, err := token.Decrypt(t.Context(), p.Seal, box, []byte("other")); !errors.Is(err, hsm.ErrAuthentication) {
			t.Errorf("other aad: %v", err)
		}
	}
	box, err := token.GenerateWrapped(t.Context(), p, 32, []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if secret, err := token.DecryptWrapped(t.Context(), p, box, 32, []byte("aad")); err != nil || len(secret) != 32 {
		t.Errorf("%d bytes, %v", len(secret), err)
	}
	if objects, err := token.Objects(t.Context(), "verenc/test/"); err != nil || len(objects) != 2 {
		t.Errorf("%v, %v", objects, err)
	}
	if err := token.Destroy(t.Context(), p.Seal.(hsm.ObjectID), p.Wrap.(hsm.ObjectID)); err != nil {
		t.Fatal(err)
	}
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); !errors.Is(err, hsm.ErrNoObject) {
		t.Errorf("destroyed key: %v", err)
	}
	if u := m.Usage(); u.Objects != 0 || u.MostObjects == 0 || u.Sessions == 0 {
		t.Errorf("%+v", u)
	}
}

// TestWrappedSecretCrossesNoCall looks at every byte that goes into the module or comes out of it
// while a data key is made without its plaintext, and finds it only when it is asked for.
func TestWrappedSecretCrossesNoCall(t *testing.T) {
	token, m := connect(t)
	p := newPair(t, token)
	prove(t, token, p)
	if err := m.Record(); err != nil {
		t.Fatal(err)
	}
	box, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	made, err := m.Recorded()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := token.DecryptWrapped(t.Context(), p, box, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	all, err := m.Recorded()
	if err != nil {
		t.Fatal(err)
	}
	var functions []string
	for _, c := range made {
		functions = append(functions, c.Function)
		if c.Carries(secret) {
			t.Errorf("%s carried the secret", c.Function)
		}
	}
	seen := 0
	for _, c := range all[len(made):] {
		if c.Carries(secret) {
			seen++
		}
	}
	if len(made) != 5 || seen != 1 {
		t.Errorf("%d calls %v, then %d with the secret", len(made), functions, seen)
	}
	generated := made[0]
	if generated.Function != "C_GenerateKey" || generated.Mechanism != pkcs11.CKM_GENERIC_SECRET_KEY_GEN ||
		generated.RV != pkcs11.CKR_OK ||
		!generated.Template.Bool(pkcs11.CKA_SENSITIVE) || generated.Template.Bool(pkcs11.CKA_TOKEN) ||
		len(generated.Objects) != 1 {
		t.Errorf("%+v", generated)
	}
}

func TestUnplugThroughHSM(t *testing.T) {
	token, m, changes := observed(t)
	p := newPair(t, token)
	box := encrypted(t, token, p)
	m.Unplug()
	if m.Sessions() != 0 {
		t.Errorf("%d sessions survive", m.Sessions())
	}
	if _, err := token.Decrypt(t.Context(), p.Seal, box, nil); !errors.Is(err, hsm.ErrUnavailable) {
		t.Errorf("unplugged: %v", err)
	}
	next(t, changes, true)
	m.Renumber()
	m.Plug()
	next(t, changes, false)
	if got, err := token.Decrypt(t.Context(), p.Seal, box, nil); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	token, m := connect(t, func(c *hsm.Config) { c.Sessions = 40 })
	p := newPair(t, token)
	prove(t, token, p)
	m.ResetCounts()
	m.SetLatency(200 * time.Microsecond)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			for range 5 {
				aad := []byte{byte(i)}
				box, err := token.GenerateWrapped(context.Background(), p, 32, aad)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := token.DecryptWrapped(context.Background(), p, box, 32, aad); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if u := m.Usage(); u.Objects != 0 || u.MostSessions > 42 {
		t.Errorf("%+v", u)
	}
	if n := m.Calls("C_UnwrapKey"); n != 200 {
		t.Errorf("%d unwraps", n)
	}
}

// TestHSMSurvivesEachFailure fails each call of each operation once, happened or not, and expects
// hsm to connect again when that tells of a loss, to work again, and to leave nothing behind. A
// decryption is repeated by hsm itself, once.
func TestHSMSurvivesEachFailure(t *testing.T) {
	token, m, changes := observed(t)
	p := newPair(t, token)
	box := encrypted(t, token, p)
	wrapped, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	operations := map[string]func() ([]byte, error){
		"Encrypt":         func() ([]byte, error) { return token.Encrypt(t.Context(), p.Seal, []byte("x"), nil) },
		"Decrypt":         func() ([]byte, error) { return token.Decrypt(t.Context(), p.Seal, box, nil) },
		"GenerateWrapped": func() ([]byte, error) { return token.GenerateWrapped(t.Context(), p, 32, nil) },
		"DecryptWrapped":  func() ([]byte, error) { return token.DecryptWrapped(t.Context(), p, wrapped, 32, nil) },
		"Random":          func() ([]byte, error) { return token.Random(t.Context(), 1) },
	}
	for name, operation := range operations {
		if _, err := operation(); err != nil {
			t.Fatal(err)
		}
		m.ResetCounts()
		if _, err := operation(); err != nil {
			t.Fatal(err)
		}
		for function := range m.Counts() {
			for _, lost := range []bool{false, true} {
				for _, options := range [][]faults.Option{{faults.Times(1)}, {faults.Times(1), faults.AfterCall()}} {
					at := fmt.Sprintf("%s: %s, lost %v, options %d", name, function, lost, len(options))
					rv := uint(pkcs11.CKR_GENERAL_ERROR)
					if lost {
						rv = pkcs11.CKR_DEVICE_REMOVED
					}
					m.Fail(function, rv, options...)
					repeated := function == "C_Decrypt" && !lost && len(options) == 2
					if _, err := operation(); (err == nil) != repeated || errors.Is(err, hsm.ErrUnavailable) != lost {
						t.Errorf("%s: %v", at, err)
					}
					if lost {
						if err := <-changes; err == nil {
							t.Errorf("%s: connected before it was lost", at)
						}
						if err := <-changes; err != nil {
							t.Errorf("%s: %v", at, err)
						}
						// This waits for the new connection's index, whose calls the next fault is not meant for.
						if err := token.Destroy(t.Context(), newID(t)); err != nil {
							t.Errorf("%s: %v", at, err)
						}
					}
					if _, err := operation(); err != nil {
						t.Errorf("%s: afterwards: %v", at, err)
					}
					if n := m.Usage().Objects; n != 0 {
						t.Errorf("%s: %d objects are left", at, n)
					}
				}
			}
			// A token that answers CKR_DEVICE_ERROR for one call, and is well, is not lost.
			m.Fail(function, pkcs11.CKR_DEVICE_ERROR, faults.Times(1))
			if _, err := operation(); err == nil {
				t.Errorf("%s: %s: CKR_DEVICE_ERROR is no error", name, function)
			}
			if _, err := operation(); err != nil {
				t.Errorf("%s: %s: after CKR_DEVICE_ERROR: %v", name, function, err)
			}
			select {
			case err := <-changes:
				t.Errorf("%s: %s: CKR_DEVICE_ERROR meant the connection: %v", name, function, err)
			default:
			}
		}
	}
}

// encrypted returns a box of "x".
func encrypted(t *testing.T, token *hsm.Token, p hsm.SealingKeys) []byte {
	t.Helper()
	box, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return box
}
