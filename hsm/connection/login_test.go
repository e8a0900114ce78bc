package connection

import (
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
)

// TestErrorsNameThePIN: the error of a wrong PIN says where to correct it, and never what it is.
func TestErrorsNameThePIN(t *testing.T) {
	const file = "the file /etc/verenc/pin"
	login := func(rv pkcs11.Error) error { return ckr.Failed("C_Login", rv) }
	for _, test := range []struct {
		err  error
		want string
	}{
		{explainLogin(login(pkcs11.CKR_PIN_INCORRECT), file), "(correct the PIN in " + file + "; it is not tried again"},
		{explainLogin(login(pkcs11.CKR_PIN_INCORRECT), ""), "(correct the PIN; it is not tried again"},
		{explainLogin(login(pkcs11.CKR_PIN_LEN_RANGE), file), "token's PINs: correct the PIN in " + file + ")"},
		{explainLogin(login(pkcs11.CKR_PIN_LOCKED), file), "the user PIN is locked: reset it"},
		{checkPIN("1234 ", file), "blanks or line ends around it: correct it in " + file + " (it was not tried)"},
		{checkPIN("1234 ", ""), "blanks or line ends around it (it was not tried)"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) ||
			strings.Contains(test.err.Error(), "1234") {
			t.Errorf("got %v, want %q", test.err, test.want)
		}
	}
}
