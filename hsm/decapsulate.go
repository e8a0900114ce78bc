package hsm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

const sharedSecretSize = 32 // bytes; FIPS 203 section 7.3

// Decapsulate gives the shared secret of 32 bytes that is encapsulated in an ML-KEM ciphertext (FIPS 203 section 7.3). A
// ciphertext of another key, or one that was changed, gives another secret and no error. The caller clears it.
func (t *Token) Decapsulate(ctx context.Context, key Key, kt KeyType, ciphertext []byte) (secret []byte, err error) {
	k, err := kt.known()
	switch {
	case err != nil:
	case !k.mlKEM():
		err = fmt.Errorf("a %s key has nothing encapsulated", kt)
	case len(ciphertext) != k.output:
		err = fmt.Errorf("%w: a ciphertext of %d bytes for %s", ErrAuthentication, len(ciphertext), kt)
	}
	if err != nil {
		return nil, fmt.Errorf("decapsulate: %w", err)
	}
	ciphertext = bytes.Clone(ciphertext)
	return run(ctx, t, func(s *session) ([]byte, error) {
		h, err := s.lookup(key)
		if err != nil {
			return nil, err
		}
		return s.decapsulated(h, ciphertext)
	})
}

// decapsulated reads a shared secret through a session object.
func (s *session) decapsulated(private pkcs11.ObjectHandle, ciphertext []byte) ([]byte, error) {
	h, err := s.decapsulate(ckmMLKEM, private, ciphertext, append(readableSecret(), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, sharedSecretSize)))
	if err != nil {
		return nil, err
	}
	secret, err := s.readOnce(h, sharedSecretSize)
	if err == nil && len(secret) != sharedSecretSize {
		err = fmt.Errorf("C_DecapsulateKey: %d bytes instead of %d", len(secret), sharedSecretSize)
	}
	return secret, err
}
