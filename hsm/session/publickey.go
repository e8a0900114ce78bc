package session

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
)

// publicKey reads a public key object and gives its SubjectPublicKeyInfo.
func (s *Session) publicKey(h pkcs11.ObjectHandle, k *keyobject.TypeInfo) ([]byte, error) {
	if k.RSA() {
		public, err := s.rsaPublic(h, k)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(public)
	}
	if k.ParameterSet != 0 {
		public, err := s.Value(h, k.Size)
		if err != nil {
			return nil, err
		}
		return k.MarshalPoint(public)
	}
	values, err := s.Attributes(h, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	// The point is in an OCTET STRING (PKCS#11 v2.40 section 2.3.3), which some tokens leave out.
	point := values[0]
	if k.CheckPoint(point) == nil {
		return k.MarshalPoint(point)
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err != nil || len(rest) != 0 {
		return nil, errors.New("CKA_EC_POINT is neither a point nor an OCTET STRING")
	}
	return k.MarshalPoint(inner)
}

// rsaPublic reads the public key of an RSA key object, public or private.
func (s *Session) rsaPublic(h pkcs11.ObjectHandle, k *keyobject.TypeInfo) (*rsa.PublicKey, error) {
	values, err := s.Attributes(h, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	n, e := new(big.Int).SetBytes(values[0]), new(big.Int).SetBytes(values[1])
	if n.BitLen() != 8*k.Size || n.Bit(0) == 0 {
		return nil, fmt.Errorf("an RSA modulus of %d bits for %s", n.BitLen(), k.Name)
	}
	if e.BitLen() > 31 || e.BitLen() < 2 || e.Bit(0) == 0 {
		return nil, fmt.Errorf("an RSA public exponent of %d bits", e.BitLen())
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}
