package selftest

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/keyobject"
	"github.com/verenc/kms/hsm/session"
)

func testSeal(s *session.Session, _ *Keys) error {
	key, err := s.GenerateTestKey(keyobject.Seal)
	if err != nil {
		return err
	}
	for _, size := range []int{1, 32, 4096} {
		want, aad := bytes.Repeat([]byte{0x5a}, size), bytes.Repeat([]byte{0xa5}, 100)
		box, err := s.Seal(key, want, aad)
		if err != nil {
			return err
		}
		if bytes.Contains(box, want[:min(size, 16)]) && size > 1 {
			return errors.New("the ciphertext contains the plaintext")
		}
		got, err := s.Unseal(key, box, aad)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes came back changed", size)
		}
	}
	return nil
}

func testTamper(s *session.Session, _ *Keys) error {
	key, err := s.GenerateTestKey(keyobject.Seal)
	if err != nil {
		return err
	}
	aad := []byte("aad")
	box, err := s.Seal(key, []byte("plaintext"), aad)
	if err != nil {
		return err
	}
	for at := range box {
		changed := bytes.Clone(box)
		changed[at] ^= 1
		if _, err := s.Unseal(key, changed, aad); !errors.Is(err, ckr.ErrAuthentication) {
			return fmt.Errorf("byte %d changed: %w", at, accepted(err))
		}
	}
	if _, err := s.Unseal(key, box, []byte("other")); !errors.Is(err, ckr.ErrAuthentication) {
		return fmt.Errorf("other additional data: %w", accepted(err))
	}
	return nil
}
