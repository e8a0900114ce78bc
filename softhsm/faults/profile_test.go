package faults_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm/faults"
)

// TestTokensOwnIVs decrypts outside of the token what was encrypted with the token's own IVs.
func TestTokensOwnIVs(t *testing.T) {
	for name, test := range map[string]struct {
		profile string
		ivs     faults.IVs
	}{
		"offered":      {"", faults.TokenIVs},
		"told":         {"cloudhsm", faults.TokenIVs},
		"insisted on":  {"cloudhsm", faults.TokenIVsOnly},
		"not expected": {"", faults.TokenIVsOnly},
	} {
		token, m := connect(t, func(c *hsm.Config) { c.Profile = test.profile })
		p := newPair(t, token)
		m.OwnIVs(test.ivs)
		boxes := map[string]bool{}
		for range 3 {
			box, err := token.Encrypt(t.Context(), p.Seal, []byte("plaintext"), []byte("aad"))
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got, err := token.Decrypt(t.Context(), p.Seal, box, []byte("aad")); err != nil ||
				string(got) != "plaintext" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			if _, err := token.Decrypt(t.Context(), p.Seal, box, []byte("other")); !errors.Is(err,
				hsm.ErrAuthentication) {
				t.Errorf("%s: other aad: %v", name, err)
			}
			if boxes[string(box[:12])] {
				t.Errorf("%s: an IV came twice", name)
			}
			boxes[string(box[:12])] = true
		}
	}
}

// newWrapping makes a key pair for imports, and gives what encrypts to it with OAEP and SHA-1.
func newWrapping(t *testing.T, token *hsm.Token, id hsm.ObjectID) (wrap func(material []byte) []byte) {
	t.Helper()
	spki, err := token.GenerateKeyPair(t.Context(), hsm.KeyPair{ID: id, Type: hsm.RSA2048, Purpose: hsm.UnwrapPair})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		t.Fatal(err)
	}
	return func(material []byte) []byte {
		t.Helper()
		wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
		if err != nil {
			t.Fatal(err)
		}
		return wrapped
	}
}

// TestCheckValueUnderTokensIVs imports the same material twice.
func TestCheckValueUnderTokensIVs(t *testing.T) {
	token, m := connect(t, func(c *hsm.Config) { c.Profile = "cloudhsm" })
	m.OwnIVs(faults.TokenIVsOnly)
	wrapping := newID(t)
	var values [][]byte
	wrap := newWrapping(t, token, wrapping)
	for range 2 {
		wrapped := wrap(bytes.Repeat([]byte{7}, 32))
		done, err := token.Import(t.Context(),
			hsm.Import{Wrapping: wrapping, WrappingType: hsm.RSA2048, Algorithm: hsm.OAEPSHA1, Wrapped: wrapped,
				Secret: &hsm.SecretKey{ID: newID(t), Purpose: hsm.Seal}})
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, done.CheckValue)
	}
	if !bytes.Equal(values[0], values[1]) || len(values[0]) != 32 {
		t.Errorf("%x", values)
	}
}

// TestOmittedAttributes looks at the templates that reach the token.
func TestOmittedAttributes(t *testing.T) {
	for profile, want := range map[string]bool{"": true, "cloudhsm": false} {
		token, m := connect(t, func(c *hsm.Config) { c.Profile = profile })
		if err := m.Record(); err != nil {
			t.Fatal(err)
		}
		newPair(t, token)
		if _, err := token.GenerateKeyPair(t.Context(),
			hsm.KeyPair{ID: newID(t), Type: hsm.P256, Purpose: hsm.SignPair}); err != nil {
			t.Fatal(err)
		}
		calls, err := m.Recorded()
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, c := range calls {
			if c.Function != "C_GenerateKey" && c.Function != "C_GenerateKeyPair" {
				continue
			}
			seen++
			_, modifiable := c.Template[pkcs11.CKA_MODIFIABLE]
			_, recovers := c.Template[pkcs11.CKA_SIGN_RECOVER]
			if modifiable != want || recovers != (want && c.Function == "C_GenerateKeyPair") {
				t.Errorf("%q: %s has CKA_MODIFIABLE: %v, CKA_SIGN_RECOVER: %v", profile, c.Function,
					modifiable, recovers)
			}
		}
		if seen != 3 {
			t.Errorf("%q: %d keys", profile, seen)
		}
	}
}
