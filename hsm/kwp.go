package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/miekg/pkcs11"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// Mechanisms that may be AES-KWP (RFC 5649, NIST SP 800-38F section 6.3). Which of them is, a token has
// to prove: v3.0 gave it the number 0x210B, and some tokens do something else under v2.40's 0x210A.
const (
	ckmAESKeyWrapKWP      = 0x210B // CKM_AES_KEY_WRAP_KWP
	ckmAESKeyWrapPad      = 0x210A // CKM_AES_KEY_WRAP_PAD
	ckmLunaAESKWP         = pkcs11.CKM_VENDOR_DEFINED + 0x171
	ckmCloudHSMKeyWrapPad = pkcs11.CKM_VENDOR_DEFINED + 0x216F // CKM_CLOUDHSM_AES_KEY_WRAP_ZERO_PAD of AWS's header
)

// kwpCandidates are the mechanisms to try on a token, in this order.
func (p *profile) kwpCandidates() []uint {
	return append([]uint{ckmAESKeyWrapKWP, ckmAESKeyWrapPad}, p.vendorKWP...)
}

// kwpMechanism is the result of the proof: a mechanism, or why there is none.
type kwpMechanism struct {
	mechanism uint
	refusal   error
}

// kwp gives the token's mechanism of AES-KWP, ErrUnsupported if it has none. It is proved once a connection.
func (s *session) kwp() (uint, error) {
	found, err := s.probes.kwp.get(s.findKWP)
	if err == nil {
		err = found.refusal
	}
	return found.mechanism, err
}

// findKWP tries the candidates against the host.
func (s *session) findKWP() (found kwpMechanism, err error) {
	kek := make([]byte, aesKeySize)
	if _, err := rand.Read(kek); err != nil {
		return found, err
	}
	defer clear(kek)
	host, err := subtle.NewKWP(kek)
	if err != nil {
		return found, err
	}
	var wrapping pkcs11.ObjectHandle
	err = s.twice(func() (err error) { wrapping, err = s.importTestKey(kek); return err })
	if err != nil {
		if !s.refusal(err) {
			return found, err
		}
		found.refusal = fmt.Errorf("%w: AES-KWP can't be proved, since the token takes no key from the host: %v", ErrUnsupported, err)
		return found, nil
	}
	defer func() { err = errors.Join(err, s.destroy(wrapping)) }()
	found.refusal = fmt.Errorf("%w: AES-KWP (RFC 5649)", ErrUnsupported)
	for _, mechanism := range s.profile.kwpCandidates() {
		refusal := s.twice(func() error { return s.provesKWP(mechanism, wrapping, host) })
		switch {
		case refusal == nil:
			return kwpMechanism{mechanism: mechanism}, nil
		case !s.refusal(refusal):
			return found, refusal
		}
		found.refusal = fmt.Errorf("%w; mechanism %#x: %v", found.refusal, mechanism, refusal)
	}
	return found, nil
}

// twice tries once more what has failed for a reason that may pass.
func (s *session) twice(try func() error) error {
	err := try()
	if err != nil && (ambiguous(err) || hasCode(err, pkcs11.CKR_DEVICE_ERROR)) {
		err = try()
	}
	return err
}

// refusal tells whether an error is the token's last word on what was tried, and no loss of the session or the connection.
func (s *session) refusal(err error) bool {
	if hasCode(err, pkcs11.CKR_DEVICE_ERROR) {
		return s.well()
	}
	return !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout)
}

