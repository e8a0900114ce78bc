package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// ImportAlgorithm says how key material is wrapped under an UnwrapPair's public key.
type ImportAlgorithm int

// Import algorithms. RSAAESKeyWrap is CKM_RSA_AES_KEY_WRAP of PKCS#11 v2.40 section 2.1.21: an AES-256 key of its own under
// RSAES-OAEP, and behind it the material under AES-KWP of that key (RFC 5649).
const (
	OAEPSHA1 ImportAlgorithm = iota + 1
	OAEPSHA256
	RSAAESKeyWrapSHA1
	RSAAESKeyWrapSHA256
)

func (a ImportAlgorithm) hash() crypto.Hash {
	switch a {
	case OAEPSHA1, RSAAESKeyWrapSHA1:
		return crypto.SHA1
	case OAEPSHA256, RSAAESKeyWrapSHA256:
		return crypto.SHA256
	}
	return 0
}

func (a ImportAlgorithm) hybrid() bool { return a == RSAAESKeyWrapSHA1 || a == RSAAESKeyWrapSHA256 }

// maxWrapped is an upper bound of wrapped key material, in bytes.
const maxWrapped = 512 + privateKeyBound

// Import describes key material that was made elsewhere and the object that it is to become: a Secret (Seal or a MAC purpose,
// raw bytes under OAEP) or a Pair (the private key's PKCS#8; RSA under RSAAESKeyWrap only, since it is too long for OAEP).
type Import struct {
	Wrapping     ObjectID // an UnwrapPair
	WrappingType KeyType
	Algorithm    ImportAlgorithm
	Wrapped      []byte

	Secret *SecretKey // one of both
	Pair   *KeyPair
}

// Imported is what may be known of imported material.
type Imported struct {
	Public []byte // DER SubjectPublicKeyInfo of a pair

	// CheckValue is 32 bytes, the same for the same material, which they tell nothing of.
	CheckValue []byte
}

func (in Import) check() (wrapping, kt *keyType, err error) {
	wrapping, err = in.WrappingType.known()
	switch {
	case err != nil:
	case in.Algorithm.hash() == 0:
		err = fmt.Errorf("algorithm %d is unknown", in.Algorithm)
	case !wrapping.rsa():
		err = fmt.Errorf("a %s key unwraps nothing", wrapping.name)
	case (in.Secret == nil) == (in.Pair == nil):
		err = errors.New("give either a secret or a pair")
	case in.Secret != nil:
		if err = in.Secret.Purpose.check(); err == nil && (in.Secret.Purpose == Wrap || in.Algorithm.hybrid()) {
			err = fmt.Errorf("purpose %d is not imported with algorithm %d", in.Secret.Purpose, in.Algorithm)
		}
	default:
		if kt, err = in.Pair.check(); err == nil && (in.Pair.Purpose == UnwrapPair || kt.parameterSet != 0 || kt.rsa() && !in.Algorithm.hybrid()) {
			err = fmt.Errorf("a %s pair for purpose %d is not imported with algorithm %d", kt.name, in.Pair.Purpose, in.Algorithm)
		}
	}
	return wrapping, kt, err
}

// Import unwraps key material into a token object: sensitive, not extractable, not modifiable, which is verified of every
// object. What does not open gives ErrAuthentication; what opens and does not fit, by size, type or curve, ErrMaterial.
//
// Secrets, and RSA pairs, are unwrapped in the token and in no other memory. Elsewhere once, in this process's memory, which
// is cleared, are
//   - private keys of the curves, always: a token gives out the public point of no private key, and SoftHSM unwraps no
//     Ed25519 key,
//   - with SHA-256, on tokens that refuse OAEP with it (see DecryptOAEP): secrets, and the AES key of RSAAESKeyWrap,
//   - on tokens that don't tell the length of a secret that they have unwrapped (SoftHSM): the same, to be counted.
//
// CKM_RSA_AES_KEY_WRAP itself is not called; its two steps are.
func (t *Token) Import(ctx context.Context, in Import) (Imported, error) {
	wrapping, kt, err := in.check()
	if err != nil {
		return Imported{}, fmt.Errorf("import: %w", err)
	}
	if n := len(in.Wrapped); n > maxWrapped || n < wrapping.size || n != wrapping.size && !in.Algorithm.hybrid() {
		return Imported{}, fmt.Errorf("%w: import %d bytes under %s", ErrAuthentication, n, wrapping.name)
	}
	in.Wrapped = bytes.Clone(in.Wrapped)
	return run(ctx, t, func(s *session) (Imported, error) {
		h, err := s.lookup(in.Wrapping)
		if err != nil {
			return Imported{}, err
		}
		u, err := s.unwrapper(h, wrapping, in.Algorithm.hash())
		if err != nil {
			return Imported{}, err
		}
		if in.Secret != nil {
			return u.importSecret(*in.Secret, in.Wrapped)
		}
		return u.importPair(*in.Pair, kt, in.Algorithm.hybrid(), in.Wrapped)
	})
}

