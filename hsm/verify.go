package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// VerifyMu tells whether an ML-DSA signature is good for a message representative μ of 64 bytes. All other signatures are
// verified on the host by a library; for μ there is none, and so the token does it, with a session object of the public key,
// whose SubjectPublicKeyInfo is given. A token without CKM_ML_DSA_EXTERNAL_MU gives ErrUnsupported.
func (t *Token) VerifyMu(ctx context.Context, kt KeyType, spki, mu, signature []byte) (bool, error) {
	k, err := kt.known()
	var info subjectPublicKeyInfo
	if err == nil {
		info, err = parsePublicKeyInfo(spki)
	}
	switch {
	case err != nil:
	case !k.mlDSA() || !info.Algorithm.Algorithm.Equal(k.algorithm):
		err = fmt.Errorf("%v is no ML-DSA key of type %s", info.Algorithm.Algorithm, kt)
	case len(mu) != muSize:
		err = fmt.Errorf("a representative of %d bytes", len(mu))
	}
	if err != nil {
		return false, fmt.Errorf("verify: %w", err)
	}
	if len(signature) != k.output {
		return false, nil
	}
	public := verifierTemplate(k, bytes.Clone(info.PublicKey.Bytes))
	mu, signature = bytes.Clone(mu), bytes.Clone(signature)
	return run(ctx, t, func(s *session) (_ bool, err error) {
		h, err := s.create(public)
		if err != nil {
			return false, err
		}
		defer func() { err = errors.Join(err, s.destroy(h)) }()
		return s.verify(ckmMLDSAExternalMu, h, mu, signature)
	})
}

// verifierTemplate is an ML-DSA public key that verifies.
func verifierTemplate(k *keyType, public []byte) []*pkcs11.Attribute {
	return append(publicTemplate(k), pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, public))
}

// verify is C_VerifyInit and C_Verify with a mechanism that has no parameter.
func (s *session) verify(mechanism uint, key pkcs11.ObjectHandle, message, signature []byte) (bool, error) {
	if err := s.step(); err != nil {
		return false, err
	}
	err := failed("C_Verify", s.lib.module.Verify(s.handle, mechanism, key, message, signature))
	if hasCode(err, pkcs11.CKR_SIGNATURE_INVALID, pkcs11.CKR_SIGNATURE_LEN_RANGE) {
		return false, nil
	}
	return err == nil, err
}
