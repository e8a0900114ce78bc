package session

import (
	"errors"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
)

const (
	IVSize  = 12 // bytes; NIST SP 800-38D section 8.2: the length GCM is built for
	tagSize = 16 // bytes; NIST SP 800-38D section 5.2.1.2: the longest tag
)

// Overhead is how many bytes longer than its plaintext a box of Encrypt is: IV and tag.
const Overhead = IVSize + tagSize

// gcmRoom is how many bytes an answer of CKM_AES_GCM may have: there is room for an IV behind the tag.
func gcmRoom(in int) int { return in + 2*tagSize }

// Seal gives a box of AES-256-GCM (NIST SP 800-38D):
//
//	IV (12) | ciphertext (as long as plaintext) | tag (16)
func (s *Session) Seal(h pkcs11.ObjectHandle, plaintext, aad []byte) ([]byte, error) {
	return s.sealWith(s.Rand, h, plaintext, aad)
}

func (s *Session) sealWith(rand io.Reader, h pkcs11.ObjectHandle, plaintext, aad []byte) ([]byte, error) {
	source, err := s.ivs()
	if err != nil {
		return nil, err
	}
	if source == callersIV {
		if _, err := io.ReadFull(rand, s.iv[:]); err != nil {
			return nil, fmt.Errorf("draw an initialisation vector: %w", err)
		}
	}
	box := make([]byte, IVSize+gcmRoom(len(plaintext)))
	iv, out, err := s.encryptUnder(source, s.iv, h, plaintext, aad, box[IVSize:])
	if err != nil {
		return nil, err
	}
	if len(out) != len(plaintext)+tagSize {
		return nil, fmt.Errorf("C_Encrypt: %d bytes instead of %d", len(out), len(plaintext)+tagSize)
	}
	if iv == [IVSize]byte{} && source != callersIV {
		return nil, errors.New("C_Encrypt: no initialisation vector came back")
	}
	return append(append(box[:0], iv[:]...), out...), nil // out is where it belongs already
}

// Unseal opens a box. SoftHSM before 2.7.0 answers CKR_GENERAL_ERROR to a wrong tag, as a failing
// token does. So after such an error the key has to seal and open in this session: if it does, and
// fails to open the box again, the box is wrong.
func (s *Session) Unseal(h pkcs11.ObjectHandle, box, aad []byte) ([]byte, error) {
	if len(box) < Overhead {
		return nil, fmt.Errorf("%w: box of %d bytes", ckr.ErrAuthentication, len(box))
	}
	plaintext, unsure, err := s.tryBox(h, box, aad)
	if !unsure {
		return plaintext, err
	}
	if probe := s.SealsAndOpens(h); probe != nil {
		return nil, unexplained(err, probe)
	}
	if plaintext, unsure, err = s.tryBox(h, box, aad); unsure {
		err = fmt.Errorf("%w: %w", ckr.ErrAuthentication, err)
	}
	return plaintext, err
}

// tryBox decrypts. It is unsure if the error may be that of a wrong box or that of a failing token.
func (s *Session) tryBox(h pkcs11.ObjectHandle, box, aad []byte) (plaintext []byte, unsure bool, err error) {
	s.iv = [IVSize]byte(box)
	in := box[IVSize:]
	plaintext, started, err := s.gcm(cryptoki.Decrypt, h, &s.iv, in, aad, make([]byte, gcmRoom(len(in))))
	if err == nil && len(plaintext) != len(box)-Overhead {
		clear(plaintext)
		return nil, false, fmt.Errorf("C_Decrypt: %d bytes instead of %d", len(plaintext), len(box)-Overhead)
	}
	return plaintext, started && ckr.Has(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED), err
}

// SealsAndOpens checks that a key works in the session. The constant IV does no harm, since nobody
// sees the box.
func (s *Session) SealsAndOpens(h pkcs11.ObjectHandle) error {
	box, err := s.sealWith(constantIV{1}, h, []byte{0}, nil)
	if err != nil {
		return err
	}
	_, _, err = s.tryBox(h, box, nil)
	return err
}

// constantIV reads as one byte, repeated without end.
type constantIV [1]byte

func (c constantIV) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c[0]
	}
	return len(p), nil
}
