package session

import (
	"crypto"
	"crypto/aes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// ImportAlgorithm says how key material is wrapped under an UnwrapPair's public key.
type ImportAlgorithm int

// Import algorithms. RSAAESKeyWrap is CKM_RSA_AES_KEY_WRAP of PKCS#11 v2.40 section 2.1.21: an
// AES-256 key of its own under RSAES-OAEP, and behind it the material under AES-KWP of that key
// (RFC 5649).
const (
	OAEPSHA1 ImportAlgorithm = iota + 1
	OAEPSHA256
	RSAAESKeyWrapSHA1
	RSAAESKeyWrapSHA256
)

// Hash is the one of OAEP, 0 for an unknown algorithm.
func (a ImportAlgorithm) Hash() crypto.Hash {
	switch a {
	case OAEPSHA1, RSAAESKeyWrapSHA1:
		return crypto.SHA1
	case OAEPSHA256, RSAAESKeyWrapSHA256:
		return crypto.SHA256
	}
	return 0
}

// Hybrid reports whether the material is wrapped with an AES key of its own.
func (a ImportAlgorithm) Hybrid() bool { return a == RSAAESKeyWrapSHA1 || a == RSAAESKeyWrapSHA256 }

// maxWrapped is an upper bound of wrapped key material, in bytes.
const maxWrapped = 512 + keyobject.PrivateKeyBound

// Import describes key material that was made outside of the token, and the object that it is to
// become: a Secret (Seal or a MAC purpose, raw bytes under OAEP) or a Pair (the private key's
// PKCS#8; RSA under RSAAESKeyWrap only, since it is too long for OAEP).
type Import struct {
	Wrapping     keyobject.ID // an UnwrapPair
	WrappingType keyobject.Type
	Algorithm    ImportAlgorithm
	Wrapped      []byte

	Secret *keyobject.Secret // one of both
	Pair   *keyobject.Pair
}

// Imported describes imported material without giving it away.
type Imported struct {
	Public []byte // DER SubjectPublicKeyInfo of a pair

	// CheckValue is 32 bytes that are the same for the same material, and reveal nothing of it.
	CheckValue []byte
}

// Check refuses what no token can import, and a Wrapped of an impossible length.
func (in Import) Check() error {
	wrapping, err := in.WrappingType.Known()
	var kt *keyobject.TypeInfo
	switch {
	case err != nil:
	case in.Algorithm.Hash() == 0:
		err = fmt.Errorf("algorithm %d is unknown", in.Algorithm)
	case !wrapping.RSA():
		err = fmt.Errorf("a %s key unwraps nothing", wrapping.Name)
	case (in.Secret == nil) == (in.Pair == nil):
		err = errors.New("give either a secret or a pair")
	case in.Secret != nil:
		if err = in.Secret.Purpose.Check(); err == nil &&
			(in.Secret.Purpose == keyobject.Wrap || in.Algorithm.Hybrid()) {
			err = fmt.Errorf("purpose %d is not imported with algorithm %d", in.Secret.Purpose, in.Algorithm)
		}
	default:
		if kt, err = in.Pair.Check(); err == nil &&
			(in.Pair.Purpose == keyobject.UnwrapPair || kt.ParameterSet != 0 || kt.RSA() && !in.Algorithm.Hybrid()) {
			err = fmt.Errorf(
				"a %s pair for purpose %d is not imported with algorithm %d", kt.Name, in.Pair.Purpose,
				in.Algorithm,
			)
		}
	}
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	if n := len(in.Wrapped); n > maxWrapped || n < wrapping.Size || n != wrapping.Size && !in.Algorithm.Hybrid() {
		return fmt.Errorf("%w: import %d bytes under %s", ckr.ErrAuthentication, n, wrapping.Name)
	}
	return nil
}

// ID is the CKA_ID of the new object.
func (in Import) ID() keyobject.ID {
	if in.Secret != nil {
		return in.Secret.ID
	}
	return in.Pair.ID
}

// Import unwraps key material into a token object. wrapping is the handle of in.Wrapping. On an
// error no object is left.
func (s *Session) Import(wrapping pkcs11.ObjectHandle, in Import) (h pkcs11.ObjectHandle, done Imported, err error) {
	u, err := s.Unwrapper(wrapping, in.WrappingType.Info(), in.Algorithm.Hash())
	if err != nil {
		return 0, Imported{}, err
	}
	if in.Secret != nil {
		h, done, err = u.importSecret(*in.Secret, in.Wrapped)
	} else {
		h, done, err = u.importPair(*in.Pair, in.Pair.Type.Info(), in.Algorithm.Hybrid(), in.Wrapped)
	}
	if err != nil {
		return 0, Imported{}, err
	}
	if err := s.DestroyIfExtractable(h); err != nil {
		return 0, Imported{}, err
	}
	return h, done, nil
}

func (u *unwrapper) importSecret(k keyobject.Secret, wrapped []byte) (pkcs11.ObjectHandle, Imported, error) {
	h, err := u.Secret(k.Template(), k.Purpose.Size(), wrapped)
	if err != nil {
		return 0, Imported{}, err
	}
	value, err := u.CheckValue(h, k.Purpose)
	if err != nil {
		return 0, Imported{}, errors.Join(err, u.Destroy(h))
	}
	return h, Imported{CheckValue: value}, nil
}

func (u *unwrapper) importPair(
	k keyobject.Pair, kt *keyobject.TypeInfo, hybrid bool, wrapped []byte,
) (h pkcs11.ObjectHandle, done Imported, err error) {
	template, err := u.TokenTemplate(k, kt)
	if err != nil {
		return 0, Imported{}, err
	}
	var spki []byte
	if kt.RSA() {
		h, spki, err = u.RSAPair(k, kt, template, wrapped)
	} else {
		h, spki, err = u.curvePair(kt, template, hybrid, wrapped)
	}
	if err != nil {
		return 0, Imported{}, err
	}
	sum := sha256.Sum256(spki)
	return h, Imported{Public: spki, CheckValue: sum[:]}, nil
}

// CheckValue is a hash of a constant's ciphertext or MAC under a key. A Seal key encrypts it under
// the IV of zeros. GCM breaks when two messages are encrypted under one IV; this IV has no other
// message whose ciphertext is ever seen, except with the probability of 2^-96 that any two IVs have
// of being equal, and even this ciphertext and its tag are seen as a hash only. If the token
// chooses IVs, the key encrypts a block with AES-ECB.
func (s *Session) CheckValue(h pkcs11.ObjectHandle, p keyobject.Purpose) ([]byte, error) {
	constant := []byte("verenc/check value/1")
	var out []byte
	var err error
	if hash := p.Hash(); hash != 0 {
		out, err = s.MAC(h, hash, constant)
	} else if source, failed := s.ivs(); failed != nil {
		err = failed
	} else if source == callersIV {
		iv := [IVSize]byte{}
		out, _, err = s.gcm(cryptoki.Encrypt, h, &iv, constant, nil, make([]byte, gcmRoom(len(constant))))
		if err == nil && iv != [IVSize]byte{} {
			err = fmt.Errorf("import: %w: the token has changed the initialisation vector", ckr.ErrUnsupported)
		}
	} else {
		block := sha256.Sum256(constant)
		out, _, err = s.operate(cryptoki.Encrypt, pkcs11.CKM_AES_ECB, nil, h, block[:aes.BlockSize], aes.BlockSize)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(out)
	return sum[:], nil
}
