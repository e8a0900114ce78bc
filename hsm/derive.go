package hsm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/verenc/kms/hsm/connection"
)

// Derive gives the shared secret Z of a DerivePair's private key and a peer's public key: ECC CDH,
// NIST SP 800-56A section 5.7.1.2, the x-coordinate in 32, 48 or 66 bytes. peer is an uncompressed
// point, 04 | X | Y, on the key's curve. The caller clears Z.
func (t *Token) Derive(ctx context.Context, key Key, kt KeyType, peer []byte) (z []byte, err error) {
	k, err := kt.Known()
	if err == nil && k.NIST() == nil {
		err = fmt.Errorf("%s keys agree on nothing", kt)
	}
	if err == nil {
		err = k.CheckPoint(peer) // a point off the curve may give the private key away
	}
	if err != nil {
		return nil, fmt.Errorf("derive: %w", err)
	}
	peer = bytes.Clone(peer)
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.Derive(h, k, peer)
	})
}

// Decapsulate gives the shared secret of 32 bytes that is encapsulated in an ML-KEM ciphertext
// (FIPS 203 section 7.3). A ciphertext of another key, or one that was changed, gives another
// secret and no error. The caller clears it.
func (t *Token) Decapsulate(ctx context.Context, key Key, kt KeyType, ciphertext []byte) (secret []byte, err error) {
	k, err := kt.Known()
	switch {
	case err != nil:
	case !k.MLKEM():
		err = fmt.Errorf("a %s key has nothing encapsulated", kt)
	case len(ciphertext) != k.Output:
		err = fmt.Errorf("%w: a ciphertext of %d bytes for %s", ErrAuthentication, len(ciphertext), kt)
	}
	if err != nil {
		return nil, fmt.Errorf("decapsulate: %w", err)
	}
	ciphertext = bytes.Clone(ciphertext)
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.Decapsulate(h, ciphertext)
	})
}
