package pkcs11uri

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Key{
		"pkcs11:object=tls": {Object: "tls"},
		"PKCS11:object=tls": {Object: "tls"},
		"pkcs11:token=The%20Software%20Token;object=a%2fb": {Token: "The Software Token", Object: "a/b"},
		"pkcs11:id=%01%ff;type=private;serial=00af":        {ID: "\x01\xff", Serial: "00af"},
		"pkcs11:model=m;manufacturer=Snake+Oil;object=a=&": {Model: "m", Manufacturer: "Snake+Oil", Object: "a=&"},
	} {
		got, err := Parse(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s: %+v, %v", text, got, again, err)
		}
	}
}

// TestRefused: each error says what is wrong, and that of a PIN does not repeat it.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                                           "does not begin with pkcs11:",
		"file:tls.key":                               "does not begin with pkcs11:",
		"pkcs11:":                                    `"" is no attribute`,
		"pkcs11:token=kms":                           "names no key",
		"pkcs11:object=tls;":                         `"" is no attribute`,
		"pkcs11:object=":                             "object: it is empty",
		"pkcs11:object":                              `"object" is no attribute`,
		"pkcs11:Object=tls":                          `"Object" is no attribute`,
		"pkcs11:object=a;object=b":                   "object is repeated",
		"pkcs11:object=a b":                          "must be written as %20",
		"pkcs11:object=a/b":                          "must be written as %2F",
		"pkcs11:object=\u00e9":                       "must be written as %C3",
		"pkcs11:object=%2":                           "two hexadecimal digits",
		"pkcs11:object=%":                            "two hexadecimal digits",
		"pkcs11:object=%g0":                          "two hexadecimal digits",
		"pkcs11:object=%-1":                          "two hexadecimal digits",
		"pkcs11:object=tls;type=cert":                "not private",
		"pkcs11:object=tls;slot-id=1":                "slots are numbered anew",
		"pkcs11:object=tls;x-vendor=1":               `"x-vendor" is no attribute`,
		"pkcs11:object=tls?pin-value=1234":           "token.pin_file",
		"pkcs11:object=tls;pin-value=1234":           "token.pin_file",
		"pkcs11:object=tls?a=b&pin-source=x":         "token.pin_file",
		"pkcs11:object=tls?module-path=/m":           "token.module",
		"pkcs11:object=tls?":                         "attributes after ?",
		"pkcs11:object=" + strings.Repeat("a", 3000): "more than 2048 bytes",
	} {
		_, err := Parse(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: %v, not %q", text, err, want)
		}
	}
}

// FuzzParse: what is accepted has one meaning, which survives being written and read again.
func FuzzParse(f *testing.F) {
	f.Add("pkcs11:token=kms;object=verenc%2Ftls%2Fkms")
	f.Add("pkcs11:id=%00%ff;type=private;serial=1")
	f.Add("pkcs11:object=a?pin-value=1234")
	f.Add("pkcs11:object=%;object=b")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := Parse(text)
		if err != nil {
			return
		}
		if k.Object == "" && k.ID == "" {
			t.Fatalf("%q names no key", text)
		}
		if again, err := Parse(k.String()); err != nil || again != k {
			t.Fatalf("%q is written as %s: %+v, %v", text, k, again, err)
		}
	})
}
