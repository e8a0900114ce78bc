package hsm

import (
	"bytes"
	"context"

	"github.com/verenc/kms/hsm/connection"
)

// Import unwraps key material into a token object: sensitive, not extractable, not modifiable,
// which is verified of every object. Material that can't be unwrapped gives ErrAuthentication;
// unwrapped material of a wrong size, type or curve gives ErrMaterial.
//
// Secrets and RSA pairs are unwrapped in the token and are in no other memory. These are in this
// process's memory once, which is cleared:
//   - private keys of the curves, always: a token does not give the public point of a private key,
//     and SoftHSM unwraps no Ed25519 key,
//   - secrets, and the AES key of RSAAESKeyWrap, with SHA-256 on tokens that refuse OAEP with it (see
//     DecryptOAEP), and on tokens that don't tell the length of an unwrapped secret (SoftHSM).
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
