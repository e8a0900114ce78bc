package selftest

import (
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// Label is the CKA_LABEL of the token objects that self-tests make and destroy again.
const Label = "verenc/self-test"

// LeftOverAfter is the age at which such an object is surely left over, by a process that was killed or a token
// that was lost: a self-test takes less than a minute, and its own deadline is 30 s. Until then it may be that of
// another server.
const LeftOverAfter = 10 * time.Minute

// generateTokenKey makes an AES key that is a token object, under a new id, which has the time in it (RFC 9562,
// UUID version 7): a token does not tell how old an object is.
func generateTokenKey(s *session.Session) (id keyobject.ID, h pkcs11.ObjectHandle, err error) {
	drawn, err := uuid.NewV7FromReader(s.Rand)
	if err != nil {
		return id, 0, fmt.Errorf("draw an object id: %w", err)
	}
	id = keyobject.ID(drawn)
	template := append(keyobject.Secret{ID: id, Label: Label, Purpose: keyobject.Seal}.Template(),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keyobject.AESKeySize))
	h, err = s.Generate(keyobject.Seal.Mechanism(), template)
	return id, h, err
}

// destroyLeftovers destroys what self-tests that were broken off have left in the token.
func destroyLeftovers(s *session.Session) error {
	handles, err := s.Search([]*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, Label),
	})
	if err != nil {
		return err
	}
	for _, h := range handles {
		values, err := s.Attributes(h, pkcs11.CKA_ID)
		if err == nil && isLeftOver(values[0], time.Now()) {
			err = s.Destroy(h)
		}
		if err != nil && !ckr.Has(err, pkcs11.CKR_OBJECT_HANDLE_INVALID) { // another server has destroyed it
			return err
		}
	}
	return nil
}

// isLeftOver tells it by an object's CKA_ID. Earlier versions had ids without a time.
func isLeftOver(id []byte, now time.Time) bool {
	u, err := uuid.FromBytes(id)
	if err != nil || u.Version() != 7 {
		return true
	}
	return now.Sub(time.Unix(u.Time().UnixTime())) > LeftOverAfter
}
