package session

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha512"
	"crypto/x509"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
)

// IgnoresEd25519ph reports whether the token signs Ed25519 when it is asked for Ed25519ph. It is
// tried once for each connection.
func (s *Session) IgnoresEd25519ph() (bool, error) { return s.ignoresPrehash.get(s.findPrehash) }

func (s *Session) findPrehash() (ignored bool, err error) {
	h, spki, err := s.GenerateTestPair(keyobject.Ed25519, keyobject.SignPair)
	if err != nil {
		return false, err
	}
	defer func() { _ = s.Destroy(h) }() // the session is closed when it fails
	return s.signsPureForPrehash(h, spki)
}

// signsPureForPrehash signs with Ed25519ph and has the host verify it. Ed25519ph can't be made of
// Ed25519 outside of the token, since RFC 8032 section 5.1 puts the distinction into both hashes of
// the signature.
func (s *Session) signsPureForPrehash(h pkcs11.ObjectHandle, spki []byte) (bool, error) {
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return false, err
	}
	digest := sha512.Sum512([]byte("Ed25519ph"))
	call, err := Scheme{Algorithm: HashEdDSA, Hash: crypto.SHA512}.Call(keyobject.Ed25519, digest[:])
	if err != nil {
		return false, err
	}
	signature, err := s.Sign(h, call)
	if err != nil {
		return false, err
	}
	err = ed25519.VerifyWithOptions(
		key.(ed25519.PublicKey), digest[:], signature, &ed25519.Options{Hash: crypto.SHA512},
	)
	return err != nil, nil
}
