package service

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"filippo.io/mldsa"
	"github.com/cloudflare/circl/kem"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// Algorithms that crypto/x509 does not know: secp256k1 (SEC 2 section 2.4.1), ML-DSA (RFC 9881
// section 2) and ML-KEM (RFC 9935 section 3).
var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5480
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}

	mldsaParameters = map[string]mldsa.Parameters{
		"2.16.840.1.101.3.4.3.17": mldsa.MLDSA44(),
		"2.16.840.1.101.3.4.3.18": mldsa.MLDSA65(),
		"2.16.840.1.101.3.4.3.19": mldsa.MLDSA87(),
	}
	mlkemOIDs = map[string]asn1.ObjectIdentifier{
		"ML_KEM_512":  {2, 16, 840, 1, 101, 3, 4, 4, 1},
		"ML_KEM_768":  {2, 16, 840, 1, 101, 3, 4, 4, 2},
		"ML_KEM_1024": {2, 16, 840, 1, 101, 3, 4, 4, 3},
	}
)

// subjectPublicKeyInfo is RFC 5280 section 4.1.
type subjectPublicKeyInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// publicKey reads a SubjectPublicKeyInfo of any KeySpec.
func publicKey(spki []byte) (crypto.PublicKey, error) {
	var info subjectPublicKeyInfo
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 {
		return nil, errors.New("read public key: not a SubjectPublicKeyInfo")
	}
	var public crypto.PublicKey
	var err error
	if set, ok := mldsaParameters[info.Algorithm.Algorithm.String()]; ok {
		public, err = mldsa.NewPublicKey(set, info.Key.RightAlign())
	} else if scheme := mlkemScheme(info.Algorithm.Algorithm); scheme != nil {
		public, err = scheme.UnmarshalBinaryPublicKey(info.Key.RightAlign())
	} else if onSecp256k1(info.Algorithm) {
		var key *secp256k1.PublicKey
		key, err = secp256k1.ParsePubKey(info.Key.RightAlign())
		public = secp256k1Key{key}
	} else {
		public, err = x509.ParsePKIXPublicKey(spki)
	}
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	return public, nil
}

// mlkemScheme is nil if the algorithm is not ML-KEM.
func mlkemScheme(algorithm asn1.ObjectIdentifier) kem.Scheme {
	for spec, oid := range mlkemOIDs {
		if oid.Equal(algorithm) {
			return mlkemSchemes[spec]
		}
	}
	return nil
}

func onSecp256k1(a pkix.AlgorithmIdentifier) bool {
	var curve asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(a.Parameters.FullBytes, &curve)
	return a.Algorithm.Equal(oidECPublicKey) && err == nil && len(rest) == 0 && curve.Equal(oidSecp256k1)
}

type secp256k1Key struct{ *secp256k1.PublicKey }

// verify checks an ECDSA signature in DER over a digest.
func (k secp256k1Key) verify(digest, signature []byte) bool {
	s, err := ecdsa.ParseDERSignature(signature)
	return err == nil && s.Verify(digest, k.PublicKey)
}
