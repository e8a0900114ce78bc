package hsm

import (
	"bytes"
	"context"

	"github.com/verenc/kms/hsm/connection"
)

// Import unwraps key material into a token object: sensitive, not extractable, not modifiable,
// which is verified of every object. What does not open gives ErrAuthentication; what opens and
// does not fit, by size, type or curve, ErrMaterial.
//
// Secrets, and RSA pairs, are unwrapped in the token and in no other memory. Elsewhere once, in
// this process's memory, which is cleared, are
//   - private keys of the curves, always: a token gives out the public point of no private key, and SoftHSM unwraps no
//     Ed25519 key,
//   - with SHA-256, on tokens that refuse OAEP with it (see DecryptOAEP): secrets, and the AES key of RSAAESKeyWrap,
//   - on tokens that don't tell the length of a secret that they have unwrapped (SoftHSM): the same, to be counted.
//
// CKM_RSA_AES_KEY_WRAP itself is not called; its two steps are.
func (t *Token) Import(ctx context.Context, in Import) (Imported, error) {
	if err := in.Check(); err != nil {
		return Imported{}, err
	}
	in.Wrapped = bytes.Clone(in.Wrapped)
	return connection.Run(ctx, t.link, func(s *connection.Session) (Imported, error) {
		wrapping, err := s.Lookup(in.Wrapping)
		if err != nil {
			return Imported{}, err
		}
		h, imported, err := s.Import(wrapping, in)
		if err != nil {
			return Imported{}, err
		}
		return imported, s.Remember(in.ID(), h)
	})
}
