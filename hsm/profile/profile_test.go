package profile

import (
	"slices"
	"testing"

	"github.com/miekg/pkcs11"
)

func TestProfiles(t *testing.T) {
	names := Names()
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
		if p := Of(pkcs11.TokenInfo{ManufacturerID: test.manufacturer, Model: test.model}); p.name != test.want {
			t.Errorf("%q, %q: %s", test.manufacturer, test.model, p.name)
		}
	}
	for _, p := range profiles {
		if named, err := Named(p.name); err != nil || named != p {
			t.Errorf("%s: %v, %v", p.name, named, err)
		}
	}
	if _, err := Named("luna7"); err == nil {
		t.Error("an unknown profile")
	}
}
