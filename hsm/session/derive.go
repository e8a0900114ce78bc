package session

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
)

// Derive is C_DeriveKey with CKM_ECDH1_DERIVE, and reads the shared secret Z.
func (s *Session) Derive(private pkcs11.ObjectHandle, k *keyobject.TypeInfo, peer []byte) ([]byte, error) {
	h, err := s.deriveECDH(private, pkcs11.CKD_NULL, peer,
		append(keyobject.ReadableSecret(), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, k.Size)))
	if err != nil {
		return nil, err
	}
	z, err := s.readOnce(h, k.Size)
	if err == nil && len(z) != k.Size {
		err = fmt.Errorf("C_DeriveKey: %d bytes instead of %d", len(z), k.Size)
	}
	return z, err
}

const sharedSecretSize = 32 // bytes; FIPS 203 section 7.3

// Decapsulate is C_DecapsulateKey with CKM_ML_KEM, and reads the shared secret.
func (s *Session) Decapsulate(private pkcs11.ObjectHandle, ciphertext []byte) ([]byte, error) {
	h, err := s.decapsulateKey(
		keyobject.CKMMLKEM, private, ciphertext,
		append(keyobject.ReadableSecret(), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, sharedSecretSize)),
	)
	if err != nil {
		return nil, err
	}
	secret, err := s.readOnce(h, sharedSecretSize)
	if err == nil && len(secret) != sharedSecretSize {
		err = fmt.Errorf("C_DecapsulateKey: %d bytes instead of %d", len(secret), sharedSecretSize)
	}
	return secret, err
}
