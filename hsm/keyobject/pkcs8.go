package keyobject

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

// ParsePKCS8 gives the private key of a curve as PKCS#11 has it, k.size bytes that the caller
// clears, and its public key. crypto/x509 would do for all but secp256k1.
func (k *TypeInfo) ParsePKCS8(der []byte) (private, public []byte, err error) {
	var info privateKeyInfo
	rest, err := asn1.Unmarshal(der, &info)
	defer clear(info.PrivateKey)
	if err != nil || len(rest) != 0 {
		return nil, nil, errors.New("the private key is not a PKCS#8 of RFC 5958")
	}
	if info.Version > 1 || !info.Algorithm.Algorithm.Equal(k.Algorithm) {
		return nil, nil, fmt.Errorf("the private key is of algorithm %v, not %s", info.Algorithm.Algorithm, k.Name)
	}
	if k.Curve != nil && !bytes.Equal(info.Algorithm.Parameters.FullBytes, k.ECParams()) {
		return nil, nil, fmt.Errorf("the private key is on another curve than %s", k.Name)
	}
	given := info.PublicKey
	if k.Curve == nil {
		rest, err = asn1.Unmarshal(info.PrivateKey, &private)
	} else {
		var key ecPrivateKey
		rest, err = asn1.Unmarshal(info.PrivateKey, &key)
		private, given = key.PrivateKey, key.PublicKey
		if err == nil && (key.Version != 1 || key.Curve != nil && !key.Curve.Equal(k.Curve)) {
			err = errors.New("of another version or curve")
		}
	}
	if err == nil && (len(rest) != 0 || len(private) == 0 || len(private) > k.Size) {
		err = errors.New("of another length")
	}
	if err == nil {
		private = padLeft(private, k.Size)
		public, err = k.publicOf(private)
	}
	if err == nil && given.BitLength != 0 && !bytes.Equal(given.Bytes, public) {
		err = errors.New("with the public key of another")
	}
	if err != nil {
		clear(private)
		return nil, nil, fmt.Errorf("the private key is none of %s: %w", k.Name, err)
	}
	return private, public, nil
}

// padLeft pads a secret with zeros in a new slice, and clears the old one.
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
func (k *TypeInfo) publicOf(private []byte) ([]byte, error) {
	switch k {
	case Ed25519.Info():
		key := ed25519.NewKeyFromSeed(private)
		defer clear(key)
		return bytes.Clone(key[ed25519.PublicKeySize:]), nil
	case Secp256k1.Info():
		var d secp256k1.ModNScalar
		defer d.Zero()
		if overflow := d.SetByteSlice(private); overflow || d.IsZero() {
			return nil, errors.New("not between 1 and the order of the curve")
		}
		return secp256k1.NewPrivateKey(&d).PubKey().SerializeUncompressed(), nil
	}
	curve := map[*TypeInfo]ecdh.Curve{P256.Info(): ecdh.P256(), P384.Info(): ecdh.P384(), P521.Info(): ecdh.P521()}[k]
	if curve == nil || k.Kind != pkcs11.CKK_EC {
		return nil, errors.New("not a curve")
	}
	key, err := curve.NewPrivateKey(private)
	if err != nil {
		return nil, err
	}
	return key.PublicKey().Bytes(), nil
}

// TrimDER removes the padding of AES-KWP behind a DER SEQUENCE: fewer than 8 zeros, which SoftHSM
// before 2.7.0 does not remove.
func TrimDER(padded []byte) ([]byte, error) {
	var sequence asn1.RawValue
	padding, err := asn1.Unmarshal(padded, &sequence)
	if err != nil || sequence.Class != asn1.ClassUniversal || sequence.Tag != asn1.TagSequence || !sequence.IsCompound {
		return nil, errors.New("not a DER SEQUENCE")
	}
	if len(padding) >= 8 || !bytes.Equal(padding, make([]byte, len(padding))) {
		return nil, fmt.Errorf("%d bytes after the DER SEQUENCE", len(padding))
	}
	n := len(padded) - len(padding)
	return padded[:n:n], nil
}

// PrivateKeyBound is more than any private key's PKCS#8 takes, in bytes: that of RSA-4096 takes 2.4
// KiB.
const PrivateKeyBound = 4096
