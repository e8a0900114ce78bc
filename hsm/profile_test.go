package hsm

import (
	"slices"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
)

func TestProfiles(t *testing.T) {
	names := Profiles()
	if slices.Sort(names); len(slices.Compact(slices.Clone(names))) != len(profiles) {
		t.Errorf("a name is there twice: %v", names)
	}
	for _, test := range []struct{ manufacturer, model, want string }{
		{"SoftHSM project", "SoftHSM v2", "softhsm"},
		{"SafeNet", "LunaSA 7.4", "luna"},
		{"nCipher Corp. Ltd", "", "nshield"},
		{"Marvell Semiconductors, Inc.", "NITROX-III CNN35XX-NFBE", "cloudhsm"},
		{"Utimaco IS GmbH", "CryptoServer", "utimaco"},
		{"Yubico (www.yubico.com)", "YubiHSM", "yubihsm2"},
		{"Yubico (www.yubico.com)", "YubiKey YK5", "standard"},
		{"SafeNet, Inc.", "eToken", "standard"},
		{"", "", "standard"},
	} {
		if p := profileOf(pkcs11.TokenInfo{ManufacturerID: test.manufacturer, Model: test.model}); p.name != test.want {
			t.Errorf("%q, %q: %s", test.manufacturer, test.model, p.name)
		}
	}
	for _, p := range profiles {
		if named, err := profileNamed(p.name); err != nil || named != p {
			t.Errorf("%s: %v, %v", p.name, named, err)
		}
	}
	soft := softhsm.New(t)
	if _, err := Open(t.Context(), Config{Module: soft.Module, Serial: soft.Serial, PIN: soft.PIN, Profile: "luna7"}); err == nil {
		t.Error("an unknown profile")
	}
}

// TestProfileThatIsWrong has a token whose profile is another's: what it does is proved, and so it seals and opens.
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
