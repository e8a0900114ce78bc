package hsm

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// exportedPair is a key pair that leaves the token.
type exportedPair struct {
	spki    []byte
	private []byte // PKCS#8, to be cleared by whoever takes it
}

// GenerateExportedPair generates a key pair in the token and gives both halves in clear: the DER SubjectPublicKeyInfo,
// and the private key's PKCS#8, which the caller clears. It is read through a throw-away wrap key, since a sensitive object
// gives out no value. Deadline and ErrUnsupported are those of GenerateWrappedPair.
func (t *Token) GenerateExportedPair(ctx context.Context, kt KeyType) (spki, pkcs8 []byte, err error) {
	k, err := kt.known()
	if err != nil {
		return nil, nil, fmt.Errorf("generate exported key pair: %w", err)
	}
	p, err := runGenerate(ctx, t, func(s *session) (p exportedPair, err error) {
		wrapping, err := s.generate(pkcs11.CKM_AES_KEY_GEN, append(Wrap.template(),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, aesKeySize), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
		if err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, s.destroy(wrapping)) }()
		spki, wrapped, err := s.generateWrappedPair(wrapping, k)
		if err != nil {
			return p, err
		}
		mechanism, err := s.kwp() // that wrapped it
		if err != nil {
			return p, err
		}
		private, err := s.unwrapDER([]uint{mechanism}, wrapping, wrapped)
		return exportedPair{spki, private}, err
	})
	return p.spki, p.private, err
}