func (u *unwrapper) importSecret(k SecretKey, wrapped []byte) (Imported, error) {
	h, err := u.secret(k.template(), k.Purpose.size(), wrapped)
	if err != nil {
		return Imported{}, err
	}
	value, err := u.checkValue(h, k.Purpose)
	return u.keep(h, k.ID, Imported{CheckValue: value}, err)
}

func (u *unwrapper) importPair(k KeyPair, kt *keyType, hybrid bool, wrapped []byte) (_ Imported, err error) {
	template, err := u.tokenTemplate(k, kt)
	if err != nil {
		return Imported{}, err
	}
	var h pkcs11.ObjectHandle
	var spki []byte
	if kt.rsa() {
		h, spki, err = u.rsaPair(k, kt, template, wrapped)
	} else {
		h, spki, err = u.curvePair(kt, template, hybrid, wrapped)
	}
	if err != nil {
		return Imported{}, err
	}
	sum := sha256.Sum256(spki)
	return u.keep(h, k.ID, Imported{Public: spki, CheckValue: sum[:]}, nil)
}

// keep makes a new object known, if nothing is wrong with it and the token has given it the attributes that were asked
// for; otherwise it destroys the object.
func (s *session) keep(h pkcs11.ObjectHandle, id ObjectID, done Imported, err error) (Imported, error) {
	if err == nil {
		err = s.staysInside(h)
	}
	if err != nil {
		return Imported{}, errors.Join(err, s.destroy(h))
	}
	return done, s.created(id, h)
}

func (s *session) staysInside(h pkcs11.ObjectHandle) error {
	values, err := s.attributes(h, pkcs11.CKA_SENSITIVE, pkcs11.CKA_EXTRACTABLE)
	if err == nil && (!bytes.Equal(values[0], []byte{1}) || !bytes.Equal(values[1], []byte{0})) {
		err = &kindError{"the token made a key that can leave it", ErrUnsupported}
	}
	return err
}

// checkValue is a hash of what a key makes of a constant. A Seal key encrypts it under the IV of zeros. GCM breaks when two
// messages are encrypted under one IV; this IV has no other message whose ciphertext is ever seen, except with the
// probability of 2^-96 that any two IVs have of being equal, and even this ciphertext and its tag are seen as a hash only. Where IVs are the token's, it encrypts a block.
func (s *session) checkValue(h pkcs11.ObjectHandle, p Purpose) ([]byte, error) {
	constant := []byte("verenc/check value/1")
	var out []byte
	var err error
	if hash := p.hash(); hash != 0 {
		out, err = s.mac(h, hash, constant)
	} else if source, failed := s.ivs(); failed != nil {
		err = failed
	} else if source == callersIV {
		iv := [ivSize]byte{}
		out, _, err = s.gcm(cryptoki.Encrypt, h, &iv, constant, nil)
		if err == nil && iv != [ivSize]byte{} {
			err = fmt.Errorf("import: %w: the token has changed the initialisation vector", ErrUnsupported)
		}
	} else {
		block := sha256.Sum256(constant)
		out, _, err = s.once(cryptoki.Encrypt, pkcs11.CKM_AES_ECB, nil, h, block[:aes.BlockSize], aes.BlockSize)
	}
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(out)
	return sum[:], nil
}
