package session

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/verenc/kms/hsm/ckr"
)

// secretSizes remembers for each size of a data key whether the token can generate and wrap it.
type secretSizes [MaxSecretSize + 1]atomic.Int32

// MaxSecretSize is the largest size of a data key in bytes, AWS's limit of NumberOfBytes.
const MaxSecretSize = 1024

const (
	sizeUnknown int32 = iota
	sizeWorks
	sizeRefused
)

// TrySecretSize tries one size of a data key, and remembers the result unless the connection is lost.
func (s *Session) TrySecretSize(n int) error {
	err := s.tryTwice(func() error { return s.testSecretSize(n) })
	switch {
	case err == nil:
		s.secretSizes[n].Store(sizeWorks)
	case s.isRefusal(err):
		s.secretSizes[n].Store(sizeRefused)
	}
	return err
}

// testSecretSize generates, wraps and unwraps a secret, as GenerateWrapped and DecryptWrapped do.
func (s *Session) testSecretSize(n int) (err error) {
	mechanism, wrapping, err := s.NewKWPKey()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Destroy(wrapping)) }()
	wrapped, err := s.GenerateWrappedSecret(mechanism, wrapping, n)
	if err != nil {
		return err
	}
	first, err := s.UnwrapSecret([]uint{mechanism}, wrapping, wrapped, n)
	if err != nil {
		return fmt.Errorf("unwrap a secret of %d bytes: %w", n, err)
	}
	defer clear(first)
	second, err := s.UnwrapSecret([]uint{mechanism}, wrapping, wrapped, n)
	if err != nil || !bytes.Equal(first, second) {
		return fmt.Errorf("a secret of %d bytes came back changed", n)
	}
	clear(second)
	wrapped[len(wrapped)-1] ^= 1
	if _, err := s.UnwrapSecret([]uint{mechanism}, wrapping, wrapped, n); err == nil {
		return errors.New("a changed wrapped secret was accepted")
	} else if ckr.Lost(err) {
		return err
	}
	return nil
}

// KnownSecretSize reports whether GenerateWrapped makes secrets of n bytes, if that is known.
func (c *Shared) KnownSecretSize(n int) (works, known bool) {
	if n < 1 || n > MaxSecretSize {
		return false, true
	}
	found := c.secretSizes[n].Load()
	return found == sizeWorks, found != sizeUnknown
}
