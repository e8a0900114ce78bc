package selftest

import (
	"bytes"
	"errors"

	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// secretTests are the self-tests of secret keys.
var secretTests = []Test{
	{CheckRandom, "everything", required, testRandom},
	{CheckObjects, "CreateKey, rotation, import", optional, testObjects},
	{CheckSeal, "encryption, data keys", required, testSeal},
	{CheckTamper, "decryption", required, testTamper},
	{CheckHidden, "everything", required, testHidden},
	{CheckKWP, "whatever is wrapped: data keys, key pairs, keys that are kept outside, import of private keys",
		optional, testKWP},
	testDataKey(CheckDataKey16, 16),
	testDataKey(CheckDataKey32, 32),
	testDataKey(CheckDataKey64, 64),
	{CheckInside, "keys that are kept outside of the token, wrapped (residency wrapped)", optional, testInside},
	testMAC(CheckMAC224, keyobject.MAC224),
	testMAC(CheckMAC256, keyobject.MAC256),
	testMAC(CheckMAC384, keyobject.MAC384),
	testMAC(CheckMAC512, keyobject.MAC512),
}

func testRandom(s *session.Session, _ *Keys) error {
	a, err := s.Random(32)
	if err != nil {
		return err
	}
	b, err := s.Random(32)
	if err == nil && bytes.Equal(a, b) {
		err = errors.New("it returned the same 32 bytes twice")
	}
	return err
}

// testObjects makes a token object. A token that is full or read-only fails it.
func testObjects(s *session.Session, _ *Keys) error {
	_ = destroyLeftovers(s) // which the next self-test tries again, and says nothing about the token
	_, h, err := generateTokenKey(s)
	if err != nil {
		return err
	}
	return errors.Join(s.CheckNotExtractable(h), s.Destroy(h))
}
