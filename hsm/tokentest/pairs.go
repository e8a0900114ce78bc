package tokentest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	decred "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/verenc/kms/hsm"
)

// keyPair makes a key pair and gives its public key; nil for secp256k1, which the standard library
// has not.
func (s *suite) keyPair(
	kt hsm.KeyType, purpose hsm.PairPurpose,
) (id hsm.ObjectID, public any, spki []byte, destroy func(), err error) {
	id, destroy = s.newID()
	spki, err = s.token.GenerateKeyPair(
		s.ctx, hsm.KeyPair{ID: id, Label: "verenc/tokentest", Type: kt, Purpose: purpose},
	)
	if err == nil && kt != hsm.Secp256k1 {
		public, err = x509.ParsePKIXPublicKey(spki)
	}
	return id, public, spki, destroy, err
}

// sign makes one key pair and signs with each scheme.
func sign(kt hsm.KeyType, schemes ...hsm.Scheme) func(*suite) error {
	return func(s *suite) error {
		id, _, spki, destroy, err := s.keyPair(kt, hsm.SignPair)
		defer destroy()
		for i := 0; err == nil && i < len(schemes); i++ {
			err = s.signs(id, kt, schemes[i], spki)
		}
		return err
	}
}

// hashes is an algorithm with each hash.
func hashes(a hsm.Algorithm) []hsm.Scheme {
	return []hsm.Scheme{
		{Algorithm: a, Hash: crypto.SHA256}, {Algorithm: a, Hash: crypto.SHA384},
		{Algorithm: a, Hash: crypto.SHA512},
	}
}

// signs has the host verify a signature, and refuse it for another message.
func (s *suite) signs(id hsm.ObjectID, kt hsm.KeyType, scheme hsm.Scheme, spki []byte) error {
	message := []byte("a message of its own")
	if scheme.Hash != 0 {
		message = message[:0]
		for range scheme.Hash.Size() {
			message = append(message, 7)
		}
	}
	signature, err := s.token.Sign(s.ctx, id, kt, scheme, message)
	if err != nil {
		return err
	}
	if err := verify(kt, scheme, spki, message, signature); err != nil {
		return fmt.Errorf("the host does not verify the signature: %w", err)
	}
	message[0] ^= 1
	if verify(kt, scheme, spki, message, signature) == nil {
		return errors.New("the signature is good for another message, too")
	}
	return nil
}

var errSignature = errors.New("wrong signature")

func verify(kt hsm.KeyType, scheme hsm.Scheme, spki, message, signature []byte) error {
	if kt == hsm.Secp256k1 {
		return verifySecp256k1(spki, message, signature)
	}
	public, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return err
	}
	good := false
	switch public := public.(type) {
	case *rsa.PublicKey:
		if scheme.Algorithm == hsm.PSS {
			return rsa.VerifyPSS(public, scheme.Hash, message, signature,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.VerifyPKCS1v15(public, scheme.Hash, message, signature)
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(public, message, signature)
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(public, message, signature, &ed25519.Options{Hash: scheme.Hash})
	}
	if !good {
		return errSignature
	}
	return nil
}

func verifySecp256k1(spki, message, signature []byte) error {
	var info struct {
		Algorithm asn1.RawValue
		Point     asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &info); err != nil {
		return err
	}
	public, err := secp256k1.ParsePubKey(info.Point.Bytes)
	if err != nil {
		return err
	}
	// Tokens give either of the two values of S, the library wants the lower one: the DER is taken
	// apart here.
	var pair struct{ R, S asn1.RawValue }
	if _, err := asn1.Unmarshal(signature, &pair); err != nil {
		return err
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(bytes.TrimLeft(pair.R.Bytes, "\x00")) || s.SetByteSlice(bytes.TrimLeft(pair.S.Bytes, "\x00")) {
		return errSignature
	}
	if !decred.NewSignature(&r, &s).Verify(message, public) {
		return errSignature
	}
	return nil
}

// dataKeyPair has the token make a pair whose private key leaves it wrapped only, and opens it.
func dataKeyPair(kt hsm.KeyType) func(*suite) error {
	return func(s *suite) error {
		p, destroy, err := s.pair()
		defer destroy()
		if err != nil {
			return err
		}
		spki, box, err := s.token.GenerateWrappedPair(s.ctx, p, kt, []byte("aad"))
		if err != nil {
			return err
		}
		pkcs8, err := s.token.DecryptWrappedPair(s.ctx, p, box, []byte("aad"))
		if err != nil {
			return err
		}
		if _, err := s.token.DecryptWrappedPair(s.ctx,
			p, box, []byte("other")); !errors.Is(err, hsm.ErrAuthentication) {
			return wrong(err, "other additional data")
		}
		if kt == hsm.Secp256k1 {
			return nil // the standard library has not this curve
		}
		private, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil {
			return err
		}
		public, err := x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
		if err != nil || !bytes.Equal(public, spki) {
			return wrong(err, "the halves don't belong together")
		}
		_, err = private.(crypto.Signer).Sign(rand.Reader, make([]byte, 32), crypto.SHA256)
		return err
	}
}
