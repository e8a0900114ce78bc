package selftest

import (
	"bytes"
	"crypto/sha3"
	"errors"
	"slices"

	"filippo.io/mldsa"
	"github.com/cloudflare/circl/kem"
	"github.com/cloudflare/circl/kem/mlkem/mlkem1024"
	"github.com/cloudflare/circl/kem/mlkem/mlkem512"
	"github.com/cloudflare/circl/kem/mlkem/mlkem768"

	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

var mldsaParameters = map[keyobject.Type]mldsa.Parameters{
	keyobject.MLDSA44: mldsa.MLDSA44(), keyobject.MLDSA65: mldsa.MLDSA65(),
	keyobject.MLDSA87: mldsa.MLDSA87(),
}

func verifyMLDSA(set mldsa.Parameters, spki, message, signature []byte) (bool, error) {
	info, err := keyobject.ParsePublicKeyInfo(spki)
	if err != nil {
		return false, err
	}
	public, err := mldsa.NewPublicKey(set, info.PublicKey.Bytes)
	if err != nil {
		return false, err
	}
	return mldsa.Verify(public, message, signature, nil) == nil, nil
}

// testMLDSAMu signs a message's representative. The host verifies the signature with the message,
// and the token with the representative.
func testMLDSAMu(s *session.Session, _ *Keys) error {
	h, spki, err := s.GenerateTestPair(keyobject.MLDSA44, keyobject.SignPair)
	if err != nil {
		return err
	}
	info, err := keyobject.ParsePublicKeyInfo(spki)
	if err != nil {
		return err
	}
	message := []byte("ML-DSA")
	mu := representative(info.PublicKey.Bytes, message)
	call, err := session.Scheme{Algorithm: session.MLDSAMu}.Call(keyobject.MLDSA44, mu)
	if err != nil {
		return err
	}
	signature, err := s.Sign(h, call)
	if err != nil {
		return err
	}
	if ok, err := verifyMLDSA(mldsaParameters[keyobject.MLDSA44], spki, message, signature); err != nil || !ok {
		return errors.Join(errors.New("the host does not verify the signature"), err)
	}
	public, err := s.Create(keyobject.VerifierTemplate(keyobject.MLDSA44.Info(), info.PublicKey.Bytes))
	if err != nil {
		return err
	}
	for _, good := range []bool{true, false} {
		if !good {
			mu[0] ^= 1
		}
		ok, err := s.Verify(keyobject.CKMMLDSAExternalMu, public, mu, signature)
		if err != nil {
			return err
		}
		if ok != good {
			return errors.New("the token verifies what is wrong, or not what is right")
		}
	}
	return nil
}

// representative is μ of a message without a context (FIPS 204 algorithm 7 step 6, of algorithm 2's
// M').
func representative(public, message []byte) []byte {
	tr := sha3.SumSHAKE256(public, session.MuSize)
	return sha3.SumSHAKE256(slices.Concat(tr, []byte{0, 0}, message), session.MuSize)
}

var mlkemSchemes = map[keyobject.Type]kem.Scheme{
	keyobject.MLKEM512: mlkem512.Scheme(), keyobject.MLKEM768: mlkem768.Scheme(),
	keyobject.MLKEM1024: mlkem1024.Scheme(),
}

// testDecapsulation has the host encapsulate. A changed ciphertext must give another secret, and no
// error (FIPS 203 section 6.3).
func testDecapsulation(name string, kt keyobject.Type) Test {
	return Test{name, kt.String() + " key encapsulation", optional, func(s *session.Session, _ *Keys) error {
		h, spki, err := s.GenerateTestPair(kt, keyobject.DecapsulatePair)
		if err != nil {
			return err
		}
		info, err := keyobject.ParsePublicKeyInfo(spki)
		if err != nil {
			return err
		}
		scheme := mlkemSchemes[kt]
		public, err := scheme.UnmarshalBinaryPublicKey(info.PublicKey.Bytes)
		if err != nil {
			return err
		}
		ciphertext, want, err := scheme.Encapsulate(public)
		if err != nil {
			return err
		}
		for _, same := range []bool{true, false} {
			if !same {
				ciphertext[0] ^= 1
			}
			got, err := s.Decapsulate(h, ciphertext)
			if err != nil {
				return err
			}
			if bytes.Equal(got, want) != same {
				return errors.New("another secret than the host's, or the same for another ciphertext")
			}
		}
		return nil
	}}
}
