package session

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
)

// kwpMechanism is the result of the proof: a mechanism, or why there is none.
type kwpMechanism struct {
	mechanism uint
	refusal   error
}

// KWP gives the token's mechanism of AES-KWP, ErrUnsupported if it has none. It is proved once for
// each connection.
func (s *Session) KWP() (uint, error) {
	if mechanism, refusal, known := s.KnownKWP(); known {
		return mechanism, refusal
	}
	found, err := s.capabilities.kwp.get(s.findKWP)
	if err == nil {
		err = found.refusal
	}
	return found.mechanism, err
}

// findKWP tries the candidates against the host.
func (s *Session) findKWP() (found kwpMechanism, err error) {
	kek := make([]byte, keyobject.AESKeySize)
	if _, err := rand.Read(kek); err != nil {
		return found, err
	}
	defer clear(kek)
	host, err := subtle.NewKWP(kek)
	if err != nil {
		return found, err
	}
	var wrapping pkcs11.ObjectHandle
	err = s.tryTwice(func() (err error) { wrapping, err = s.importTestKey(kek); return err })
	if err != nil {
		if !s.isRefusal(err) || s.Proved.kwp.Load() {
			return found, err
		}
		found.refusal = fmt.Errorf(
			"%w: AES-KWP can't be proved, since the token takes no key from the host: %v", ckr.ErrUnsupported,
			err,
		)
		return found, nil
	}
	defer func() { err = errors.Join(err, s.Destroy(wrapping)) }()
	var refusals string
	for _, mechanism := range s.Profile.KWPCandidates() {
		refusal := s.tryTwice(func() error { return s.provesKWP(mechanism, wrapping, host) })
		switch {
		case refusal == nil:
			s.Proved.kwp.Store(true)
			return kwpMechanism{mechanism: mechanism}, nil
		case !s.isRefusal(refusal):
			return found, refusal
		}
		refusals += fmt.Sprintf("; mechanism %#x: %v", mechanism, refusal)
	}
	if s.Proved.kwp.Load() {
		return found, fmt.Errorf("prove AES-KWP (RFC 5649)%s", refusals)
	}
	found.refusal = fmt.Errorf("%w: AES-KWP (RFC 5649)%s", ckr.ErrUnsupported, refusals)
	return found, nil
}

