package hsm

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/softhsm/faults"
)

// lacking is what SoftHSM 2.6.1 fails in.
var lacking = map[string]bool{
	selftest.CheckOAEPInToken: true, selftest.CheckEd25519ph: true,
	selftest.CheckWrappedEd25519: true, selftest.CheckSM2: true,
	selftest.CheckMLDSA44: true, selftest.CheckMLDSA65: true,
	selftest.CheckMLDSA87: true, selftest.CheckMLDSAMu: true,
	selftest.CheckMLKEM512: true, selftest.CheckMLKEM768: true,
	selftest.CheckMLKEM1024: true,
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

func TestSelfTest(t *testing.T) {
	token := connect(t)
	checks := token.SelfTest(t.Context())
	if len(checks) != 55 {
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

// TestBrokenOffSelfTest: a self-test destroys what earlier ones have left in the token, and not what is of one that
// may run on another server.
func TestBrokenOffSelfTest(t *testing.T) {
	token := connect(t)
	now := time.Now()
	made := func(at time.Time) (id ObjectID) {
		binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16|7<<12) // RFC 9562, version 7
		id[8] = 1 << 7
		return id
	}
	recent := made(now)
	for _, id := range []ObjectID{made(now.Add(-selftest.LeftOverAfter - time.Minute)), recent, {15: 1}} {
		key := SecretKey{ID: id, Label: selftest.Label, Purpose: Seal}
		if err := token.GenerateSecretKey(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	wantFailing(t, token)
	left, err := token.Objects(t.Context(), selftest.Label)
	if err != nil || len(left) != 1 || left[0].ID != recent {
		t.Errorf("left are %v, %v", left, err)
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

func TestForcedExtractable(t *testing.T) {
	token, _ := misbehaving(t, (*faults.Module).ForceExtractable)
	got := failing(t, token)
	for _, want := range []string{selftest.CheckImportAESSHA1, selftest.CheckImportMACSHA1, selftest.CheckInside} {
		if !slices.Contains(got, want) {
			t.Errorf("%s passes", want)
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

func BenchmarkSelfTest(b *testing.B) {
	token := connect(b)
	for b.Loop() {
		token.SelfTest(b.Context())
	}
}
