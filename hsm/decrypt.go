package hsm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/session"
)

// DecryptOAEP opens a ciphertext of RSAES-OAEP (RFC 8017 section 7.1) with a DecryptPair's private
// key: SHA-1 or SHA-256, MGF1 of the same hash, empty label. The caller clears the plaintext.
//
// A token that refuses SHA-256 there (SoftHSM 2.6.1 does, CKR_ARGUMENTS_BAD) does the RSA operation
// alone, CKM_RSA_X_509, and the padding is taken off here in constant time. A probe of the
// connection decides it, never a failure.
func (t *Token) DecryptOAEP(
	ctx context.Context, key Key, kt KeyType, hash crypto.Hash, ciphertext []byte,
) ([]byte, error) {
	k, err := kt.Known()
	if err == nil && (!k.RSA() || !session.HasOAEP(hash)) {
		err = fmt.Errorf("%s with %v", kt, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt with OAEP: %w", err)
	}
	if len(ciphertext) != k.Size {
		return nil, fmt.Errorf("%w: %d bytes for %s", ErrAuthentication, len(ciphertext), kt)
	}
	ciphertext = bytes.Clone(ciphertext)
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		decrypt, err := s.OAEPDecrypter(hash)
		if err != nil {
			return nil, err
		}
		return s.CheckedOAEP(h, k, hash, ciphertext, decrypt)
	})
}
