package hsm

import (
	"context"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// Raw is a session of a token and keys in it, for benchmarks: the C calls of an operation and nothing around them.
type Raw struct {
	s    *session
	pair SealingKeys

	seal, wrap, rsa pkcs11.ObjectHandle
	template        []*pkcs11.Attribute
	digest          []byte
}

// NewRaw takes a session of the token for good.
func NewRaw(t *Token, keys SealingKeys, rsa Key) (*Raw, error) {
	c, err := t.begin(context.Background(), bounds{}, nil)
	if err != nil {
		return nil, err
	}
	s, err := c.session()
	if err != nil {
		return nil, err
	}
	r := &Raw{s: s, pair: keys, template: dataKeyTemplate(32), digest: make([]byte, 51)}
	r.seal, r.wrap, err = s.lookupPair(keys)
	if err == nil {
		r.rsa, err = s.lookup(rsa)
	}
	return r, err
}

// Close gives the session back.
func (r *Raw) Close(t *Token) {
	r.s.release()
	r.s.put()
	<-r.s.places
	t.done.Done()
}

// Encrypt is C_EncryptInit and C_Encrypt of 32 bytes.
func (r *Raw) Encrypt(aad []byte) error {
	_, _, err := r.s.gcm(cryptoki.Encrypt, r.seal, &[ivSize]byte{}, make([]byte, 32), aad)
	return err
}

// Decrypt is C_DecryptInit and C_Decrypt of a box.
func (r *Raw) Decrypt(box, aad []byte) error {
	iv := [ivSize]byte(box)
	_, _, err := r.s.gcm(cryptoki.Decrypt, r.seal, &iv, box[ivSize:], aad)
	return err
}

// GenerateDataKey is C_GenerateRandom of 32 bytes, and Encrypt.
func (r *Raw) GenerateDataKey(aad []byte) error {
	if _, err := r.s.random(32); err != nil {
		return err
	}
	return r.Encrypt(aad)
}

// GenerateWrapped is C_GenerateKey, C_WrapKey, C_EncryptInit, C_Encrypt and C_DestroyObject.
func (r *Raw) GenerateWrapped(aad []byte) error {
	h, err := r.s.generate(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, r.template)
	if err != nil {
		return err
	}
	wrapped, err := r.s.wrapKey(ckmAESKeyWrapPad, nil, r.wrap, h, kwpSize(32))
	if err != nil {
		return err
	}
	if _, _, err := r.s.gcm(cryptoki.Encrypt, r.seal, &[ivSize]byte{}, wrapped, aad); err != nil {
		return err
	}
	return r.s.destroy(h)
}

// DecryptWrapped is C_DecryptInit, C_Decrypt, C_UnwrapKey, C_GetAttributeValue and C_DestroyObject.
func (r *Raw) DecryptWrapped(box, aad []byte) error {
	iv := [ivSize]byte(box)
	wrapped, _, err := r.s.gcm(cryptoki.Decrypt, r.seal, &iv, box[ivSize:], aad)
	if err != nil {
		return err
	}
	_, err = r.s.unwrapSecret([]uint{ckmAESKeyWrapPad}, r.wrap, wrapped, 32)
	return err
}

// SignRSA is C_SignInit and C_Sign with CKM_RSA_PKCS.
func (r *Raw) SignRSA() error {
	_, _, err := r.s.once(cryptoki.Sign, pkcs11.CKM_RSA_PKCS, nil, r.rsa, r.digest, 256)
	return err
}
