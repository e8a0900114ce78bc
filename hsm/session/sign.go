package session

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"math/big"
	"unsafe"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// Algorithm is a signature algorithm.
type Algorithm int

// Signature algorithms.
const (
	PKCS1v15  Algorithm = iota + 1 // RSASSA-PKCS1-v1_5, RFC 8017 section 8.2
	PSS                            // RSASSA-PSS, RFC 8017 section 8.1: MGF1 of the same hash, salt as long as the hash
	ECDSA                          // FIPS 186-5 section 6, as the DER of RFC 3279 section 2.2.3
	PureEdDSA                      // Ed25519 of RFC 8032
	HashEdDSA                      // Ed25519ph of RFC 8032; the token is asked first whether it can
	MLDSA                          // ML-DSA of FIPS 204 section 5.2 with an empty context, hedged if the token does so
	MLDSAMu                        // the same signature, by the message's representative μ (FIPS 204 section 6.2)
)

// MuSize is the size of μ in bytes.
const MuSize = 64

// Scheme is a signature algorithm with its hash: SHA-256, SHA-384 or SHA-512 for RSA and ECDSA,
// SHA-512 for HashEdDSA, none for the others.
type Scheme struct {
	Algorithm Algorithm
	Hash      crypto.Hash
}

// signHashes are the hashes of signatures: the DER of DigestInfo before the digest (RFC 8017
// section 9.2), and the mechanisms of PSS.
var signHashes = map[crypto.Hash]struct {
	digestInfo []byte
	mechanism  uint
	mgf        uint
}{
	crypto.SHA256: {
		[]byte("\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"),
		pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256,
	},
	crypto.SHA384: {
		[]byte("\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30"),
		pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384,
	},
	crypto.SHA512: {
		[]byte("\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40"),
		pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512,
	},
}

// signCall has the arguments of C_SignInit and C_Sign.
type signCall struct {
	mechanism uint
	params    []byte
	in        []byte
	size      int  // bytes of the output
	der       bool // the output is r | s, to be made DER
}

// Call gives the arguments for a message, or its digest. It fails for a scheme that is none of the
// key type.
func (s Scheme) Call(kt keyobject.Type, message []byte) (signCall, error) {
	k, err := kt.Known()
	if err != nil {
		return signCall{}, err
	}
	hash, hashed := signHashes[s.Hash]
	if s.Algorithm == PureEdDSA || s.Algorithm == MLDSA || s.Algorithm == MLDSAMu && len(message) == MuSize {
		hashed = s.Hash == 0
	} else if hashed && len(message) != s.Hash.Size() {
		return signCall{}, fmt.Errorf("a digest of %d bytes for %v", len(message), s.Hash)
	}
	if hashed {
		switch {
		case s.Algorithm == PKCS1v15 && k.RSA():
			return signCall{
				pkcs11.CKM_RSA_PKCS, nil, append(bytes.Clone(hash.digestInfo), message...), k.Size, false,
			}, nil
		case s.Algorithm == PSS && k.RSA():
			params := cryptoki.Ulongs(hash.mechanism, hash.mgf, uint(s.Hash.Size()))
			return signCall{pkcs11.CKM_RSA_PKCS_PSS, params, bytes.Clone(message), k.Size, false}, nil
		case s.Algorithm == ECDSA && k.Kind == pkcs11.CKK_EC:
			return signCall{pkcs11.CKM_ECDSA, nil, bytes.Clone(message), 2 * k.Size, true}, nil
		case s.Algorithm == PureEdDSA && k.Kind == keyobject.CKKECEdwards:
			return signCall{keyobject.CKMEdDSA, nil, bytes.Clone(message), 2 * k.Size, false}, nil
		case s.Algorithm == MLDSA && k.MLDSA():
			return signCall{keyobject.CKMMLDSA, nil, bytes.Clone(message), k.Output, false}, nil
		case s.Algorithm == MLDSAMu && k.MLDSA():
			return signCall{keyobject.CKMMLDSAExternalMu, nil, bytes.Clone(message), k.Output, false}, nil
		case s.Algorithm == HashEdDSA && k.Kind == keyobject.CKKECEdwards && s.Hash == crypto.SHA512:
			return signCall{keyobject.CKMEdDSA, prehashed(), bytes.Clone(message), 2 * k.Size, false}, nil
		}
	}
	return signCall{}, fmt.Errorf("algorithm %d with %v is none of %s", s.Algorithm, s.Hash, kt)
}

// prehashed is a CK_EDDSA_PARAMS (PKCS#11 v3.0 section 2.3.5) with phFlag set and no context:
// CK_BBOOL, CK_ULONG, pointer.
func prehashed() []byte {
	params := make([]byte, 3*unsafe.Sizeof(uintptr(0)))
	params[0] = 1
	return params
}

// Sign is C_SignInit and C_Sign.
func (s *Session) Sign(h pkcs11.ObjectHandle, c signCall) ([]byte, error) {
	signature, _, err := s.operate(cryptoki.Sign, c.mechanism, c.params, h, c.in, c.size)
	if err != nil {
		return nil, err
	}
	if len(signature) != c.size {
		return nil, fmt.Errorf("C_Sign: %d bytes instead of %d", len(signature), c.size)
	}
	if c.der {
		return marshalECDSA(signature)
	}
	return signature, nil
}

// marshalECDSA encodes r | s as a DER SEQUENCE of two integers.
func marshalECDSA(rs []byte) ([]byte, error) {
	n := len(rs) / 2
	r, s := new(big.Int).SetBytes(rs[:n]), new(big.Int).SetBytes(rs[n:])
	if r.Sign() == 0 || s.Sign() == 0 {
		return nil, errors.New("C_Sign: a signature of zeros")
	}
	der := cryptobyte.NewBuilder(make([]byte, 0, len(rs)+16))
	der.AddASN1(asn1.SEQUENCE, func(sequence *cryptobyte.Builder) {
		sequence.AddASN1BigInt(r)
		sequence.AddASN1BigInt(s)
	})
	return der.Bytes()
}

// Verify is C_VerifyInit and C_Verify with a mechanism that has no parameter.
func (s *Session) Verify(mechanism uint, key pkcs11.ObjectHandle, message, signature []byte) (bool, error) {
	if err := s.step(); err != nil {
		return false, err
	}
	err := ckr.Failed("C_Verify", s.Module.Verify(s.Handle, mechanism, key, message, signature))
	if ckr.Has(err, pkcs11.CKR_SIGNATURE_INVALID, pkcs11.CKR_SIGNATURE_LEN_RANGE) {
		return false, nil
	}
	return err == nil, err
}
