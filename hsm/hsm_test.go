package hsm

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/hsm/session"
)

// connect opens a token of its own for a test.
func connect(t testing.TB, change ...func(*Config)) *Token {
	t.Helper()
	soft := softhsm.New(t)
	cfg := Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: soft.PIN}
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

// lacking is what SoftHSM 2.6.1 fails in.
var lacking = map[string]bool{
	selftest.CheckOAEPInToken: true, selftest.CheckEd25519ph: true,
	selftest.CheckWrappedEd25519: true, selftest.CheckSM2: true,
	selftest.CheckMLDSA44: true, selftest.CheckMLDSA65: true,
	selftest.CheckMLDSA87: true, selftest.CheckMLDSAMu: true,
	selftest.CheckMLKEM512: true, selftest.CheckMLKEM768: true,
	selftest.CheckMLKEM1024: true,
}

func TestSelfTest(t *testing.T) {
	token := connect(t)
	checks := token.SelfTest(t.Context())
	if len(checks) != 54 {
		t.Errorf("%d checks", len(checks))
	}
	names := map[string]bool{}
	for _, c := range checks {
		if c.Err != nil && (!lacking[c.Name] || !errors.Is(c.Err, ErrUnsupported)) ||
			c.Err == nil && c.Name == selftest.CheckSM2 {
			t.Errorf("%s: %v", c.Name, c.Err)
		}
		if names[c.Name] || c.Need == "" || lacking[c.Name] && !c.Optional {
			t.Errorf("%+v", c)
		}
		names[c.Name] = true
	}
	objects, err := token.Objects(t.Context(), "")
	if err != nil || len(objects) > 0 {
		t.Errorf("the self-test left %v, %v", objects, err)
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

func TestSealAndOpen(t *testing.T) {
	token := connect(t)
	p := newPair(t, token)
	for _, size := range []int{1, 15, 16, 17, 4096} {
		for _, aad := range [][]byte{nil, []byte("a"), bytes.Repeat([]byte{7}, 8300)} {
			plaintext := bytes.Repeat([]byte{0xab}, size)
			box, err := token.Encrypt(t.Context(), p.Seal, plaintext, aad)
			if err != nil {
				t.Fatal(err)
			}
			if len(box) != size+Overhead {
				t.Errorf("box of %d bytes for %d", len(box), size)
			}
			if plaintext[0] != 0xab {
				t.Error("Encrypt changed its caller's plaintext")
			}
			got, err := token.Decrypt(t.Context(), p.Seal, box, aad)
			if err != nil || !bytes.Equal(got, plaintext) {
				t.Errorf("%d bytes came back as %d, %v", size, len(got), err)
			}
		}
	}
}

// TestAgainstAnotherGCM gives the token a key that is known outside, and compares.
func TestAgainstAnotherGCM(t *testing.T) {
	iv := bytes.Repeat([]byte{3}, session.IVSize)
	token := connect(t, func(c *Config) { c.Rand = bytes.NewReader(iv) })
	key := bytes.Repeat([]byte{9}, keyobject.AESKeySize)
	id := newID(t)
	_, err := connection.Run(t.Context(), token.link, func(s *connection.Session) (struct{}, error) {
		_, err := s.Module.CreateObject(s.Handle, Seal.Template())
		if err == nil {
			t.Error("a key without a value was made")
		}
		h, err := s.Module.CreateObject(s.Handle, append(
			Seal.Template(),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, key),
			pkcs11.NewAttribute(pkcs11.CKA_ID, id[:]),
		))
		if err == nil {
			err = s.Remember(id, h)
		}
		return struct{}{}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	box, err := token.Encrypt(t.Context(), id, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	if want := append(iv, gcm.Seal(nil, iv, []byte("plaintext"), []byte("aad"))...); !bytes.Equal(box, want) {
		t.Errorf("box %x, crypto/cipher says %x", box, want)
	}
	if _, err := token.Encrypt(t.Context(), id, []byte("plaintext"), nil); err == nil {
		t.Error("sealed without randomness for an initialisation vector")
	}
}

func TestWrappedSecrets(t *testing.T) {
	token := connect(t)
	p, other := newPair(t, token), newPair(t, token)
	for _, size := range []int{1, 7, 8, 9, 16, 24, 32, 33, 1023, 1024} {
		box, err := token.GenerateWrapped(t.Context(), p, size, []byte("aad"))
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		first, err := token.DecryptWrapped(t.Context(), p, box, size, []byte("aad"))
		if err != nil || len(first) != size {
			t.Fatalf("%d: %d bytes, %v", size, len(first), err)
		}
		again, err := token.DecryptWrapped(t.Context(), p, box, size, []byte("aad"))
		if err != nil || !bytes.Equal(first, again) {
			t.Errorf("%d: the secret differs the second time, %v", size, err)
		}
		for name, err := range map[string]error{
			"other aad":    second(token.DecryptWrapped(t.Context(), p, box, size, []byte("other"))),
			"other length": second(token.DecryptWrapped(t.Context(), p, box, size+8, []byte("aad"))),
			"other key":    second(token.DecryptWrapped(t.Context(), other, box, size, []byte("aad"))),
		} {
			if !errors.Is(err, ErrAuthentication) {
				t.Errorf("%d: %s: %v", size, name, err)
			}
		}
	}
	a, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := token.GenerateWrapped(t.Context(), p, 32, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(
		first(token.DecryptWrapped(t.Context(), p, a, 32, nil)),
		first(token.DecryptWrapped(t.Context(), p, b, 32, nil)),
	) {
		t.Error("two secrets are equal")
	}
	objects, err := token.Objects(t.Context(), "")
	if err != nil || len(objects) != 4 {
		t.Errorf("%d objects are left instead of the 4 keys, %v", len(objects), err)
	}
}

func first[A, B any](a A, _ B) A  { return a }
func second[A, B any](_ A, b B) B { return b }

func TestEveryChangedByteIsRefused(t *testing.T) {
	token := connect(t)
	p := newPair(t, token)
	box, err := token.Encrypt(t.Context(), p.Seal, []byte("plaintext"), []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range box {
		changed := bytes.Clone(box)
		changed[i] ^= 0x80
		if _, err := token.Decrypt(t.Context(), p.Seal, changed, []byte("aad")); !errors.Is(err, ErrAuthentication) {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := token.Decrypt(t.Context(), p.Seal, box[:i], []byte("aad")); !errors.Is(err, ErrAuthentication) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	if s := token.Stats(); s.Failures != 0 || s.Sessions > 2 { // this one, and the one of the index
		t.Errorf("bad ciphertexts cost sessions: %+v", s)
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
	cfg := Config{Module: soft.Module, Serial: soft.Serial, PIN: soft.PIN}
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

// occupy keeps sessions in use until they are released.
func occupy(t *testing.T, token *Token, sessions int) (release func()) {
	t.Helper()
	hold := make(chan struct{})
	var holders sync.WaitGroup
	for range sessions {
		held := make(chan struct{})
		holders.Go(func() {
			if _, err := connection.Run(context.Background(), token.link,
				func(*connection.Session) (int, error) { close(held); <-hold; return 0, nil }); err != nil {
				t.Error(err)
			}
		})
		<-held
	}
	return func() {
		close(hold)
		holders.Wait()
	}
}

func TestManyAtOnceOnFewSessions(t *testing.T) {
	token := connect(t, func(c *Config) { c.Sessions = 3 })
	p := newPair(t, token)
	var all sync.WaitGroup
	release := occupy(t, token, 3) // so that the others have to wait, however fast the calls are
	for i := range 16 {
		all.Go(func() {
			for range 20 {
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
	for token.Stats().Waits == 0 {
		runtime.Gosched()
	}
	release()
	all.Wait()
	if s := token.Stats(); s.Sessions > 3 || s.Busy != 0 || s.Failures != 0 || s.Waits == 0 {
		t.Errorf("%+v", s)
	}
}

func TestWaitForSessionEndsWithItsCaller(t *testing.T) {
	token := connect(t, func(c *Config) { c.Sessions = 1 })
	release := occupy(t, token, 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := token.Random(ctx, 1); !errors.Is(err, ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	release()
}

// TestStuckCalls has calls that stay inside the module past their deadline: their callers get away,
// their results are wiped, and beyond MaxStuck nobody is let in.
func TestStuckCalls(t *testing.T) {
	token := connect(t, func(c *Config) { c.CallTimeout, c.MaxStuck, c.Sessions = time.Millisecond, 2, 8 })
	release := make(chan struct{})
	secret := bytes.Repeat([]byte{1}, 32)
	for range 2 {
		_, err := connection.Run(
			t.Context(), token.link,
			func(*connection.Session) ([]byte, error) { <-release; return secret, nil },
		)
		if !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
	}
	if _, err := token.Random(t.Context(), 1); !errors.Is(err, ErrUnavailable) {
		t.Errorf("with 2 stuck calls: %v", err)
	}
	if s := token.Stats(); s.Stuck != 2 || s.Timeouts != 2 || s.Busy != 2 {
		t.Errorf("%+v", s)
	}
	close(release)
	if err := token.Close(); err != nil { // waits for both
		t.Fatal(err)
	}
	if !bytes.Equal(secret, make([]byte, 32)) {
		t.Error("a result that nobody took was not wiped")
	}
	if s := token.Stats(); s.Stuck != 0 {
		t.Errorf("%+v", s)
	}
}
