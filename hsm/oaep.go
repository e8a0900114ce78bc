package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // links crypto.SHA1
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// oaepHashes are the hashes of RSAES-OAEP with the mechanisms of hash and MGF1.
var oaepHashes = map[crypto.Hash]struct{ mechanism, mgf uint }{
	crypto.SHA1:   {pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1},
	crypto.SHA256: {pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
}

// oaepParams is a CK_RSA_PKCS_OAEP_PARAMS with an empty label.
func oaepParams(hash crypto.Hash) []byte {
	h := oaepHashes[hash]
	return ulongs(h.mechanism, h.mgf, pkcs11.CKZ_DATA_SPECIFIED, 0, 0)
}

// DecryptOAEP opens a ciphertext of RSAES-OAEP (RFC 8017 section 7.1) with a DecryptPair's private key: SHA-1 or SHA-256,
// MGF1 of the same hash, empty label. The caller clears the plaintext.
//
// A token that refuses SHA-256 there (SoftHSM 2.6.1 does, CKR_ARGUMENTS_BAD) does the RSA operation alone, CKM_RSA_X_509,
// and the padding is taken off here in constant time. A probe of the connection decides it, never a failure.
func (t *Token) DecryptOAEP(ctx context.Context, key Key, kt KeyType, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	k, err := kt.known()
	if err == nil && (!k.rsa() || oaepHashes[hash].mechanism == 0) {
		err = fmt.Errorf("%s with %v", kt, hash)
	}
	if err != nil {
		return nil, fmt.Errorf("decrypt with OAEP: %w", err)
	}
	if len(ciphertext) != k.size {
		return nil, fmt.Errorf("%w: %d bytes for %s", ErrAuthentication, len(ciphertext), kt)
	}
	ciphertext = bytes.Clone(ciphertext)
	return run(ctx, t, func(s *session) ([]byte, error) {
		h, err := s.lookup(key)
		if err != nil {
			return nil, err
		}
		decrypt, err := s.oaepDecrypter(hash)
		if err != nil {
			return nil, err
		}
		return s.checkedOAEP(h, k, hash, ciphertext, decrypt)
	})
}

// oaepDecrypter opens a ciphertext with a key.
type oaepDecrypter func(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error)

// oaepDecrypter chooses between the token's padding and ours.
func (s *session) oaepDecrypter(hash crypto.Hash) (oaepDecrypter, error) {
	if hash == crypto.SHA256 {
		refused, err := s.refusesSHA256.get(s.findOAEP)
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
func (s *session) decryptOAEP(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	plaintext, _, err := s.once(cryptoki.Decrypt, pkcs11.CKM_RSA_PKCS_OAEP, oaepParams(hash), h, ciphertext, len(ciphertext))
	return plaintext, err
}

// decryptRaw has the token do the RSA operation.
func (s *session) decryptRaw(h pkcs11.ObjectHandle, hash crypto.Hash, ciphertext []byte) ([]byte, error) {
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
		return nil, ErrAuthentication
	}
	return message, nil
}

// checkedOAEP decrypts, and tells a bad ciphertext from a bad token: SoftHSM before 2.7.0 says CKR_GENERAL_ERROR for both.
// If the same operation opens what the host has just encrypted for the key, and then still not the ciphertext, the
// token is well and the ciphertext is not.
func (s *session) checkedOAEP(h pkcs11.ObjectHandle, k *keyType, hash crypto.Hash, ciphertext []byte, decrypt oaepDecrypter) ([]byte, error) {
	plaintext, err := decrypt(h, hash, ciphertext)
	if err == nil || !ambiguous(err) || !s.loggedIn() {
		return plaintext, err
	}
	want := []byte{0x5a}
	test, probe := s.encryptOAEP(h, k, hash, want)
	if probe == nil {
		var got []byte
		if got, probe = decrypt(h, hash, test); probe == nil && bytes.Equal(got, want) {
			if plaintext, err = decrypt(h, hash, ciphertext); ambiguous(err) {
				err = fmt.Errorf("%w: %w", ErrAuthentication, err)
			}
			return plaintext, err
		}
	}
	return nil, unexplained(err, probe)
}

// unexplained is for an error that a probe could not say more of: what the probe found is no kind of the error's own, unless
// it is that the connection is lost.
func unexplained(err, probe error) error {
	if lost(probe) {
		return errors.Join(err, probe)
	}
	return fmt.Errorf("%w (then %v)", err, probe)
}

// ambiguous tells of errors that a bad ciphertext and a bad token have in common.
func ambiguous(err error) bool {
	return hasCode(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_DATA_INVALID, pkcs11.CKR_ARGUMENTS_BAD)
}

// encryptOAEP encrypts on the host for a private key of the token.
func (s *session) encryptOAEP(h pkcs11.ObjectHandle, k *keyType, hash crypto.Hash, plaintext []byte) ([]byte, error) {
	public, err := s.rsaPublic(h, k)
	if err != nil {
		return nil, err
	}
	return rsa.EncryptOAEP(hash.New(), rand.Reader, public, plaintext, nil)
}

// findOAEP tells whether the token refuses OAEP with SHA-256.
func (s *session) findOAEP() (refused bool, err error) {
	h, _, err := s.generateTestPair(RSA2048, DecryptPair)
	if err != nil {
		return false, err
	}
	defer func() { _ = s.destroy(h) }() // the session is closed when it fails
	return s.refusesOAEP(h)
}

// refusesOAEP tries OAEP with SHA-256 on an RSA-2048 key that decrypts. A refusal is a matter of C_DecryptInit, before
// the token has seen any ciphertext.
func (s *session) refusesOAEP(h pkcs11.ObjectHandle) (bool, error) {
	want := []byte("RSAES-OAEP")
	ciphertext, err := s.encryptOAEP(h, keyTypes[RSA2048], crypto.SHA256, want)
	if err != nil {
		return false, err
	}
	got, started, err := s.once(cryptoki.Decrypt, pkcs11.CKM_RSA_PKCS_OAEP, oaepParams(crypto.SHA256), h, ciphertext, len(ciphertext))
	if !started && hasCode(err, pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_MECHANISM_INVALID) {
		return true, nil
	}
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("C_Decrypt: OAEP with SHA-256 gave another plaintext")
	}
	return false, err
}
