package hsm

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/miekg/pkcs11"
)

// privateKeyInfo is PKCS#8: RFC 5208 section 5, and RFC 5958 section 2 with a public key.
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes asn1.RawValue  `asn1:"optional,tag:0"`
	PublicKey  asn1.BitString `asn1:"optional,tag:1"`
}

// ecPrivateKey is RFC 5915 section 3.
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

// parsePKCS8 gives the private key of a curve as PKCS#11 has it, k.size bytes that the caller clears, and its public key.
// crypto/x509 would do for all but secp256k1.
func (k *keyType) parsePKCS8(der []byte) (private, public []byte, err error) {
	var info privateKeyInfo
	rest, err := asn1.Unmarshal(der, &info)
	defer clear(info.PrivateKey)
	if err != nil || len(rest) != 0 {
		return nil, nil, errors.New("the private key is not a PKCS#8 of RFC 5958")
	}
	if info.Version > 1 || !info.Algorithm.Algorithm.Equal(k.algorithm) {
		return nil, nil, fmt.Errorf("the private key is of algorithm %v, not %s", info.Algorithm.Algorithm, k.name)
	}
	if k.curve != nil && !bytes.Equal(info.Algorithm.Parameters.FullBytes, k.ecParams()) {
		return nil, nil, fmt.Errorf("the private key is on another curve than %s", k.name)
	}
	given := info.PublicKey
	if k.curve == nil {
		rest, err = asn1.Unmarshal(info.PrivateKey, &private)
	} else {
		var key ecPrivateKey
		rest, err = asn1.Unmarshal(info.PrivateKey, &key)
		private, given = key.PrivateKey, key.PublicKey
		if err == nil && (key.Version != 1 || key.Curve != nil && !key.Curve.Equal(k.curve)) {
			err = errors.New("of another version or curve")
		}
	}
	if err == nil && (len(rest) != 0 || len(private) == 0 || len(private) > k.size) {
		err = errors.New("of another length")
	}
	if err == nil {
		private = padLeft(private, k.size)
		public, err = k.publicOf(private)
	}
	if err == nil && given.BitLength != 0 && !bytes.Equal(given.Bytes, public) {
		err = errors.New("with the public key of another")
	}
	if err != nil {
		clear(private)
		return nil, nil, fmt.Errorf("the private key is none of %s: %w", k.name, err)
	}
	return private, public, nil
}

// padLeft makes a secret longer, and clears it.
func padLeft(b []byte, size int) []byte {
	if len(b) == size {
		return b
	}
	padded := make([]byte, size)
	copy(padded[size-len(b):], b)
	clear(b)
	return padded
}

// publicOf computes the public key of a private key of k.size bytes, in the curve's encoding.
func (k *keyType) publicOf(private []byte) ([]byte, error) {
	switch k {
	case keyTypes[Ed25519]:
		key := ed25519.NewKeyFromSeed(private)
		defer clear(key)
		return bytes.Clone(key[ed25519.PublicKeySize:]), nil
	case keyTypes[Secp256k1]:
		var d secp256k1.ModNScalar
		defer d.Zero()
		if overflow := d.SetByteSlice(private); overflow || d.IsZero() {
			return nil, errors.New("not between 1 and the order of the curve")
		}
		return secp256k1.NewPrivateKey(&d).PubKey().SerializeUncompressed(), nil
	}
	curve := map[*keyType]ecdh.Curve{keyTypes[P256]: ecdh.P256(), keyTypes[P384]: ecdh.P384(), keyTypes[P521]: ecdh.P521()}[k]
	if curve == nil || k.kind != pkcs11.CKK_EC {
		return nil, errors.New("not a curve")
	}
	key, err := curve.NewPrivateKey(private)
	if err != nil {
		return nil, err
	}
	return key.PublicKey().Bytes(), nil
}