// importTestKey makes a Wrap key, whose value the host knows, a session object. A token that takes
// no value in clear gets it encrypted with RSAES-OAEP.
func (s *Session) importTestKey(kek []byte) (pkcs11.ObjectHandle, error) {
	template := append(keyobject.Wrap.Template(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
	h, refusal := s.Create(append(slices.Clone(template), pkcs11.NewAttribute(pkcs11.CKA_VALUE, kek)))
	if refusal == nil || !s.isRefusal(refusal) {
		return h, refusal
	}
	private, _, err := s.GenerateTestPair(keyobject.RSA2048, keyobject.UnwrapPair)
	if err != nil {
		return 0, fmt.Errorf("%w (after %v)", err, refusal)
	}
	wrapped, err := s.EncryptOAEP(private, keyobject.RSA2048.Info(), crypto.SHA1, kek)
	if err == nil {
		h, err = s.Unwrap(pkcs11.CKM_RSA_PKCS_OAEP, OAEPParams(crypto.SHA1), private, wrapped, template)
	}
	if err = errors.Join(err, s.Destroy(private)); err != nil {
		return 0, fmt.Errorf("%w (after %v)", err, refusal)
	}
	return h, nil
}

// kwpTestSize is the length of the secrets of the proof in bytes. It is no multiple of 8, so that
// padding is needed; RFC 5649 section 6 has a vector of this length.
const kwpTestSize = 20

// provesKWP reports whether a mechanism unwraps what the host has wrapped, and wraps what the host
// unwraps. AES-KWP has an integrity check, so no other algorithm passes by chance.
func (s *Session) provesKWP(mechanism uint, wrapping pkcs11.ObjectHandle, host *subtle.KWP) error {
	want := make([]byte, kwpTestSize)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	wrapped, err := host.Wrap(want)
	if err != nil {
		return err
	}
	got, err := s.UnwrapSecret([]uint{mechanism}, wrapping, wrapped, kwpTestSize)
	if err != nil {
		return err
	}
	defer clear(got)
	if !bytes.Equal(got, want) {
		return errors.New("it unwraps another value than the host has wrapped")
	}
	secret, err := s.Generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, keyobject.DataKeyTemplate(kwpTestSize))
	if err != nil {
		return err
	}
	wrapped, err = s.WrapKey(mechanism, nil, wrapping, secret, KWPSize(kwpTestSize)+8)
	if err = errors.Join(err, s.Destroy(secret)); err != nil {
		return err
	}
	value, err := host.Unwrap(wrapped)
	if err != nil {
		return fmt.Errorf("the host does not unwrap what it has wrapped: %w", err)
	}
	defer clear(value)
	// SoftHSM before 2.7.0 counts the zero padding into the length that it wraps.
	if n := len(value); n < kwpTestSize || n > (kwpTestSize+7)/8*8 ||
		!bytes.Equal(value[kwpTestSize:], make([]byte, n-kwpTestSize)) {
		return fmt.Errorf("it has wrapped a secret of %d bytes instead of %d", n, kwpTestSize)
	}
	return nil
}

// UnwrapMechanisms gives the mechanisms that a wrapped key may have been wrapped with: the recorded
// one, the token's AES-KWP, and, if none was recorded, those that an earlier version may have used.
// All are tried, since vendors give AES-KWP different numbers.
func (s *Session) UnwrapMechanisms(recorded uint) ([]uint, error) {
	var mechanisms []uint
	if slices.Contains(s.Profile.KWPCandidates(), recorded) { // the record may come from anywhere
		mechanisms = append(mechanisms, recorded)
	}
	proved, err := s.KWP()
	switch {
	case err == nil && proved != recorded:
		mechanisms = append(mechanisms, proved)
	case err != nil && !errors.Is(err, ckr.ErrUnsupported):
		return nil, err
	}
	if recorded == 0 {
		for _, m := range s.Profile.KWPCandidates() {
			if !slices.Contains(mechanisms, m) {
				mechanisms = append(mechanisms, m)
			}
		}
	}
	return mechanisms, nil
}

// UnwrapAny is C_UnwrapKey with the first mechanism that succeeds. If none does, the error is that
// of the first.
func (s *Session) UnwrapAny(
	mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte, template []*pkcs11.Attribute,
) (pkcs11.ObjectHandle, error) {
	var first error
	for _, mechanism := range mechanisms {
		h, err := s.Unwrap(mechanism, nil, unwrapping, wrapped, template)
		if err == nil || ckr.Lost(err) {
			return h, err
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("%w: AES-KWP (RFC 5649)", ckr.ErrUnsupported)
	}
	return 0, first
}

// KWPSize is the length of n bytes wrapped with AES-KWP (NIST SP 800-38F section 6.3): padded to a
// multiple of 8, and a semiblock more.
func KWPSize(n int) int { return (n+7)/8*8 + 8 }

// NewKWPKey gives the token's AES-KWP, and makes a key for it that ends with the session.
func (s *Session) NewKWPKey() (mechanism uint, wrapping pkcs11.ObjectHandle, err error) {
	if mechanism, err = s.KWP(); err == nil {
		wrapping, err = s.GenerateTestKey(keyobject.Wrap)
	}
	return mechanism, wrapping, err
}

// KnownKWP gives the token's AES-KWP, or why it has none, if that is known.
func (c *Shared) KnownKWP() (mechanism uint, err error, known bool) {
	found := c.capabilities.kwp.known.Load()
	if found == nil {
		return 0, nil, false
	}
	return found.mechanism, found.refusal, true
}
