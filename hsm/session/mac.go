package session

import (
	"crypto"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// macs are the mechanisms of HMAC (RFC 2104) by hash.
var macs = map[crypto.Hash]uint{
	crypto.SHA224: pkcs11.CKM_SHA224_HMAC,
	crypto.SHA256: pkcs11.CKM_SHA256_HMAC,
	crypto.SHA384: pkcs11.CKM_SHA384_HMAC,
	crypto.SHA512: pkcs11.CKM_SHA512_HMAC,
}

// HasMAC reports whether there is an HMAC with a hash.
func HasMAC(hash crypto.Hash) bool { return macs[hash] != 0 }

// MAC is C_Sign with HMAC.
func (s *Session) MAC(h pkcs11.ObjectHandle, hash crypto.Hash, message []byte) ([]byte, error) {
	mac, _, err := s.operate(cryptoki.Sign, macs[hash], nil, h, message, hash.Size())
	if err == nil && len(mac) != hash.Size() {
		err = fmt.Errorf("C_Sign: a MAC of %d bytes instead of %d", len(mac), hash.Size())
	}
	return mac, err
}
