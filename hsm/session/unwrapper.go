package session

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/ckr"
	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// unwrapper opens what is wrapped under the public key of an RSA pair.
type unwrapper struct {
	*Session
	key     pkcs11.ObjectHandle
	keyType *keyobject.TypeInfo
	hash    crypto.Hash // of OAEP
	outside bool        // the token refuses that hash: the padding is removed here
}

// Unwrapper gives an unwrapper, which removes the padding of OAEP here if the token can't.
func (s *Session) Unwrapper(
	key pkcs11.ObjectHandle, kt *keyobject.TypeInfo, hash crypto.Hash,
) (u *unwrapper, err error) {
	u = &unwrapper{Session: s, key: key, keyType: kt, hash: hash}
	if hash == crypto.SHA256 {
		u.outside, err = s.refusesOAEPSHA256()
	}
	return u, err
}

// Secret makes a secret key object of size bytes from what is wrapped with OAEP.
func (u *unwrapper) Secret(template []*pkcs11.Attribute, size int, wrapped []byte) (pkcs11.ObjectHandle, error) {
	if u.outside {
		value, err := u.read(wrapped)
		if err != nil {
			return 0, err
		}
		defer clear(value)
		if len(value) != size {
			return 0, fmt.Errorf("%w: a secret of %d bytes instead of %d", ckr.ErrMaterial, len(value), size)
		}
		return u.Create(append(template, pkcs11.NewAttribute(pkcs11.CKA_VALUE, value)))
	}
	h, err := u.unwrapOrExplain(u.oaep(wrapped), template)
	if err != nil {
		return 0, err
	}
	// The template and the token may accept another length.
	n, err := u.length(h, wrapped)
	if err == nil && n != size {
		err = fmt.Errorf("%w: a secret of %d bytes instead of %d", ckr.ErrMaterial, n, size)
	}
	if err != nil {
		return 0, errors.Join(err, u.Destroy(h))
	}
	return h, nil
}

// length gives the length of a secret in bytes. SoftHSM sets the CKA_VALUE_LEN of what it unwraps
// to 0; there another copy of the secret is read, counted and cleared.
func (u *unwrapper) length(h pkcs11.ObjectHandle, wrapped []byte) (int, error) {
	values, err := u.Attributes(h, pkcs11.CKA_VALUE_LEN)
	if err != nil {
		return 0, err
	}
	if n := cryptoki.Ulong(values[0]); n != 0 && n != pkcs11.CK_UNAVAILABLE_INFORMATION {
		return int(n), nil
	}
	value, err := u.read(wrapped)
	clear(value)
	return len(value), err
}

// read gives the bytes that are wrapped with OAEP.
func (u *unwrapper) read(wrapped []byte) ([]byte, error) {
	if u.outside {
		return u.CheckedOAEP(u.key, u.keyType, u.hash, wrapped, u.decryptRaw)
	}
	h, err := u.unwrapOrExplain(u.oaep(wrapped), keyobject.ReadableSecret())
	if err != nil {
		return nil, err
	}
	return u.readOnce(h, len(wrapped))
}

// hybrid unwraps what RSAAESKeyWrap has wrapped into an object. The AES key, which comes first, is
// a session object meanwhile.
func (u *unwrapper) hybrid(wrapped []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	mechanism, err := u.KWP()
	if err != nil {
		return 0, err
	}
	ephemeral := append(keyobject.Wrap.Template(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
	aes, err := u.Secret(ephemeral, keyobject.AESKeySize, wrapped[:u.keyType.Size])
	if err != nil {
		return 0, err
	}
	h, err := u.unwrapOrExplain(u.aesKWP(mechanism, aes, wrapped[u.keyType.Size:]), template)
	if left := u.Destroy(aes); left != nil {
		if err == nil {
			err = u.Destroy(h)
		}
		return 0, errors.Join(err, left)
	}
	return h, err
}

// RSAPair unwraps a private key in the token and reads its public key there.
func (u *unwrapper) RSAPair(
	k keyobject.Pair, kt *keyobject.TypeInfo, template []*pkcs11.Attribute, wrapped []byte,
) (h pkcs11.ObjectHandle, spki []byte, err error) {
	h, err = u.hybrid(wrapped, template)
	if err != nil {
		return 0, nil, err
	}
	public, err := u.rsaPublic(h, kt)
	if err != nil {
		err = fmt.Errorf("%w: %w", ckr.ErrMaterial, err)
	} else {
		err = u.consistent(h, k, public)
	}
	if err == nil {
		spki, err = x509.MarshalPKIXPublicKey(public)
	}
	if err != nil {
		return 0, nil, errors.Join(err, u.Destroy(h))
	}
	return h, spki, nil
}

// consistent reports whether both halves of an RSA pair belong together: NIST SP 800-56B section
// 6.4.1.1.
func (u *unwrapper) consistent(h pkcs11.ObjectHandle, k keyobject.Pair, public *rsa.PublicKey) error {
	var err error
	if k.Purpose == keyobject.DecryptPair {
		err = u.opens(h, public)
	} else {
		err = u.signsFor(h, k.Type, public)
	}
	if err == nil || ckr.Lost(err) {
		return err
	}
	// The kind of err is about the test's own ciphertext.
	return fmt.Errorf("%w: the private key is not that of the public key: %v", ckr.ErrMaterial, err)
}

func (u *unwrapper) opens(h pkcs11.ObjectHandle, public *rsa.PublicKey) error {
	want := []byte("pairwise consistency")
	ciphertext, err := rsa.EncryptOAEP(u.hash.New(), rand.Reader, public, want, nil)
	if err != nil {
		return err
	}
	decrypt, err := u.OAEPDecrypter(u.hash)
	if err != nil {
		return err
	}
	got, err := decrypt(h, u.hash, ciphertext)
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("another plaintext")
	}
	return err
}

func (u *unwrapper) signsFor(h pkcs11.ObjectHandle, kt keyobject.Type, public *rsa.PublicKey) error {
	digest := make([]byte, crypto.SHA256.Size())
	call, err := Scheme{Algorithm: PKCS1v15, Hash: crypto.SHA256}.Call(kt, digest)
	if err != nil {
		return err
	}
	signature, err := u.Sign(h, call)
	if err != nil {
		return err
	}
	return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, signature)
}

