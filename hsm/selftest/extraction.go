package selftest

import (
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// testHidden tries everything in PKCS#11 that might get a sensitive key that is not extractable out
// of the token: reading it, weakening it or a copy of it, and wrapping it with every mechanism that
// the token lists. A test that can't be decided is not passed.
func testHidden(s *session.Session, _ *Keys) error {
	for _, p := range []keyobject.Purpose{keyobject.Seal, keyobject.Wrap} {
		template := append(p.Template(), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, p.Size()))
		// The first is as the service's own keys are, but a session object; the second is
		// modifiable, since a token may refuse any change of a key that is not.
		for _, end := range [][]*pkcs11.Attribute{keyobject.SessionObject(),
			{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)}} {
			h, err := s.Generate(p.Mechanism(), append(slices.Clone(template), end...))
			if err != nil {
				return err
			}
			if err := staysPut(s, h); err != nil {
				return err
			}
		}
	}
	return nil
}

// staysPut tries all of it on one key.
func staysPut(s *session.Session, h pkcs11.ObjectHandle) error {
	for _, try := range []func(*session.Session, pkcs11.ObjectHandle) error{refusesRead, refusesWeakening,
		refusesWeakCopy, refusesWrap} {
		if err := try(s, h); err != nil {
			return err
		}
	}
	return nil
}

// refusesRead reports whether C_GetAttributeValue keeps a value.
func refusesRead(s *session.Session, h pkcs11.ObjectHandle) error {
	value, err := s.Value(h, keyobject.AESKeySize)
	switch {
	case err == nil && len(value) > 0:
		clear(value)
		return errors.New("CKA_VALUE of a sensitive key was given out: this token protects nothing")
	case err == nil, ckr.Has(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID):
		return nil
	}
	return undecided("read a sensitive key", err)
}

// weaknesses are changes that a token must refuse.
func weaknesses() [][]*pkcs11.Attribute {
	return [][]*pkcs11.Attribute{
		{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)},
		{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false)},
		{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)},
	}
}

// refusesWeakening tries C_SetAttributeValue. Not the answer counts, but the key's attributes
// afterwards.
func refusesWeakening(s *session.Session, h pkcs11.ObjectHandle) error {
	for _, weaker := range weaknesses() {
		if err := s.SetAttributes(h, weaker); ckr.Lost(err) {
			return err
		}
		if err := s.CheckNotExtractable(h); err != nil {
			return fmt.Errorf("C_SetAttributeValue: %w", err)
		}
	}
	return refusesRead(s, h)
}

