package session

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// oaepHashes are the hashes of RSAES-OAEP with the mechanisms of hash and MGF1.
var oaepHashes = map[crypto.Hash]struct{ mechanism, mgf uint }{
	crypto.SHA1:   {pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1},
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
}

// HasOAEP reports whether RSAES-OAEP with a hash is supported here.
func HasOAEP(hash crypto.Hash) bool { return oaepHashes[hash].mechanism != 0 }

// OAEPParams is a CK_RSA_PKCS_OAEP_PARAMS with an empty label.
func OAEPParams(hash crypto.Hash) []byte {
	h := oaepHashes[hash]
	return cryptoki.Ulongs(h.mechanism, h.mgf, pkcs11.CKZ_DATA_SPECIFIED, 0, 0)
}

// OAEPDecrypter opens a ciphertext with a key.
type OAEPDecrypter func(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error)

// OAEPDecrypter gives the token's own RSAES-OAEP, or its bare RSA operation with the padding
// removed here.
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

// decryptOAEP decrypts in the token.
func (s *Session) decryptOAEP(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	plaintext, _, err := s.operate(
		cryptoki.Decrypt, pkcs11.CKM_RSA_PKCS_OAEP, OAEPParams(hash), h, ciphertext, len(ciphertext),
	)
	return plaintext, err
}

// decryptRaw has the token do the RSA operation, and removes the padding here.
func (s *Session) decryptRaw(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	em, _, err := s.operate(cryptoki.Decrypt, pkcs11.CKM_RSA_X_509, nil, h, ciphertext, len(ciphertext))
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

// CheckedOAEP decrypts. SoftHSM before 2.7.0 answers CKR_GENERAL_ERROR to a wrong ciphertext, as a
// failing token does. So after such an error the key has to decrypt what the host has just
// encrypted: if it does, and fails for the ciphertext again, the ciphertext is wrong.
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

// unexplained gives an error whose cause a probe did not find. The probe's own error does not
// change its kind, unless the connection is lost.
func unexplained(err, probe error) error {
	if ckr.Lost(probe) {
		return errors.Join(err, probe)
	}
	return fmt.Errorf("%w (then %v)", err, probe)
}

// ambiguous reports whether an error may be that of a wrong ciphertext or that of a failing token.
func ambiguous(err error) bool {
	return ckr.Has(
		err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DATA_INVALID,
		pkcs11.CKR_ARGUMENTS_BAD,
	)
}

// EncryptOAEP encrypts on the host to a private key of the token.
func (s *Session) EncryptOAEP(
	h pkcs11.ObjectHandle, k *keyobject.TypeInfo, hash crypto.Hash, plaintext []byte,
) ([]byte, error) {
	public, err := s.rsaPublic(h, k)
	if err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(hash.New(), rand.Reader, public, plaintext, nil)
}

// refusesOAEPSHA256 reports whether the token refuses CKM_RSA_PKCS_OAEP with SHA-256. It is tried
// once for each connection.
func (s *Session) refusesOAEPSHA256() (bool, error) { return s.refusesSHA256.get(s.findOAEP) }

// RefusesOAEPOf is refusesOAEPSHA256, tried with an RSA-2048 key that decrypts.
func (s *Session) RefusesOAEPOf(h pkcs11.ObjectHandle) (bool, error) {
	return s.refusesSHA256.get(func() (bool, error) { return s.refusesOAEP(h) })
}

// findOAEP reports whether the token refuses OAEP with SHA-256.
func (s *Session) findOAEP() (refused bool, err error) {
	h, _, err := s.GenerateTestPair(keyobject.RSA2048, keyobject.DecryptPair)
	if err != nil {
		return false, err
	}
	defer func() { _ = s.Destroy(h) }() // the session is closed when it fails
	return s.refusesOAEP(h)
}

// refusesOAEP tries OAEP with SHA-256 on an RSA-2048 key that decrypts. The token refuses in
// C_DecryptInit, before it has seen a ciphertext.
func (s *Session) refusesOAEP(h pkcs11.ObjectHandle) (bool, error) {
	want := []byte("RSAES-OAEP")
	ciphertext, err := s.EncryptOAEP(h, keyobject.RSA2048.Info(), crypto.SHA256, want)
	if err != nil {
		return false, err
	}
	got, started, err := s.operate(
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
