package session

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// ivSource is where the 12-byte initialisation vectors of CKM_AES_GCM come from. FIPS 140-3 IG C.H
// allows only vectors that the module itself generates, so tokens differ, some by their mode.
type ivSource int

const (
	callersIV  ivSource = iota + 1 // ours, as PKCS#11 v2.40 has it
	returnedIV                     // the token's, into zeros in CK_GCM_PARAMS (AWS CloudHSM)
	appendedIV                     // the token's, behind the tag, with none in CK_GCM_PARAMS (Luna in FIPS mode)
	behindIV                       // the same, with zeros in CK_GCM_PARAMS (ProtectServer 3)
)

// ivSources are all sources, in the order in which they are tried.
var ivSources = []ivSource{callersIV, returnedIV, appendedIV, behindIV}

// ivs gives the token's source, ErrUnsupported if it has none. It is proved once for each connection; a
// token that had one before fails instead.
func (s *Session) ivs() (ivSource, error) {
	if known := s.ivSource.known.Load(); known != nil { // without making a method value for every call
		return *known, nil
	}
	return s.ivSource.get(s.findIVs)
}

// findIVs tries each source. If the token refuses all, they are tried again the next time.
func (s *Session) findIVs() (ivSource, error) {
	key, err := s.GenerateTestKey(keyobject.Seal)
	if err != nil {
		return 0, err
	}
	defer func() { _ = s.Destroy(key) }() // the session is closed when it fails
	var refusals error
	for _, source := range ivSources {
		refused := s.tryTwice(func() error { return s.provesIVs(source, key) })
		if refused == nil {
			s.Proved.ivs.Store(true)
			return source, nil
		}
		if !s.isRefusal(refused) {
			return 0, refused
		}
		if refusals == nil {
			refusals = refused
		} else if refusals.Error() != refused.Error() {
			refusals = fmt.Errorf("%w; %v", refusals, refused)
		}
	}
	// The first is CKR_DEVICE_ERROR of a token that is well otherwise.
	if errors.Is(refusals, ckr.ErrUnavailable) || s.Proved.ivs.Load() {
		return 0, fmt.Errorf("prove CKM_AES_GCM: %w", refusals)
	}
	return 0, fmt.Errorf("%w: CKM_AES_GCM: %v", ckr.ErrUnsupported, refusals)
}

// provesIVs encrypts and decrypts with a source, twice. The two vectors must differ.
func (s *Session) provesIVs(source ivSource, key pkcs11.ObjectHandle) error {
	plaintext, aad := []byte("initialisation vector"), []byte("aad")
	var seen [2][IVSize]byte
	for i := range seen {
		ours := [IVSize]byte{byte(i + 1), 0x5a}
		iv, out, err := s.encryptUnder(source, ours, key, plaintext, aad, make([]byte, gcmRoom(len(plaintext))))
		if err != nil {
			return err
		}
		if source != callersIV && (iv == [IVSize]byte{} || iv == ours) {
			return errors.New("no initialisation vector came back")
		}
		if len(out) != len(plaintext)+tagSize {
			return fmt.Errorf("C_Encrypt: %d bytes instead of %d", len(out), len(plaintext)+tagSize)
		}
		got, _, err := s.gcm(cryptoki.Decrypt, key, &iv, out, aad, make([]byte, gcmRoom(len(out))))
		if err != nil {
			return err
		}
		if !bytes.Equal(got, plaintext) {
			return errors.New("C_Decrypt: another plaintext came back")
		}
		seen[i] = iv
	}
	if seen[0] == seen[1] {
		return errors.New("the token uses an initialisation vector twice")
	}
	return nil
}

// encryptUnder is C_Encrypt with CKM_AES_GCM into a part of room, which has gcmRoom(len(plaintext)) bytes.
// ours is the vector for a token that takes the caller's; iv is the one that was used.
func (s *Session) encryptUnder(
	source ivSource, ours [IVSize]byte, key pkcs11.ObjectHandle, plaintext, aad, room []byte,
) (iv [IVSize]byte, out []byte, err error) {
	var given *[IVSize]byte
	switch source {
	case callersIV:
		s.iv, given = ours, &s.iv
	case returnedIV, behindIV:
		s.iv, given = [IVSize]byte{}, &s.iv
	}
	out, _, err = s.gcm(cryptoki.Encrypt, key, given, plaintext, aad, room)
	if err != nil {
		return iv, nil, err
	}
	if given != nil {
		iv = s.iv
	}
	if n := len(out) - IVSize; source == callersIV && n == len(plaintext)+tagSize && bytes.Equal(out[n:], iv[:]) {
		out = out[:n] // ProtectToolkit 7.0 outside of FIPS mode appends the caller's own
	}
	if source == appendedIV || source == behindIV {
		n := len(out) - IVSize
		switch {
		case n < 0:
			return iv, nil, errors.New("C_Encrypt: no initialisation vector came back")
		case n == len(plaintext)+2*tagSize-IVSize:
			return iv, nil, errors.New(
				"C_Encrypt: the token's initialisation vectors have 16 bytes, and 12 are needed " +
					"(Luna in FIPS mode has these from firmware 7.9.3 on)",
			)
		}
		iv, out = [IVSize]byte(out[n:]), out[:n]
	}
	return iv, out, nil
}
