package hsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/profile"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/hsm/session"
)

// misbehaving opens a token whose module misbehaves as it is told before.
func misbehaving(t testing.TB, tell func(*faults.Module), change ...func(*Config)) (*Token, *faults.Module) {
	t.Helper()
	soft := softhsm.New(t)
	m := faults.New(t, soft)
	tell(m)
	cfg := Config{Module: m.Path, Serial: soft.Serial, PIN: soft.PIN, RetryMin: time.Millisecond}
	for _, f := range change {
		f(&cfg)
	}
	token, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Clear()
		m.Honest()
		if err := token.Close(); err != nil {
			t.Error(err)
		}
	})
	return token, m
}

// failing runs the self-test and gives the names of the checks that fail, but for what SoftHSM
// can't do.
func failing(t testing.TB, token *Token) (names []string) {
	t.Helper()
	for _, c := range token.SelfTest(t.Context()) {
		if c.Err != nil && !lacking[c.Name] {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

func wantFailing(t testing.TB, token *Token, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := failing(t, token); !slices.Equal(got, want) {
		t.Errorf("the self-test fails in %q, want %q", got, want)
	}
}

// TestPrivateInstances is p11-kit's client and proxy: all calls must go through one function list.
func TestPrivateInstances(t *testing.T) {
	token, _ := misbehaving(t, (*faults.Module).PrivateInstances)
	wantFailing(t, token)
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

// TestKWPIsProved has a token with AES-KWP under its number of v3.1, and something else that
// round-trips under v2.40's.
func TestKWPIsProved(t *testing.T) {
	swapped := func(m *faults.Module) {
		m.MapMechanism(profile.CKMAESKeyWrapKWP, pkcs11.CKM_AES_KEY_WRAP_PAD)
		m.MapMechanism(profile.CKMAESKeyWrapPad, faults.PKCS7KeyWrap)
	}
	token, m := misbehaving(t, swapped)
	if mechanism, err := token.KWPMechanism(t.Context()); err != nil || mechanism != profile.CKMAESKeyWrapKWP {
		t.Errorf("%#x, %v", mechanism, err)
	}
	wantFailing(t, token)

	// What an earlier version has wrapped with the other mechanism opens still.
	p := newPair(t, token)
	var spki []byte
	box, err := connection.Run(t.Context(), token.link, func(s *connection.Session) ([]byte, error) {
		sealing, wrapping, err := s.LookupPair(p)
		if err != nil {
			return nil, err
		}
		var h pkcs11.ObjectHandle
		h, spki, err = s.GeneratePair(P256.Info(), append(keyobject.PairTemplate(P256.Info(), SignPair, false),
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)))
		if err != nil {
			return nil, err
		}
		wrapped, err := s.WrapKey(
			profile.CKMAESKeyWrapPad, nil, wrapping, h, session.KWPSize(keyobject.PrivateKeyBound),
		)
		if err != nil {
			return nil, err
		}
		return s.Seal(sealing, wrapped, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, recorded := range []uint{0, profile.CKMAESKeyWrapPad} {
		p.Mechanism = recorded
		pkcs8, err := token.DecryptWrappedPair(t.Context(), p, box, nil)
		if err != nil {
			t.Fatalf("recorded %#x: %v", recorded, err)
		}
		_, point, err := P256.Info().ParsePKCS8(pkcs8)
		if err != nil {
			t.Fatal(err)
		}
		if public, err := P256.Info().MarshalPoint(point); err != nil || !bytes.Equal(public, spki) {
			t.Errorf("recorded %#x: another key, %v", recorded, err)
		}
	}

	// A token that has only the other one has no AES-KWP.
	m.UnmapMechanisms()
	other, _ := misbehaving(t, func(m *faults.Module) { m.MapMechanism(profile.CKMAESKeyWrapPad, faults.PKCS7KeyWrap) })
	if _, err := other.KWPMechanism(t.Context()); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a mechanism that is not AES-KWP: %v", err)
	}
	if can, err := other.CanGenerateWrapped(t.Context(), 32); err != nil || can {
		t.Errorf("%v, %v", can, err)
	}
}

// TestRFC5649 has the token unwrap the examples of RFC 5649 section 6 with the mechanism that it
// has proved.
func TestRFC5649(t *testing.T) {
	token := connect(t)
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	id := install(t, token, Wrap.Template(), unhex("5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"))
	for secret, wrapped := range map[string]string{
		"c37b7e6492584340bed12207808941155068f738": "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a",
		"466f7250617369": "afbeb0f07dfbf5419200f2ccb50bb24f",
	} {
		got, err := connection.Run(t.Context(), token.link, func(s *connection.Session) ([]byte, error) {
			h, err := s.Lookup(id)
			if err != nil {
				return nil, err
			}
			mechanism, err := s.KWP()
			if err != nil {
				return nil, err
			}
			return s.UnwrapSecret([]uint{mechanism}, h, unhex(wrapped), len(secret)/2)
		})
		if err != nil || hex.EncodeToString(got) != secret {
			t.Errorf("%x, %v, want %s", got, err, secret)
		}
	}
}

// TestWaysOutAreFound: a token from which keys can be taken fails the self-test, and so does one of
// which that can't be decided.
func TestWaysOutAreFound(t *testing.T) {
	for name, tell := range map[string]func(*faults.Module){
		"wraps what is not extractable": func(m *faults.Module) { m.WrapNotExtractable(pkcs11.CKM_AES_KEY_WRAP_PAD) },
		"wraps under another mechanism": func(m *faults.Module) { m.WrapNotExtractable(pkcs11.CKM_AES_KEY_WRAP) },
		"wraps under a public key":      func(m *faults.Module) { m.WrapNotExtractable(pkcs11.CKM_RSA_PKCS) },
		"weak copies":                   (*faults.Module).WeakCopies,
		"undecided wrap":                func(m *faults.Module) { m.Fail("C_WrapKey", pkcs11.CKR_GENERAL_ERROR) },
		"undecided copy":                func(m *faults.Module) { m.Fail("C_CopyObject", pkcs11.CKR_FUNCTION_FAILED) },
	} {
		token, _ := misbehaving(t, tell)
		if got := failing(t, token); !slices.Contains(got, selftest.CheckHidden) {
			t.Errorf("%s: the self-test fails in %q only", name, got)
		}
	}
}

// TestSizesOfDataKeys: a token that refuses odd sizes keeps the promise for the others.
func TestSizesOfDataKeys(t *testing.T) {
	token, _ := misbehaving(t, func(m *faults.Module) { m.RefuseWrapSizes(1, 31, 64, 1024) })
	wantFailing(t, token, selftest.CheckDataKey64)
	for size, want := range map[int]bool{0: false, 1: false, 16: true, 24: true, 31: false, 32: true, 64: false,
		1024: false, 1025: false} {
		for range 2 { // asked, and remembered
			if can, err := token.CanGenerateWrapped(t.Context(), size); err != nil || can != want {
				t.Errorf("%d bytes: %v, %v", size, can, err)
			}
		}
	}
}

// TestSelfTestsFailAlone has one function answer CKR_DEVICE_ERROR.
func TestSelfTestsFailAlone(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {})
	m.Fail("C_DeriveKey", pkcs11.CKR_DEVICE_ERROR)
	wantFailing(t, token, selftest.CheckECDHP256, selftest.CheckECDHP384, selftest.CheckECDHP521)
	if s := token.Stats(); s.Connections != 1 {
		t.Errorf("%d connections", s.Connections)
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

func TestForcedExtractable(t *testing.T) {
	token, _ := misbehaving(t, (*faults.Module).ForceExtractable)
	got := failing(t, token)
	for _, want := range []string{selftest.CheckImportAESSHA1, selftest.CheckImportMACSHA1, selftest.CheckInside} {
		if !slices.Contains(got, want) {
			t.Errorf("%s passes", want)
		}
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
	wantFailing(t, token, selftest.CheckObjects)
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

func TestAbsentAttributes(t *testing.T) {
	token, m := misbehaving(t, func(*faults.Module) {})
	p := newPair(t, token)
	m.HideAttributes(pkcs11.CKA_KEY_GEN_MECHANISM)
	a, err := token.Attributes(t.Context(), p.Seal)
	if err != nil || a.Mechanism != "" || !a.Sensitive || a.KeyType != "CKK_AES" {
		t.Errorf("%+v, %v", a, err)
	}
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

// TestVendors imitates the restrictions of vendors' tokens, with the profile that they are
// recognised by or with none.
func TestVendors(t *testing.T) {
	noECDH := []string{selftest.CheckECDHP256, selftest.CheckECDHP384, selftest.CheckECDHP521}
	for name, test := range map[string]struct {
		vendor  faults.Vendor
		Profile string
		failing []string
	}{
		"CloudHSM":      {faults.CloudHSM, "cloudhsm", noECDH},
		"ProtectServer": {faults.ProtectServer, "", nil},
		"EP11":          {faults.EP11, "", []string{selftest.CheckInside}},
	} {
		t.Run(name, func(t *testing.T) {
			token, _ := misbehaving(
				t, func(m *faults.Module) { m.Imitate(test.vendor) },
				func(c *Config) { c.Profile = test.Profile },
			)
			wantFailing(t, token, test.failing...)
			p := newPair(t, token)
			box, err := token.GenerateWrapped(t.Context(), p, 32, []byte("aad"))
			if err != nil {
				t.Fatal(err)
			}
			if secret, err := token.DecryptWrapped(t.Context(), p, box, 32, []byte("aad")); err != nil ||
				len(secret) != 32 {
				t.Errorf("%d bytes, %v", len(secret), err)
			}
		})
	}
	for name, vendor := range map[string]faults.Vendor{"YubiHSM 2": faults.YubiHSM, "opencryptoki": faults.OpenCryptoki,
		"Luna in FIPS mode": faults.LunaFIPS} {
		token, _ := misbehaving(t, func(m *faults.Module) { m.Imitate(vendor) })
		if got := failing(t, token); !slices.Contains(got, selftest.CheckSeal) {
			t.Errorf("%s: the self-test fails in %q", name, got)
		}
	}
}

// TestHealsByFinalize has a module that is of no use after a loss until it is finalised, under load.
func TestHealsByFinalize(t *testing.T) {
	for _, rv := range []uint{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED} {
		changes := make(chan error, 100)
		token, m := misbehaving(
			t, func(m *faults.Module) { m.HealOnlyByFinalize(rv) },
			func(c *Config) { c.OnChange = func(err error) { changes <- err } },
		)
		p := newPair(t, token)
		<-changes
		for range 3 {
			m.Unplug()
			if err := token.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			if err := <-changes; err == nil {
				t.Fatal("connected before it was lost")
			}
			m.Plug()
			if err := <-changes; err != nil {
				t.Fatal(err)
			}
			if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
				t.Errorf("%#x: %v", rv, err)
			}
		}
		if n := token.Stats().Reinitializations; n < 3 {
			t.Errorf("%#x: %d initialisations", rv, n)
		}
	}
}

// TestGivesUp has a call that never comes back keep the module from being finalised.
func TestGivesUp(t *testing.T) {
	given := make(chan error, 1)
	token, m := misbehaving(
		t,
		func(m *faults.Module) { m.HealOnlyByFinalize(pkcs11.CKR_DEVICE_ERROR) },
		func(c *Config) {
			c.CallTimeout, c.GiveUpAfter = 100*time.Millisecond, time.Millisecond
			c.OnGiveUp = func(err error) {
				select {
				case given <- err:
				default:
				}
			}
		},
	)
	m.Hang("C_GenerateRandom", faults.Times(1))
	if err := token.Ping(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	m.Unplug()
	if err := token.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if err := <-given; !errors.Is(err, ErrGivenUp) {
		t.Error(err)
	}
	m.Plug()
}

// TestHostileNumbers opens a token that reports the largest numbers there are.
func TestHostileNumbers(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, math.MaxUint64, math.MaxUint64 - 1, 1 << 63, 1 << 32, math.MaxInt64} {
		token, _ := misbehaving(t, func(m *faults.Module) {
			for _, f := range []faults.Field{faults.MaxSessions, faults.Sessions, faults.MaxRWSessions,
				faults.RWSessions, faults.MaxPIN,
				faults.MinPIN, faults.TotalPrivate, faults.FreePrivate} {
				m.Lie("C_GetTokenInfo", f, n)
			}
		})
		if err := token.Ping(t.Context()); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// TestProfileThatIsWrong has a token whose profile is another's: what it does is proved, and so it
// seals and opens.
func TestProfileThatIsWrong(t *testing.T) {
	for _, name := range []string{"cloudhsm", "luna-fips"} {
		token := connect(t, func(c *Config) { c.Profile = name })
		p := newPair(t, token)
		box, err := token.GenerateWrapped(t.Context(), p, 32, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if secret, err := token.DecryptWrapped(t.Context(), p, box, 32, nil); err != nil || len(secret) != 32 {
			t.Errorf("%s: %d bytes, %v", name, len(secret), err)
		}
	}
}