// refusesWeakCopy tries C_CopyObject. A copy that is as strong as the key does no harm.
func refusesWeakCopy(s *session.Session, h pkcs11.ObjectHandle) error {
	for _, weaker := range weaknesses() {
		copied, err := s.CopyObject(h, append(weaker, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
		switch {
		case err == nil:
			err := errors.Join(s.CheckNotExtractable(copied), refusesRead(s, copied), s.Destroy(copied))
			if err != nil {
				return fmt.Errorf("C_CopyObject: %w", err)
			}
		case !ckr.Has(err, refusalsToCopy...):
			return undecided("copy a key with weaker attributes", err)
		}
	}
	return nil
}

// refusalsToCopy are the answers of PKCS#11 v3.1 section 5.7.2 that mean that there is no copy.
var refusalsToCopy = []pkcs11.Error{
	pkcs11.CKR_ACTION_PROHIBITED, pkcs11.CKR_ATTRIBUTE_READ_ONLY, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID,
	pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT, pkcs11.CKR_FUNCTION_NOT_SUPPORTED,
	pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
}

// refusesWrap tries every mechanism that wraps, with an AES key and with an RSA public key: whoever
// has a session can bring a public key of his own. A mechanism counts if it wraps an extractable
// key; then it must refuse the other key as unextractable.
func refusesWrap(s *session.Session, hidden pkcs11.ObjectHandle) error {
	mechanisms, err := wrapMechanisms(s)
	if err != nil {
		return err
	}
	extractable, err := s.Generate(
		pkcs11.CKM_AES_KEY_GEN, keyobject.WrappableTemplate(pkcs11.CKK_AES, keyobject.AESKeySize),
	)
	if err != nil {
		return err
	}
	wrappers, err := testWrappers(s)
	if err != nil {
		return err
	}
	for _, wrapper := range wrappers {
		for _, mechanism := range mechanisms {
			for _, params := range wrapParameters(mechanism) {
				if err := refusesWrapWith(s, wrapper, mechanism, params, extractable, hidden); err != nil {
					return fmt.Errorf("wrap with mechanism %#x: %w", mechanism, err)
				}
			}
		}
	}
	return nil
}

func refusesWrapWith(
	s *session.Session, wrapper pkcs11.ObjectHandle, mechanism uint, params []byte,
	extractable, hidden pkcs11.ObjectHandle,
) error {
	const room = 1024 // bytes; RSA-4096 gives 512
	_, err := s.WrapKey(mechanism, params, wrapper, extractable, room)
	switch {
	case err == nil:
	case ckr.Has(err, cannotWrap...):
		return nil // whatever it is for, not for these keys
	default:
		return undecided("wrap an extractable key", err)
	}
	_, err = s.WrapKey(mechanism, params, wrapper, hidden, room)
	switch {
	case err == nil:
		return errors.New("a key that is not extractable was wrapped: this token protects nothing")
	case ckr.Has(err, pkcs11.CKR_KEY_UNEXTRACTABLE, pkcs11.CKR_KEY_NOT_WRAPPABLE):
		return nil
	}
	return undecided("wrap a key that is not extractable", err)
}

// cannotWrap are the answers that mean that a mechanism does not fit the test's keys or parameters.
var cannotWrap = []pkcs11.Error{
	pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED,
	pkcs11.CKR_KEY_NOT_WRAPPABLE, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
	pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_WRAPPING_KEY_HANDLE_INVALID,
	pkcs11.CKR_WRAPPING_KEY_SIZE_RANGE, pkcs11.CKR_WRAPPING_KEY_TYPE_INCONSISTENT,
}

// wrapMechanisms gives the mechanisms that the token says can wrap, and those of AES-KWP in any case.
func wrapMechanisms(s *session.Session) ([]uint, error) {
	listed, err := s.Mechanisms()
	if err != nil {
		return nil, err
	}
	mechanisms := s.Profile.KWPCandidates()
	for _, m := range listed {
		flags, err := s.MechanismFlags(m)
		if ckr.Lost(err) {
			return nil, err
		}
		if (err != nil || flags&pkcs11.CKF_WRAP != 0) && !slices.Contains(mechanisms, m) {
			mechanisms = append(mechanisms, m)
		}
	}
	return mechanisms, nil
}

// testWrappers makes keys that wrap: an AES key, and an RSA public key if the token accepts one.
func testWrappers(s *session.Session) ([]pkcs11.ObjectHandle, error) {
	aes, err := s.GenerateTestKey(keyobject.Wrap)
	if err != nil {
		return nil, err
	}
	modulus := make([]byte, 256) // whose factors nobody needs to know
	if _, err := rand.Read(modulus); err != nil {
		return nil, err
	}
	modulus[0], modulus[255] = modulus[0]|0x80, modulus[255]|1
	public, err := s.Create([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_RSA),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, false),
		pkcs11.NewAttribute(pkcs11.CKA_WRAP, true),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_MODULUS, modulus),
		pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}),
	})
	if err != nil {
		if ckr.Lost(err) {
			return nil, err
		}
		return []pkcs11.ObjectHandle{aes}, nil // nobody else can bring one either
	}
	return []pkcs11.ObjectHandle{aes, public}, nil
}

// wrapParameters are the parameters to try for a mechanism: none, an IV of a block, and what RSA wants.
func wrapParameters(mechanism uint) [][]byte {
	switch mechanism {
	case pkcs11.CKM_RSA_PKCS_OAEP:
		var all [][]byte
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
			all = append(all, session.OAEPParams(hash))
		}
		return all
	case pkcs11.CKM_RSA_PKCS, pkcs11.CKM_RSA_X_509:
		return [][]byte{nil}
	}
	return [][]byte{nil, make([]byte, 16), make([]byte, 8)}
}

// undecided gives the error of a test that failed for another reason than what it tests.
func undecided(what string, err error) error {
	return fmt.Errorf("it can't be decided whether keys stay in the token: %s: %w", what, err)
}
