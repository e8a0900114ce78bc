package selftest

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

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

// curveTests are the self-tests of the curves, ML-DSA and ML-KEM, each with a key pair of its own.
var curveTests = []Test{
	testSignature(CheckECDSAP256, keyobject.P256, session.Scheme{Algorithm: session.ECDSA, Hash: crypto.SHA256}),
	testSignature(CheckECDSAP384, keyobject.P384, session.Scheme{Algorithm: session.ECDSA, Hash: crypto.SHA384}),
	testSignature(CheckECDSAP521, keyobject.P521, session.Scheme{Algorithm: session.ECDSA, Hash: crypto.SHA512}),
	testSignature(
		CheckECDSASecp256k1, keyobject.Secp256k1,
		session.Scheme{Algorithm: session.ECDSA, Hash: crypto.SHA256},
	),
	testSignature(CheckEd25519, keyobject.Ed25519, session.Scheme{Algorithm: session.PureEdDSA}),
	{CheckEd25519ph, "Ed25519ph signatures", optional, testEd25519ph},
	testECDH(CheckECDHP256, keyobject.P256, ecdh.P256()),
	testECDH(CheckECDHP384, keyobject.P384, ecdh.P384()),
	testECDH(CheckECDHP521, keyobject.P521, ecdh.P521()),
	testWrappedCurve(CheckWrappedP256, keyobject.P256),
	testWrappedCurve(CheckWrappedP384, keyobject.P384),
	testWrappedCurve(CheckWrappedP521, keyobject.P521),
	testWrappedCurve(CheckWrappedSecp256k1, keyobject.Secp256k1),
	testWrappedCurve(CheckWrappedEd25519, keyobject.Ed25519),
	testSignature(CheckMLDSA44, keyobject.MLDSA44, session.Scheme{Algorithm: session.MLDSA}),
	testSignature(CheckMLDSA65, keyobject.MLDSA65, session.Scheme{Algorithm: session.MLDSA}),
	testSignature(CheckMLDSA87, keyobject.MLDSA87, session.Scheme{Algorithm: session.MLDSA}),
	{CheckMLDSAMu, "ML-DSA signatures of what is longer than 4,096 bytes", optional, testMLDSAMu},
	testDecapsulation(CheckMLKEM512, keyobject.MLKEM512),
	testDecapsulation(CheckMLKEM768, keyobject.MLKEM768),
	testDecapsulation(CheckMLKEM1024, keyobject.MLKEM1024),
	{CheckSM2, "SM2 key pairs", optional, testSM2},
}

func testSignature(name string, kt keyobject.Type, scheme session.Scheme) Test {
	return Test{name, kt.String() + " signatures", optional, func(s *session.Session, _ *Keys) error {
		h, spki, err := s.GenerateTestPair(kt, keyobject.SignPair)
		if err != nil {
			return err
		}
		return signsForHost(s, h, spki, kt, scheme)
	}}
}

// signsForHost signs with a private key, and has the host verify it with the public one.
func signsForHost(
	s *session.Session, h pkcs11.ObjectHandle, spki []byte, kt keyobject.Type, scheme session.Scheme,
) error {
	message := bytes.Repeat([]byte{0x5a}, 32)
	if scheme.Hash != 0 {
		message = bytes.Repeat(message, 2)[:scheme.Hash.Size()]
	}
	call, err := scheme.Call(kt, message)
	if err != nil {
		return err
	}
	signature, err := s.Sign(h, call)
	if err != nil {
		return err
	}
	if ok, err := verifySignature(kt, spki, message, signature); err != nil || !ok {
		return errors.Join(errors.New("the host does not verify the signature"), err)
	}
	return nil
}

// verifySignature verifies on the host.
func verifySignature(kt keyobject.Type, spki, message, signature []byte) (bool, error) {
	if set, ok := mldsaParameters[kt]; ok {
		return verifyMLDSA(set, spki, message, signature)
	}
	if kt == keyobject.Secp256k1 {
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
	info, err := keyobject.ParsePublicKeyInfo(spki)
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

func testEd25519ph(s *session.Session, _ *Keys) error {
	ignored, err := s.IgnoresEd25519ph()
	if err == nil && ignored {
		err = fmt.Errorf("%w: it signs Ed25519 instead", ckr.ErrUnsupported)
	}
	return err
}

func testECDH(name string, kt keyobject.Type, curve ecdh.Curve) Test {
	return Test{name, kt.String() + " key agreement", optional, func(s *session.Session, _ *Keys) error {
		h, spki, err := s.GenerateTestPair(kt, keyobject.DerivePair)
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
		got, err := s.Derive(h, kt.Info(), peer.PublicKey().Bytes())
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("another secret than the host's")
		}
		return err
	}}
}

func testWrappedCurve(name string, kt keyobject.Type) Test {
	return Test{
		name,
		kt.String() + " data key pairs that are born and wrapped in the token",
		optional,
		func(s *session.Session, _ *Keys) error {
			mechanism, wrapping, err := s.NewKWPKey()
			if err != nil {
				return err
			}
			spki, wrapped, err := s.GenerateWrappedPair(wrapping, kt.Info())
			if err != nil {
				return err
			}
			pkcs8, err := s.UnwrapDER([]uint{mechanism}, wrapping, wrapped)
			if err != nil {
				return err
			}
			_, point, err := kt.Info().ParsePKCS8(pkcs8)
			if err != nil {
				return err
			}
			public, err := kt.Info().MarshalPoint(point)
			if err == nil && !bytes.Equal(public, spki) {
				err = errors.New("another key was wrapped")
			}
			return err
		},
	}
}

// testSM2 tries whether the token knows SM2's curve (GB/T 32918.5). PKCS#11 has no mechanism of
// SM2, and CKM_ECDSA is another algorithm on any curve.
func testSM2(s *session.Session, _ *Keys) error {
	curve := &keyobject.TypeInfo{
		Name: "SM2", Kind: pkcs11.CKK_EC, Generate: pkcs11.CKM_EC_KEY_PAIR_GEN, Size: 32,
		Algorithm: keyobject.OIDEC, Curve: asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301},
	}
	_, _, err := s.GenerateKeyPair(curve.Generate, keyobject.PublicTemplate(curve),
		append(keyobject.PairTemplate(curve, keyobject.SignPair, false), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	if ckr.Lost(err) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: the token does not know the curve: %v", ckr.ErrUnsupported, err)
	}
	return fmt.Errorf("%w: the token takes the curve, but its signatures would be ECDSA", ckr.ErrUnsupported)
}
