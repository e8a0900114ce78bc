package hsm

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm/connection"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// Sign signs with a SignPair's private key. message is the digest of the scheme's hash, or for
// PureEdDSA and MLDSA the message itself, or μ. The signature of RSA is as long as its modulus,
// that of Ed25519 has 64 bytes, that of ML-DSA 2,420, 3,309 or 4,627.
func (t *Token) Sign(ctx context.Context, key Key, kt KeyType, s Scheme, message []byte) ([]byte, error) {
	call, err := s.Call(kt, message)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if s.Algorithm == HashEdDSA {
		if err := t.supportsEd25519ph(ctx); err != nil {
			return nil, err
		}
	}
	return connection.Run(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.Sign(h, call)
	})
}

// supportsEd25519ph gives ErrUnsupported if the token signs plain Ed25519 instead.
func (t *Token) supportsEd25519ph(ctx context.Context) error {
	ignored, err := connection.Run(
		ctx, t.link, func(s *connection.Session) (bool, error) { return s.IgnoresEd25519ph() },
	)
	if err == nil && ignored {
		err = fmt.Errorf("%w: it takes Ed25519ph for Ed25519", ErrUnsupported)
	}
	return err
}

// VerifyMu reports whether an ML-DSA signature is good for a message representative μ of 64 bytes.
// All other signatures are verified on the host by a library; no library takes μ, so the token
// verifies it, with a session object of the public key in spki. A token without
// CKM_ML_DSA_EXTERNAL_MU gives ErrUnsupported.
func (t *Token) VerifyMu(ctx context.Context, kt KeyType, spki, mu, signature []byte) (bool, error) {
	k, err := kt.Known()
	var info keyobject.SubjectPublicKeyInfo
	if err == nil {
		info, err = keyobject.ParsePublicKeyInfo(spki)
	}
	switch {
	case err != nil:
	case !k.MLDSA() || !info.Algorithm.Algorithm.Equal(k.Algorithm):
		err = fmt.Errorf("%v is no ML-DSA key of type %s", info.Algorithm.Algorithm, kt)
	case len(mu) != session.MuSize:
		err = fmt.Errorf("a representative of %d bytes", len(mu))
	}
	if err != nil {
		return false, fmt.Errorf("verify: %w", err)
	}
	if len(signature) != k.Output {
		return false, nil
	}
	public := keyobject.VerifierTemplate(k, bytes.Clone(info.PublicKey.Bytes))
	mu, signature = bytes.Clone(mu), bytes.Clone(signature)
	return connection.Run(ctx, t.link, func(s *connection.Session) (_ bool, err error) {
		h, err := s.Create(public)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, s.Destroy(h)) }()
		return s.Verify(keyobject.CKMMLDSAExternalMu, h, mu, signature)
	})
}

// MAC gives the HMAC of a message, as long as the hash: SHA-224, SHA-256, SHA-384 or SHA-512.
// A caller that verifies one must compare in constant time.
func (t *Token) MAC(ctx context.Context, key Key, hash crypto.Hash, message []byte) ([]byte, error) {
	if !session.HasMAC(hash) {
		return nil, fmt.Errorf("MAC: no HMAC with %v", hash)
	}
	message = bytes.Clone(message)
	return connection.RunInTurn(ctx, t.link, func(s *connection.Session) ([]byte, error) {
		h, err := s.Lookup(key)
		if err != nil {
			return nil, err
		}
		return s.MAC(h, hash, message)
	})
}
