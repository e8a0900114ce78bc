package hsm

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"
)

// privateKeyBound is more than any private key's PKCS#8 takes, in bytes: that of RSA-4096 takes 2.4 KiB.
const privateKeyBound = 4096

// GenerateWrappedPair generates a key pair in the token, wraps the private key there with AES-KWP under the Wrap key, seals
// the wrapped bytes with AES-256-GCM and the aad under the Seal key, and destroys both. spki is the DER SubjectPublicKeyInfo,
// the box is that of Encrypt over the wrapped PKCS#8; no memory but the token's has seen the private key. The deadline is
// that of GenerateKeyPair. A token that can't wrap a key type, as SoftHSM can't Ed25519, gives ErrUnsupported; SelfTest tells.
func (t *Token) GenerateWrappedPair(ctx context.Context, keys SealingKeys, kt KeyType, aad []byte) (spki, box []byte, err error) {
	k, err := kt.known()
	if err != nil {
		return nil, nil, fmt.Errorf("generate wrapped key pair: %w", err)
	}
	aad = bytes.Clone(aad)
	both, err := runGenerate(ctx, t, func(s *session) ([2][]byte, error) {
		sealing, wrapping, err := s.lookupPair(keys)
		if err != nil {
			return [2][]byte{}, err
		}
		spki, wrapped, err := s.generateWrappedPair(wrapping, k)
		if err != nil {
			return [2][]byte{}, err
		}
		box, err := s.seal(t.cfg.Rand, sealing, wrapped, aad)
		return [2][]byte{spki, box}, err
	})
	return both[0], both[1], err
}

// generateWrappedPair generates a pair, wraps its private key with the token's AES-KWP, and destroys it.
func (s *session) generateWrappedPair(wrapping pkcs11.ObjectHandle, k *keyType) (spki, wrapped []byte, err error) {
	if k.parameterSet != 0 { // what PKCS#8 of it a token wraps is not agreed on yet
		return nil, nil, fmt.Errorf("%w: wrap an %s key", ErrUnsupported, k.name)
	}
	mechanism, err := s.kwp()
	if err != nil {
		return nil, nil, err
	}
	h, spki, err := s.generatePair(k, append(pairTemplate(k, SignPair, false),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)))
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.destroy(h)) }()
	wrapped, err = s.wrapKey(mechanism, nil, wrapping, h, kwpSize(privateKeyBound))
	return spki, wrapped, err
}

// DecryptWrappedPair opens a box of GenerateWrappedPair and gives the private key's PKCS#8 as the token made it (RFC 5208).
// The box is authenticated before anything is unwrapped. The caller clears the private key.
func (t *Token) DecryptWrappedPair(ctx context.Context, keys SealingKeys, box, aad []byte) (pkcs8 []byte, err error) {
	if len(box) > kwpSize(privateKeyBound)+Overhead {
		return nil, fmt.Errorf("%w: box of %d bytes for a private key", ErrAuthentication, len(box))
	}
	return t.openWrapped(ctx, keys, box, aad, (*session).unwrapDER)
}

// unwrapDER reads a secret that is one DER element through a session object.
func (s *session) unwrapDER(mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte) ([]byte, error) {
	value, err := s.unwrapReadable(mechanisms, unwrapping, wrapped)
	if err != nil {
		return nil, err
	}
	der, err := trimDER(value)
	if err != nil {
		clear(value)
		return nil, fmt.Errorf("C_UnwrapKey: %w", err)
	}
	return der, nil
}

// trimDER cuts off what AES-KWP has padded a DER SEQUENCE with: less than 8 zeros, which SoftHSM before 2.7.0 leaves on.
func trimDER(padded []byte) ([]byte, error) {
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
