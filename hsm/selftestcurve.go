package hsm

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/miekg/pkcs11"
)

// curveTests are the self-tests of the curves, ML-DSA and ML-KEM, each with a key pair of its own.
var curveTests = []selfTest{
	testSignature(CheckECDSAP256, P256, Scheme{ECDSA, crypto.SHA256}),
	testSignature(CheckECDSAP384, P384, Scheme{ECDSA, crypto.SHA384}),
	testSignature(CheckECDSAP521, P521, Scheme{ECDSA, crypto.SHA512}),
	testSignature(CheckECDSASecp256k1, Secp256k1, Scheme{ECDSA, crypto.SHA256}),
	testSignature(CheckEd25519, Ed25519, Scheme{Algorithm: PureEdDSA}),
	{CheckEd25519ph, "Ed25519ph signatures", optional, (*session).testEd25519ph},
	testECDH(CheckECDHP256, P256, ecdh.P256()),
	testECDH(CheckECDHP384, P384, ecdh.P384()),
	testECDH(CheckECDHP521, P521, ecdh.P521()),
	testWrappedCurve(CheckWrappedP256, P256),
	testWrappedCurve(CheckWrappedP384, P384),
	testWrappedCurve(CheckWrappedP521, P521),
	testWrappedCurve(CheckWrappedSecp256k1, Secp256k1),
	testWrappedCurve(CheckWrappedEd25519, Ed25519),
	testSignature(CheckMLDSA44, MLDSA44, Scheme{Algorithm: MLDSA}),
	testSignature(CheckMLDSA65, MLDSA65, Scheme{Algorithm: MLDSA}),
	testSignature(CheckMLDSA87, MLDSA87, Scheme{Algorithm: MLDSA}),
	{CheckMLDSAMu, "ML-DSA signatures of what is longer than 4,096 bytes", optional, (*session).testMLDSAMu},
	testDecapsulation(CheckMLKEM512, MLKEM512),
	testDecapsulation(CheckMLKEM768, MLKEM768),
	testDecapsulation(CheckMLKEM1024, MLKEM1024),
	{CheckSM2, "SM2 key pairs", optional, (*session).testSM2},
}

func testSignature(name string, kt KeyType, scheme Scheme) selfTest {
	return selfTest{name, kt.String() + " signatures", optional, func(s *session, _ *testKeys) error {
		h, spki, err := s.generateTestPair(kt, SignPair)
		if err != nil {
			return err
		}
		return s.signsForHost(h, spki, kt, scheme)
	}}
}

// signsForHost signs with a private key, and has the host verify it with the public one.
func (s *session) signsForHost(h pkcs11.ObjectHandle, spki []byte, kt KeyType, scheme Scheme) error {
	message := bytes.Repeat([]byte{0x5a}, 32)
	if scheme.Hash != 0 {
		message = bytes.Repeat(message, 2)[:scheme.Hash.Size()]
	}
	call, err := scheme.call(kt, message)
	if err != nil {
		return err
	}
	signature, err := s.sign(h, call)
	if err != nil {
		return err
	}
	if ok, err := verifySignature(kt, spki, message, signature); err != nil || !ok {
		return errors.Join(errors.New("the host does not verify the signature"), err)
	}
	return nil
}

// verifySignature verifies on the host.
func verifySignature(kt KeyType, spki, message, signature []byte) (bool, error) {
	if set, ok := mldsaParameters[kt]; ok {
		return verifyMLDSA(set, spki, message, signature)
	}
	if kt == Secp256k1 {
		return verifySecp256k1(spki, message, signature)
	}
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return false, err
	}
	if key, ok := key.(ed25519.PublicKey); ok {
		return ed25519.Verify(key, message, signature), nil
	}
	return ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), message, signature), nil
}

func verifySecp256k1(spki, digest, signature []byte) (bool, error) {
	info, err := parsePublicKeyInfo(spki)
	if err != nil {
		return false, err
	}
	public, err := secp256k1.ParsePubKey(info.PublicKey.Bytes)
	if err != nil {
		return false, err
	}
	parsed, err := secp256k1ecdsa.ParseDERSignature(signature)
	return err == nil && parsed.Verify(digest, public), err
}

func (s *session) testEd25519ph(*testKeys) error {
	ignored, err := s.ignoresPrehash.get(s.findPrehash)
	if err == nil && ignored {
		err = fmt.Errorf("%w: it signs Ed25519 instead", ErrUnsupported)
	}
	return err
}

func testECDH(name string, kt KeyType, curve ecdh.Curve) selfTest {
	return selfTest{name, kt.String() + " key agreement", optional, func(s *session, _ *testKeys) error {
		h, spki, err := s.generateTestPair(kt, DerivePair)
		if err != nil {
			return err
		}
		key, err := x509.ParsePKIXPublicKey(spki)
		if err != nil {
			return err
		}
		public, err := key.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			return err
		}
		peer, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			return err
		}
		want, err := peer.ECDH(public)
		if err != nil {
			return err
		}
		got, err := s.derive(h, keyTypes[kt], peer.PublicKey().Bytes())
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("another secret than the host's")
		}
		return err
	}}
}

func testWrappedCurve(name string, kt KeyType) selfTest {
	return selfTest{name, kt.String() + " data key pairs that are born and wrapped in the token", optional, func(s *session, _ *testKeys) error {
		mechanism, wrapping, err := s.testKWP()
		if err != nil {
			return err
		}
		spki, wrapped, err := s.generateWrappedPair(wrapping, keyTypes[kt])
		if err != nil {
			return err
		}
		pkcs8, err := s.unwrapDER([]uint{mechanism}, wrapping, wrapped)
		if err != nil {
			return err
		}
		_, point, err := keyTypes[kt].parsePKCS8(pkcs8)
		if err != nil {
			return err
		}
		public, err := keyTypes[kt].marshalPoint(point)
		if err == nil && !bytes.Equal(public, spki) {
			err = errors.New("another key was wrapped")
		}
		return err
	}}
}

// testSM2 looks what the token makes of SM2's curve (GB/T 32918.5). PKCS#11 has no mechanism of SM2, and CKM_ECDSA is another
// algorithm on any curve.
func (s *session) testSM2(*testKeys) error {
	curve := &keyType{name: "SM2", kind: pkcs11.CKK_EC, generate: pkcs11.CKM_EC_KEY_PAIR_GEN, size: 32, algorithm: oidEC,
		curve: asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}}
	_, _, err := s.generateKeyPair(curve.generate, publicTemplate(curve),
		append(pairTemplate(curve, SignPair, false), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	if lost(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: the token does not know the curve: %v", ErrUnsupported, err)
	}
	return fmt.Errorf("%w: the token takes the curve, but its signatures would be ECDSA", ErrUnsupported)
}
