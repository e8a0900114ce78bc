package faults_test

import (
	"errors"
	"os"
	"testing"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// moduleHost is the argument with which the test binary is the process of a module.
const moduleHost = "host-pkcs11-module"

// isolate opens a token whose module runs in a process of its own.
func isolate(t *testing.T, change ...func(*hsm.Config)) (*hsm.Token, *faults.Module) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	own := func(c *hsm.Config) { c.ModuleCommand = []string{program, moduleHost} }
	return open(t, m, soft, append([]func(*hsm.Config){own}, change...)...), m
}

// TestIsolatedIsStuck has a call hang in the module's process for ever: its caller gets ErrTimeout at the deadline, the
// process is killed, and the next one serves, with nothing of the first left stuck.
func TestIsolatedIsStuck(t *testing.T) {
	changes, tell := telling()
	token, m := isolate(t, tell, func(c *hsm.Config) { c.CallTimeout = hangTimeout })
	next(t, changes, false)
	p := newPair(t, token)
	known(t, token)
	m.Hang("C_Encrypt", faults.Times(1))
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); !errors.Is(err, hsm.ErrTimeout) {
		t.Fatal(err)
	}
	next(t, changes, true)
	next(t, changes, false)
	known(t, token)
	if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
		t.Error(err)
	}
	if s := token.Stats(); s.Stuck != 0 || s.Reinitializations == 0 {
		t.Errorf("%+v", s)
	}
}
