package hsm

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/session"
)

// MAC gives the HMAC of a message, as long as the hash: SHA-224, SHA-256, SHA-384 or SHA-512.
// Whoever verifies one compares in constant time.
func (t *Token) MAC(ctx context.Context, key Key, hash crypto.Hash, message []byte) ([]byte, error) {
	if !session.HasMAC(hash) {
		return nil, fmt.Errorf("MAC: no HMAC with %v", hash)
	}
	message = bytes.Clone(message)
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.MAC(h, hash, message)
	})
}
