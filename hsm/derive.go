package hsm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/miekg/pkcs11"
)

// Derive gives the shared secret Z of a DerivePair's private key and a peer's public key: ECC CDH, NIST SP 800-56A section
// 5.7.1.2, the x-coordinate in 32, 48 or 66 bytes. peer is an uncompressed point, 04 | X | Y, on the key's curve. The
// caller clears Z.
func (t *Token) Derive(ctx context.Context, key Key, kt KeyType, peer []byte) (z []byte, err error) {
	k, err := kt.known()
	if err == nil && k.nist() == nil {
		err = fmt.Errorf("%s keys agree on nothing", kt)
	}
	if err == nil {
		err = k.checkPoint(peer) // a point off the curve may give the private key away
	}
	if err != nil {
		return nil, fmt.Errorf("derive: %w", err)
	}
	peer = bytes.Clone(peer)
	return run(ctx, t, func(s *session) ([]byte, error) {
		h, err := s.lookup(key)
		if err != nil {
			return nil, err
		}
		return s.derive(h, k, peer)
	})
}

// derive reads Z through a session object.
func (s *session) derive(private pkcs11.ObjectHandle, k *keyType, peer []byte) ([]byte, error) {
	h, err := s.deriveECDH(private, pkcs11.CKD_NULL, peer,
		append(readableSecret(), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, k.size)))
	if err != nil {
		return nil, err
	}
	z, err := s.readOnce(h, k.size)
	if err == nil && len(z) != k.size {
		err = fmt.Errorf("C_DeriveKey: %d bytes instead of %d", len(z), k.size)
	}
	return z, err
}