// curvePair reads a private key and creates it.
func (u *unwrapper) curvePair(
	kt *keyobject.TypeInfo, template []*pkcs11.Attribute, hybrid bool, wrapped []byte,
) (pkcs11.ObjectHandle, []byte, error) {
	var pkcs8 []byte
	var err error
	if hybrid {
		var h pkcs11.ObjectHandle
		if h, err = u.hybrid(wrapped, keyobject.ReadableSecret()); err == nil {
			pkcs8, err = u.readOnce(h, len(wrapped))
		}
	} else {
		pkcs8, err = u.read(wrapped)
	}
	if err != nil {
		return 0, nil, err
	}
	defer clear(pkcs8)
	return u.CreatePair(kt, template, pkcs8)
}

// CreatePair creates a private key of a curve from its PKCS#8.
func (s *Session) CreatePair(
	kt *keyobject.TypeInfo, template []*pkcs11.Attribute, padded []byte,
) (pkcs11.ObjectHandle, []byte, error) {
	pkcs8, err := keyobject.TrimDER(padded)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ckr.ErrMaterial, err)
	}
	private, point, err := kt.ParsePKCS8(pkcs8)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", ckr.ErrMaterial, err)
	}
	defer clear(private)
	spki, err := kt.MarshalPoint(point)
	if err != nil {
		return 0, nil, err
	}
	h, err := s.Create(append(template,
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, kt.ECParams()),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE, private)))
	return h, spki, err
}

// unwrapping is C_UnwrapKey of given bytes into an object with a template.
type unwrapping func(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error)

func (u *unwrapper) oaep(wrapped []byte) unwrapping {
	return func(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
		return u.Unwrap(pkcs11.CKM_RSA_PKCS_OAEP, OAEPParams(u.hash), u.key, wrapped, template)
	}
}

func (u *unwrapper) aesKWP(mechanism uint, aes pkcs11.ObjectHandle, wrapped []byte) unwrapping {
	return func(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
		return u.Unwrap(mechanism, nil, aes, wrapped, template)
	}
}

// unwrapOrExplain unwraps into an object, and finds the cause of a failure. If the same bytes
// unwrap into a generic secret, the wrapping is right and the material is wrong (ErrMaterial). If
// the pair unwraps other bytes, the token works and these bytes are wrong (ErrAuthentication).
func (u *unwrapper) unwrapOrExplain(unwrap unwrapping, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	h, err := unwrap(template)
	if err == nil || !u.LoggedIn() || ckr.Lost(err) {
		return h, err
	}
	hidden := append(keyobject.SecretTemplate(pkcs11.CKK_GENERIC_SECRET), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false))
	if again, probe := unwrap(hidden); probe == nil {
		if probe = u.Destroy(again); probe != nil {
			return 0, unexplained(err, probe)
		}
		return unwrapAgain(unwrap, template, ckr.ErrMaterial)
	}
	if !ambiguous(err) && !errors.Is(err, ckr.ErrAuthentication) {
		return 0, err
	}
	want := binary.BigEndian.AppendUint64(nil, 0x5a5a5a5a)
	test, probe := u.EncryptOAEP(u.key, u.keyType, u.hash, want)
	if probe == nil {
		probe = u.reads(test, want)
	}
	if probe == nil {
		return unwrapAgain(unwrap, template, ckr.ErrAuthentication)
	}
	return 0, unexplained(err, probe)
}

// unwrapAgain tries again, and gives a second failure this kind and no other.
func unwrapAgain(unwrap unwrapping, template []*pkcs11.Attribute, kind error) (pkcs11.ObjectHandle, error) {
	h, err := unwrap(template)
	if err != nil && !ckr.Lost(err) {
		err = fmt.Errorf("%w: %v", kind, err)
	}
	return h, err
}

// reads checks that unwrapping gives a known value.
func (u *unwrapper) reads(wrapped, want []byte) error {
	var got []byte
	var err error
	if u.outside {
		got, err = u.decryptRaw(u.key, u.hash, wrapped)
	} else {
		var h pkcs11.ObjectHandle
		if h, err = u.oaep(wrapped)(keyobject.ReadableSecret()); err == nil {
			got, err = u.readOnce(h, len(wrapped))
		}
	}
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("the wrapping key gives another value than was wrapped")
	}
	return err
}
