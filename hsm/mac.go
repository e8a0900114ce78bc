package hsm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// macs are the mechanisms of HMAC (RFC 2104) by hash.
var macs = map[crypto.Hash]uint{
	crypto.SHA224: pkcs11.CKM_SHA224_HMAC,
	crypto.SHA256: pkcs11.CKM_SHA256_HMAC,
	crypto.SHA384: pkcs11.CKM_SHA384_HMAC,
	crypto.SHA512: pkcs11.CKM_SHA512_HMAC,
}

// MAC gives the HMAC of a message, as long as the hash: SHA-224, SHA-256, SHA-384 or SHA-512. Whoever verifies one
// compares in constant time.
func (t *Token) MAC(ctx context.Context, key Key, hash crypto.Hash, message []byte) ([]byte, error) {
	if macs[hash] == 0 {
		return nil, fmt.Errorf("MAC: no HMAC with %v", hash)
	}
	message = bytes.Clone(message)
	return run(ctx, t, func(s *session) ([]byte, error) {
		h, err := s.lookup(key)
		if err != nil {
			return nil, err
		}
		return s.mac(h, hash, message)
	})
}

func (s *session) mac(h pkcs11.ObjectHandle, hash crypto.Hash, message []byte) ([]byte, error) {
	mac, _, err := s.once(cryptoki.Sign, macs[hash], nil, h, message, hash.Size())
	if err == nil && len(mac) != hash.Size() {
		err = fmt.Errorf("C_Sign: a MAC of %d bytes instead of %d", len(mac), hash.Size())
	}
	return mac, err
}
