package service

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// crypto/x509 and crypto/ecdsa don't know secp256k1 (SEC 2 section 2.4.1).
var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} // RFC 5480
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}       // SEC 2

	errNotSecp256k1 = errors.New("not a secp256k1 public key")
)

type secp256k1Key struct{ *secp256k1.PublicKey }

func parseSecp256k1(spki []byte) (secp256k1Key, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	var curve asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(spki, &info); err != nil || len(rest) > 0 || !info.Algorithm.Algorithm.Equal(oidECPublicKey) {
		return secp256k1Key{}, errNotSecp256k1
	}
	if rest, err := asn1.Unmarshal(info.Algorithm.Parameters.FullBytes, &curve); err != nil || len(rest) > 0 || !curve.Equal(oidSecp256k1) {
		return secp256k1Key{}, errNotSecp256k1
	}
	k, err := secp256k1.ParsePubKey(info.Key.RightAlign())
	return secp256k1Key{k}, err
}

// verify checks an ECDSA signature in DER over a digest.
func (k secp256k1Key) verify(digest, signature []byte) bool {
	s, err := ecdsa.ParseDERSignature(signature)
	return err == nil && s.Verify(digest, k.PublicKey)
}
