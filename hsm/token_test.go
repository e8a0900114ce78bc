package hsm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// testHost is the argument with which the test binary is the process of a module.
const testHost = "host-pkcs11-module"

func TestMain(m *testing.M) {
	if os.Getenv(judgeSerial) != "" {
		os.Exit(judge(os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == testHost {
		if err := HostModule(); err != nil {
			panic(err)
		}
		return
	}
	os.Exit(softhsm.Run(m))
}

// patient returns c with times in which every call ends, however slow the machine is.
func patient(c Config) Config {
	c.CallTimeout, c.GenerateTimeout, c.ConnectTimeout = time.Minute, 5*time.Minute, time.Minute
	return c
}

// connect opens a token of its own for a test.
func connect(t testing.TB, change ...func(*Config)) *Token {
	t.Helper()
	soft := softhsm.New(t)
	return open(t, patient(Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN}), change)
}

// open opens a token until the end of the test.
func open(t testing.TB, cfg Config, change []func(*Config)) *Token {
	t.Helper()
	for _, f := range change {
		f(&cfg)
	}
	token, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token
}

// misbehaving opens a token whose module misbehaves as it is told before.
func misbehaving(t testing.TB, tell func(*faults.Module), change ...func(*Config)) (*Token, *faults.Module) {
	t.Helper()
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	tell(m)
	cfg := patient(Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, RetryMin: time.Millisecond})
	token := open(t, cfg, change)
	t.Cleanup(func() { // before the token is closed
		m.Clear()
		m.Honest()
	})
	return token, m
}

func newID(t testing.TB) (id ObjectID) {
	t.Helper()
	if _, err := rand.Read(id[:]); err != nil {
		t.Fatal(err)
	}
	return id
}

// newPair makes the two keys of a key material.
func newPair(t testing.TB, token *Token) SealingKeys {
	t.Helper()
	p := SealingKeys{Seal: newID(t), Wrap: newID(t)}
	for id, purpose := range map[ObjectID]Purpose{p.Seal.TokenObject(): Seal, p.Wrap.TokenObject(): Wrap} {
		if err := token.GenerateSecretKey(t.Context(),
			SecretKey{ID: id, Label: "verenc/test/1/x", Purpose: purpose}); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	soft := softhsm.New(t)
	good := Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN}
	for name, test := range map[string]struct {
		change func(*Config)
		kind   error
		text   string
	}{
		"no token":       {func(c *Config) { c.Serial = "0000" }, ErrUnavailable, "verenc doctor"},
		"no name":        {func(c *Config) { c.Label, c.Serial = "", "" }, nil, "label or serial"},
		"wrong PIN":      {func(c *Config) { c.PIN = "wrong" }, ErrPIN, "C_Login"},
		"relative":       {func(c *Config) { c.Module = "libsofthsm2.so" }, nil, "absolute path"},
		"no module":      {func(c *Config) { c.Module = "/nowhere/lib.so" }, os.ErrNotExist, "install"},
		"not a module":   {func(c *Config) { c.Module = os.Args[0] }, nil, "load PKCS#11 module"},
		"session limits": {func(c *Config) { c.Sessions = 1 }, nil, ""},
	} {
		cfg := good
		test.change(&cfg)
		token, err := Open(t.Context(), cfg)
		if token != nil {
			if err := token.Close(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if test.text == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte(test.text)) {
			t.Errorf("%s: %v lacks %q", name, err, test.text)
		}
		if test.kind != nil && !errors.Is(err, test.kind) {
			t.Errorf("%s: %v is not %v", name, err, test.kind)
		}
		if err != nil && bytes.Contains([]byte(err.Error()), []byte(cfg.PIN)) && len(cfg.PIN) > 3 &&
			name != "wrong PIN" {
			t.Errorf("%s: the error tells the PIN", name)
		}
	}
}

func TestInitArguments(t *testing.T) {
	const arguments = "configdir='sql:/var/lib/nss' flags=optimizeSpace"
	token, _ := misbehaving(
		t, func(m *faults.Module) { m.RequireArgument(arguments) },
		func(c *Config) { c.InitArguments = arguments },
	)
	if err := token.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	m.RequireArgument(arguments)
	if _, err := Open(t.Context(), Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN}); err == nil ||
		!strings.Contains(err.Error(), "init_arguments") {
		t.Errorf("without arguments: %v", err)
	}
}

// TestPrivateInstances is p11-kit's client and proxy: all calls must go through one function list.
func TestPrivateInstances(t *testing.T) {
	token, _ := misbehaving(t, (*faults.Module).PrivateInstances)
	wantFailing(t, token)
}

func TestLabelsAreTrimmed(t *testing.T) {
	soft := softhsm.New(t)
	for _, label := range []string{soft.Label, soft.Label + "  "} {
		token, err := Open(t.Context(), Config{Module: soft.Module, Label: label, PIN: soft.PIN})
		if err != nil {
			t.Fatalf("%q: %v", label, err)
		}
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPINIsNotTriedToDeath starts again and again with a wrong PIN: the last try is left to a person.
func TestPINIsNotTriedToDeath(t *testing.T) {
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	m.LockPIN(3)
	open := func(pin string, force bool) error {
		var notices []string
		token, err := Open(t.Context(), Config{Module: m.Path, Serial: soft.Serial, PIN: pin, ForcePIN: force,
			OnNotice: func(n string) { notices = append(notices, n) }})
		if err == nil {
			err = token.Close()
		}
		if m.WrongPINs() == 1 && len(notices) == 0 && err != nil && !strings.Contains(err.Error(), "tried") {
			t.Logf("no notice: %v", err)
		}
		return err
	}
	for range 5 {
		if err := open("0000", false); !errors.Is(err, ErrPIN) {
			t.Errorf("%v", err)
		}
	}
	if n := m.WrongPINs(); n != 2 {
		t.Errorf("%d wrong PINs reached the token, want 2 of 3", n)
	}
	if err := open(soft.PIN, false); !errors.Is(err, ErrPIN) || !strings.Contains(err.Error(), "--force-pin") {
		t.Errorf("with the last try: %v", err)
	}
	if err := open(soft.PIN, true); err != nil || m.WrongPINs() != 0 {
		t.Errorf("forced: %v, %d wrong PINs", err, m.WrongPINs())
	}
	for _, pin := range []string{"", "\ufeff" + soft.PIN, soft.PIN + " ", "\t" + soft.PIN, soft.PIN + "\r\n",
		"12\x0034"} {
		if err := open(pin, false); !errors.Is(err, ErrPIN) {
			t.Errorf("%q: %v", pin, err)
		}
	}
	if n := m.WrongPINs(); n != 0 {
		t.Errorf("%d PINs reached the token that can't be right", n)
	}
	m.LockPIN(1)
	_ = open("0000", true)
	if err := open(soft.PIN, true); !errors.Is(err, ErrPIN) || !strings.Contains(err.Error(), "locked") {
		t.Errorf("locked: %v", err)
	}
	m.LockPIN(0)
	m.TokenFlags(0, pkcs11.CKF_USER_PIN_INITIALIZED)
	if err := open(soft.PIN, true); !errors.Is(err, ErrPIN) || !strings.Contains(err.Error(), "no user PIN") {
		t.Errorf("without a PIN: %v", err)
	}
}
