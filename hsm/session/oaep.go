package session

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

// OAEPHashes are the hashes of RSAES-OAEP with the mechanisms of hash and MGF1.
var OAEPHashes = map[crypto.Hash]struct{ mechanism, mgf uint }{
	crypto.SHA1:   {pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1},
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
}

// HasOAEP tells whether hash is one of RSAES-OAEP here.
func HasOAEP(hash crypto.Hash) bool { return OAEPHashes[hash].mechanism != 0 }

// OAEPParams is a CK_RSA_PKCS_OAEP_PARAMS with an empty label.
func OAEPParams(hash crypto.Hash) []byte {
	h := OAEPHashes[hash]
	return cryptoki.Ulongs(h.mechanism, h.mgf, pkcs11.CKZ_DATA_SPECIFIED, 0, 0)
}

// OAEPDecrypter opens a ciphertext with a key.
type OAEPDecrypter func(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error)

// OAEPDecrypter chooses between the token's padding and ours.
func (s *Session) OAEPDecrypter(hash crypto.Hash) (OAEPDecrypter, error) {
	if hash == crypto.SHA256 {
		refused, err := s.refusesOAEPSHA256()
		if err != nil {
			return nil, err
		}
		if refused {
			return s.decryptRaw, nil
		}
	}
	return s.decryptOAEP, nil
}

// decryptOAEP has the token do it all.
func (s *Session) decryptOAEP(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	plaintext, _, err := s.once(
		cryptoki.Decrypt, pkcs11.CKM_RSA_PKCS_OAEP, OAEPParams(hash), h, ciphertext, len(ciphertext),
	)
	return plaintext, err
}

// decryptRaw has the token do the RSA operation.
func (s *Session) decryptRaw(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	em, _, err := s.once(cryptoki.Decrypt, pkcs11.CKM_RSA_X_509, nil, h, ciphertext, len(ciphertext))
	if err != nil {
		return nil, err
	}
	if len(em) != len(ciphertext) {
		clear(em)
		return nil, fmt.Errorf("C_Decrypt: %d bytes instead of %d", len(em), len(ciphertext))
	}
	message, ok := unpadOAEP(hash, em)
	if !ok {
		return nil, ckr.ErrAuthentication
	}
	return message, nil
}

// CheckedOAEP decrypts, and tells a bad ciphertext from a bad token: SoftHSM before 2.7.0 says
// CKR_GENERAL_ERROR for both. If the same operation opens what the host has just encrypted for the
// key, and then still not the ciphertext, the token is well and the ciphertext is not.
func (s *Session) CheckedOAEP(
	h pkcs11.ObjectHandle, k *keyobject.TypeInfo, hash crypto.Hash, ciphertext []byte, decrypt OAEPDecrypter,
) ([]byte, error) {
	plaintext, err := decrypt(h, hash, ciphertext)
	if err == nil || !ambiguous(err) || !s.LoggedIn() {
		return plaintext, err
	}
	want := []byte{0x5a}
	test, probe := s.EncryptOAEP(h, k, hash, want)
	if probe == nil {
		var got []byte
		if got, probe = decrypt(h, hash, test); probe == nil && bytes.Equal(got, want) {
			if plaintext, err = decrypt(h, hash, ciphertext); ambiguous(err) {
				err = fmt.Errorf("%w: %w", ckr.ErrAuthentication, err)
			}
			return plaintext, err
		}
	}
	return nil, unexplained(err, probe)
}

// unexplained is for an error that a probe could not say more of: what the probe found is no kind
// of the error's own, unless it is that the connection is lost.
func unexplained(err, probe error) error {
	if ckr.Lost(probe) {
		return errors.Join(err, probe)
	}
	return fmt.Errorf("%w (then %v)", err, probe)
}

// ambiguous tells of errors that a bad ciphertext and a bad token have in common.
func ambiguous(err error) bool {
	return ckr.Has(
		err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DATA_INVALID,
		pkcs11.CKR_ARGUMENTS_BAD,
	)
}

// EncryptOAEP encrypts on the host for a private key of the token.
func (s *Session) EncryptOAEP(
	h pkcs11.ObjectHandle, k *keyobject.TypeInfo, hash crypto.Hash, plaintext []byte,
) ([]byte, error) {
	public, err := s.rsaPublic(h, k)
	if err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(hash.New(), rand.Reader, public, plaintext, nil)
}

// refusesOAEPSHA256 tells whether the token refuses CKM_RSA_PKCS_OAEP with SHA-256. It is tried
// once a connection.
func (s *Session) refusesOAEPSHA256() (bool, error) { return s.refusesSHA256.get(s.findOAEP) }

// RefusesOAEPOf is refusesOAEPSHA256, tried with an RSA-2048 key that decrypts.
func (s *Session) RefusesOAEPOf(h pkcs11.ObjectHandle) (bool, error) {
	return s.refusesSHA256.get(func() (bool, error) { return s.refusesOAEP(h) })
}

// findOAEP tells whether the token refuses OAEP with SHA-256.
func (s *Session) findOAEP() (refused bool, err error) {
	h, _, err := s.GenerateTestPair(keyobject.RSA2048, keyobject.DecryptPair)
	if err != nil {
		return false, err
	}
	defer func() { _ = s.Destroy(h) }() // the session is closed when it fails
	return s.refusesOAEP(h)
}

// refusesOAEP tries OAEP with SHA-256 on an RSA-2048 key that decrypts. A refusal is a matter of
// C_DecryptInit, before the token has seen any ciphertext.
func (s *Session) refusesOAEP(h pkcs11.ObjectHandle) (bool, error) {
	want := []byte("RSAES-OAEP")
	ciphertext, err := s.EncryptOAEP(h, keyobject.RSA2048.Info(), crypto.SHA256, want)
	if err != nil {
		return false, err
	}
	got, started, err := s.once(
		cryptoki.Decrypt, pkcs11.CKM_RSA_PKCS_OAEP, OAEPParams(crypto.SHA256), h, ciphertext, len(ciphertext),
	)
	if !started &&
		ckr.Has(err, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_MECHANISM_INVALID) {
		return true, nil
	}
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("C_Decrypt: OAEP with SHA-256 gave another plaintext")
	}
	return false, err
}
