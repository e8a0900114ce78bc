package keyobject

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// SubjectPublicKeyInfo is RFC 5280 section 4.1, for the curves (RFC 5480 section 2, RFC 8410
// section 4) and ML-DSA and ML-KEM (RFC 9881 and RFC 9935, section 4). It is made here because
// crypto/x509 does not know all of them.
type SubjectPublicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	PublicKey asn1.BitString
}

// ParsePublicKeyInfo parses the DER of a SubjectPublicKeyInfo.
func ParsePublicKeyInfo(spki []byte) (info SubjectPublicKeyInfo, err error) {
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return info, errors.New("not a SubjectPublicKeyInfo")
	}
	return info, nil
}

// MarshalPoint gives the SubjectPublicKeyInfo of a point in the curve's encoding, or of a public
// key of ML-DSA or ML-KEM.
func (k *TypeInfo) MarshalPoint(point []byte) ([]byte, error) {
	if err := k.CheckPoint(point); err != nil {
		return nil, err
	}
	info := SubjectPublicKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: k.Algorithm},
		PublicKey: asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	}
	if k.Curve != nil {
		info.Algorithm.Parameters = asn1.RawValue{FullBytes: k.ECParams()}
	}
	return asn1.Marshal(info)
}

// CheckPoint checks a public key: an uncompressed point 04 | X | Y on the curve (SEC
// 1 section 2.3.3), or the bytes of RFC 8032 section 5.1.5, FIPS 204 section 7.2 or FIPS 203
// section 7.1, whose length is all that is checked.
func (k *TypeInfo) CheckPoint(point []byte) error {
	if k.Curve == nil {
		if len(point) != k.Size {
			return fmt.Errorf("%s public key of %d bytes", k.Name, len(point))
		}
		return nil
	}
	if len(point) != 1+2*k.Size || point[0] != 4 {
		return fmt.Errorf("%s point of %d bytes is not an uncompressed one", k.Name, len(point))
	}
	var err error
	if curve := k.NIST(); curve != nil {
		_, err = ecdsa.ParseUncompressedPublicKey(curve, point)
	} else {
		_, err = secp256k1.ParsePubKey(point)
	}
	if err != nil {
		return fmt.Errorf("%s point: %w", k.Name, err)
	}
	return nil
}

// NIST is the curve as the standard library has it, nil when it has not.
func (k *TypeInfo) NIST() elliptic.Curve {
	switch k {
	case P256.Info():
		return elliptic.P256()
	case P384.Info():
		return elliptic.P384()
	case P521.Info():
		return elliptic.P521()
	}
	return nil
}
