package selftest

import (
	"crypto/hmac"
	"errors"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// testMAC compares with crypto/hmac, under a key that both know.
func testMAC(name string, p keyobject.Purpose) Test {
	return Test{name, "MACs of " + p.Hash().String(), optional, func(s *session.Session, _ *Keys) error {
		if _, err := s.GenerateTestKey(p); err != nil {
			return err
		}
		h, err := s.Generate(p.Mechanism(), append(keyobject.ReadableSecret(),
			pkcs11.NewAttribute(pkcs11.CKA_SIGN, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.Size())))
		if err != nil {
			return err
		}
		key, err := s.Value(h, p.Size())
		if err != nil {
			return err
		}
		message := []byte("message")
		got, err := s.MAC(h, p.Hash(), message)
		if err != nil {
			return err
		}
		reference := hmac.New(p.Hash().New, key)
		reference.Write(message)
		if !hmac.Equal(got, reference.Sum(nil)) {
			return errors.New("another MAC than the host's")
		}
		return nil
	}}
}
