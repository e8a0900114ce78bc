package hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"
)

const rsaExponent = 65537 // NIST FIPS 186-5 appendix A.1.1: the smallest one allowed

// subjectPublicKeyInfo is RFC 5280 section 4.1, for the curves (RFC 5480 section 2, RFC 8410 section 4) and
// ML-DSA and ML-KEM (RFC 9881 and RFC 9935, section 4). It is made here because crypto/x509 does not know all of them.
type subjectPublicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	PublicKey asn1.BitString
}

func parsePublicKeyInfo(spki []byte) (info subjectPublicKeyInfo, err error) {
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return info, errors.New("not a SubjectPublicKeyInfo")
	}
	return info, nil
}

// marshalPoint gives the SubjectPublicKeyInfo of a point in the curve's encoding, or of a public key of ML-DSA or ML-KEM.
func (k *keyType) marshalPoint(point []byte) ([]byte, error) {
	if err := k.checkPoint(point); err != nil {
		return nil, err
	}
	info := subjectPublicKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: k.algorithm},
		PublicKey: asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	}
	if k.curve != nil {
		info.Algorithm.Parameters = asn1.RawValue{FullBytes: k.ecParams()}
	}
	return asn1.Marshal(info)
}

// checkPoint tells whether a public key is one: an uncompressed point 04 | X | Y on the curve (SEC 1 section 2.3.3), or
// the bytes of RFC 8032 section 5.1.5, FIPS 204 section 7.2 or FIPS 203 section 7.1, whose length is all that is checked.
func (k *keyType) checkPoint(point []byte) error {
	if k.curve == nil {
		if len(point) != k.size {
			return fmt.Errorf("%s public key of %d bytes", k.name, len(point))
		}
		return nil
	}
	if len(point) != 1+2*k.size || point[0] != 4 {
		return fmt.Errorf("%s point of %d bytes is not an uncompressed one", k.name, len(point))
	}
	var err error
	if curve := k.nist(); curve != nil {
		_, err = ecdsa.ParseUncompressedPublicKey(curve, point)
	} else {
		_, err = secp256k1.ParsePubKey(point)
	}
	if err != nil {
		return fmt.Errorf("%s point: %w", k.name, err)
	}
	return nil
}

// nist is the curve as the standard library has it, nil when it has not.
func (k *keyType) nist() elliptic.Curve {
	switch k {
	case keyTypes[P256]:
		return elliptic.P256()
	case keyTypes[P384]:
		return elliptic.P384()
	case keyTypes[P521]:
		return elliptic.P521()
	}
	return nil
}

// publicKey reads a public key object and gives its SubjectPublicKeyInfo.
func (s *session) publicKey(h pkcs11.ObjectHandle, k *keyType) ([]byte, error) {
	if k.rsa() {
		public, err := s.rsaPublic(h, k)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(public)
	}
	if k.parameterSet != 0 {
		public, err := s.value(h, k.size)
		if err != nil {
			return nil, err
		}
		return k.marshalPoint(public)
	}
	values, err := s.attributes(h, pkcs11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	// The point is in an OCTET STRING (PKCS#11 v2.40 section 2.3.3), which some tokens leave out.
	point := values[0]
	if k.checkPoint(point) == nil {
		return k.marshalPoint(point)
	}
	var inner []byte
	if rest, err := asn1.Unmarshal(point, &inner); err != nil || len(rest) != 0 {
		return nil, errors.New("CKA_EC_POINT is neither a point nor an OCTET STRING")
	}
	return k.marshalPoint(inner)
}

// rsaPublic reads the public key of an RSA key object, public or private.
func (s *session) rsaPublic(h pkcs11.ObjectHandle, k *keyType) (*rsa.PublicKey, error) {
	values, err := s.attributes(h, pkcs11.CKA_MODULUS, pkcs11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	n, e := new(big.Int).SetBytes(values[0]), new(big.Int).SetBytes(values[1])
	if n.BitLen() != 8*k.size || n.Bit(0) == 0 {
		return nil, fmt.Errorf("an RSA modulus of %d bits for %s", n.BitLen(), k.name)
	}
	if e.BitLen() > 31 || e.BitLen() < 2 || e.Bit(0) == 0 {
		return nil, fmt.Errorf("an RSA public exponent of %d bits", e.BitLen())
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}