// importTestKey makes a session object of a Wrap key that the host knows. A token that takes no key
// value in clear gets it under RSAES-OAEP.
func (s *session) importTestKey(kek []byte) (pkcs11.ObjectHandle, error) {
	template := append(Wrap.template(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
	h, refusal := s.create(append(slices.Clone(template), pkcs11.NewAttribute(pkcs11.CKA_VALUE, kek)))
	if refusal == nil || !s.refusal(refusal) {
		return h, refusal
	}
	private, _, err := s.generateTestPair(RSA2048, UnwrapPair)
	if err != nil {
		return 0, fmt.Errorf("%w (after %v)", err, refusal)
	}
	wrapped, err := s.encryptOAEP(private, keyTypes[RSA2048], crypto.SHA1, kek)
	if err == nil {
		h, err = s.unwrap(pkcs11.CKM_RSA_PKCS_OAEP, oaepParams(crypto.SHA1), private, wrapped, template)
	}
	if err = errors.Join(err, s.destroy(private)); err != nil {
		return 0, fmt.Errorf("%w (after %v)", err, refusal)
	}
	return h, nil
}

// kwpTestSize is the length of the secrets of the proof in bytes. It is no multiple of 8, so that
// padding is needed; RFC 5649 section 6 has a vector of this length.
const kwpTestSize = 20

// provesKWP tells whether a mechanism unwraps what the host has wrapped, and wraps what the host unwraps.
// AES-KWP checks itself: no other way of wrapping passes by chance.
func (s *session) provesKWP(mechanism uint, wrapping pkcs11.ObjectHandle, host *subtle.KWP) error {
	want := make([]byte, kwpTestSize)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	wrapped, err := host.Wrap(want)
	if err != nil {
		return err
	}
	got, err := s.unwrapSecret([]uint{mechanism}, wrapping, wrapped, kwpTestSize)
	if err != nil {
		return err
	}
	defer clear(got)
	if !bytes.Equal(got, want) {
		return errors.New("it unwraps another value than the host has wrapped")
	}
	secret, err := s.generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, dataKeyTemplate(kwpTestSize))
	if err != nil {
		return err
	}
	wrapped, err = s.wrapKey(mechanism, nil, wrapping, secret, kwpSize(kwpTestSize)+8)
	if err = errors.Join(err, s.destroy(secret)); err != nil {
		return err
	}
	value, err := host.Unwrap(wrapped)
	if err != nil {
		return fmt.Errorf("the host does not unwrap what it has wrapped: %w", err)
	}
	defer clear(value)
	// SoftHSM before 2.7.0 counts the zero padding into the length that it wraps.
	if n := len(value); n < kwpTestSize || n > (kwpTestSize+7)/8*8 || !bytes.Equal(value[kwpTestSize:], make([]byte, n-kwpTestSize)) {
		return fmt.Errorf("it has wrapped a secret of %d bytes instead of %d", n, kwpTestSize)
	}
	return nil
}

// unwrapMechanisms are the mechanisms to open what was wrapped with: the one that is recorded, the
// token's AES-KWP, and, when none was recorded, those that an earlier version may have used. All of them
// are tried, since tokens of different makes have AES-KWP under different numbers.
func (s *session) unwrapMechanisms(recorded uint) ([]uint, error) {
	var mechanisms []uint
	if slices.Contains(s.profile.kwpCandidates(), recorded) { // the record is not the token's word
		mechanisms = append(mechanisms, recorded)
	}
	proved, err := s.kwp()
	switch {
	case err == nil && proved != recorded:
		mechanisms = append(mechanisms, proved)
	case err != nil && !errors.Is(err, ErrUnsupported):
		return nil, err
	}
	if recorded == 0 {
		for _, m := range s.profile.kwpCandidates() {
			if !slices.Contains(mechanisms, m) {
				mechanisms = append(mechanisms, m)
			}
		}
	}
	return mechanisms, nil
}

// unwrapAny is C_UnwrapKey with the first of these mechanisms that does it. The error is that of the first.
func (s *session) unwrapAny(mechanisms []uint, unwrapping pkcs11.ObjectHandle, wrapped []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	var first error
	for _, mechanism := range mechanisms {
		h, err := s.unwrap(mechanism, nil, unwrapping, wrapped, template)
		if err == nil || lost(err) {
			return h, err
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("%w: AES-KWP (RFC 5649)", ErrUnsupported)
	}
	return 0, first
}

// KWPMechanism gives the CKM_ number of the token's AES-KWP, for whoever records it beside what is
// wrapped; ErrUnsupported when the token has none.
func (t *Token) KWPMechanism(ctx context.Context) (uint, error) {
	if c := t.current.Load(); c != nil { // without a session, when it is known
		if found := c.probes.kwp.known.Load(); found != nil {
			return found.mechanism, found.refusal
		}
	}
	return runGenerate(ctx, t, func(s *session) (uint, error) { return s.kwp() })
}

// secretSizes remembers of each size of a data key whether GenerateWrapped can make it.
type secretSizes [maxSecretSize + 1]atomic.Int32

// maxSecretSize is the largest size of a data key in bytes, AWS's limit of NumberOfBytes.
const maxSecretSize = 1024

const (
	sizeUnknown int32 = iota
	sizeWorks
	sizeRefused
)

// CanGenerateWrapped tells whether the token can make a secret of n bytes with GenerateWrapped and open
// it with DecryptWrapped. Tokens differ in the sizes that they take, so each is tried once a connection,
// when it is first asked for.
func (t *Token) CanGenerateWrapped(ctx context.Context, n int) (bool, error) {
	if n < 1 || n > maxSecretSize {
		return false, nil
	}
	if c := t.current.Load(); c != nil {
		if known := c.secretSizes[n].Load(); known != sizeUnknown {
			return known == sizeWorks, nil
		}
	}
	return runGenerate(ctx, t, func(s *session) (bool, error) {
		err := s.trySecretSize(n)
		if known := s.secretSizes[n].Load(); known != sizeUnknown {
			s.broken = s.broken || err != nil
			return known == sizeWorks, nil
		}
		return false, err
	})
}

// trySecretSize is testSecretSize, and remembers the result unless the connection is lost.
func (s *session) trySecretSize(n int) error {
	err := s.twice(func() error { return s.testSecretSize(n) })
	switch {
	case err == nil:
		s.secretSizes[n].Store(sizeWorks)
	case s.refusal(err):
		s.secretSizes[n].Store(sizeRefused)
	}
	return err
}

// testKWP gives the token's AES-KWP, and a key for it that ends with the session.
func (s *session) testKWP() (mechanism uint, wrapping pkcs11.ObjectHandle, err error) {
	if mechanism, err = s.kwp(); err == nil {
		wrapping, err = s.generateTestKey(Wrap)
	}
	return mechanism, wrapping, err
}

// testSecretSize generates, wraps and unwraps a secret, as GenerateWrapped and DecryptWrapped do.
func (s *session) testSecretSize(n int) (err error) {
	mechanism, wrapping, err := s.testKWP()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.destroy(wrapping)) }()
	wrapped, err := s.generateWrappedSecret(mechanism, wrapping, n)
	if err != nil {
		return err
	}
	first, err := s.unwrapSecret([]uint{mechanism}, wrapping, wrapped, n)
	if err != nil {
		return fmt.Errorf("unwrap a secret of %d bytes: %w", n, err)
	}
	defer clear(first)
	second, err := s.unwrapSecret([]uint{mechanism}, wrapping, wrapped, n)
	if err != nil || !bytes.Equal(first, second) {
		return fmt.Errorf("a secret of %d bytes came back changed", n)
	}
	clear(second)
	wrapped[len(wrapped)-1] ^= 1
	if _, err := s.unwrapSecret([]uint{mechanism}, wrapping, wrapped, n); err == nil {
		return errors.New("a changed wrapped secret was accepted")
	} else if lost(err) {
		return err
	}
	return nil
}
