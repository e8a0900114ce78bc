package bench_test

import (
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/cryptoki"
)

// rawToken is a session of a token and keys in it: the C calls of an operation, and nothing around
// them. An hsm.Token that is open in the same process has initialised the module and logged in.
type rawToken struct {
	module  cryptoki.Module
	session cryptoki.Session

	seal, wrap, rsa, ec, mac cryptoki.Object
}

const (
	ivSize  = 12
	tagSize = 16
	keySize = 32
)

// rawModule is the module that a token is in.
func rawModule(b *testing.B, path string) cryptoki.Module {
	m, err := cryptoki.Load(cryptoki.Config{Path: path})
	check(b, err)
	b.Cleanup(func() { check(b, m.Close()) }) // the token's own finalises it
	return m
}

// newRawTokens opens sessions on the token of a workbench.
func newRawTokens(b *testing.B, w *workbench, sessions int) (all []*rawToken) {
	m := w.raw
	slots, err := m.Slots()
	check(b, err)
	for _, slot := range slots {
		info, err := m.TokenInfo(slot)
		check(b, err)
		if info.SerialNumber != w.serial {
			continue
		}
		for range sessions {
			r := &rawToken{module: m}
			r.session, err = m.OpenSession(slot)
			check(b, err)
			r.seal, r.wrap = r.find(b, w.keys.Seal), r.find(b, w.keys.Wrap)
			r.rsa, r.ec, r.mac = r.find(b, w.rsa), r.find(b, w.ec), r.find(b, w.mac)
			all = append(all, r)
		}
		return all
	}
	b.Fatalf("no token has serial number %s", w.serial)
	return nil
}

// find finds a key's object; a workbench need not have every key.
func (r *rawToken) find(b *testing.B, key hsm.Key) cryptoki.Object {
	if key == nil {
		return 0
	}
	id := key.TokenObject()
	check(b, r.module.FindInit(r.session, []*cryptoki.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, id[:])}))
	found, err := r.module.FindNext(r.session)
	check(b, err)
	check(b, r.module.FindFinal(r.session))
	if len(found) != 1 {
		b.Fatalf("%d objects have CKA_ID %s", len(found), id)
	}
	return found[0]
}

func (r *rawToken) close(b *testing.B) { check(b, r.module.CloseSession(r.session)) }

func (r *rawToken) gcm(o cryptoki.Operation, iv, in, aad []byte) ([]byte, error) {
	out, _, err := r.module.GCM(r.session, o, r.seal, iv, aad, in, make([]byte, len(in)+2*tagSize))
	return out, err
}

// encrypt is C_EncryptInit and C_Encrypt of 32 bytes.
func (r *rawToken) encrypt(aad []byte) error {
	_, err := r.gcm(cryptoki.Encrypt, make([]byte, ivSize), make([]byte, keySize), aad)
	return err
}

// decrypt is C_DecryptInit and C_Decrypt of a box.
func (r *rawToken) decrypt(box, aad []byte) error {
	_, err := r.gcm(cryptoki.Decrypt, box[:ivSize:ivSize], box[ivSize:], aad)
	return err
}

// generateDataKey is C_GenerateRandom of 32 bytes, and encrypt.
func (r *rawToken) generateDataKey(aad []byte) error {
	if _, err := r.module.Random(r.session, keySize); err != nil {
		return err
	}
	return r.encrypt(aad)
}

// generateWrapped is C_GenerateKey, C_WrapKey, C_EncryptInit, C_Encrypt and C_DestroyObject.
func (r *rawToken) generateWrapped(aad []byte) error {
	h, err := r.module.GenerateKey(r.session, pkcs11.CKM_GENERIC_SECRET_KEY_GEN, []*cryptoki.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keySize),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	})
	if err != nil {
		return err
	}
	wrapped, err := r.module.WrapKey(r.session, pkcs11.CKM_AES_KEY_WRAP_PAD, nil, r.wrap, h, keySize+8)
	if err != nil {
		return err
	}
	if _, err := r.gcm(cryptoki.Encrypt, make([]byte, ivSize), wrapped, aad); err != nil {
		return err
	}
	return r.module.DestroyObject(r.session, h)
}

// decryptWrapped is C_DecryptInit, C_Decrypt, C_UnwrapKey, C_GetAttributeValue and C_DestroyObject.
func (r *rawToken) decryptWrapped(box, aad []byte) error {
	wrapped, err := r.gcm(cryptoki.Decrypt, box[:ivSize:ivSize], box[ivSize:], aad)
	if err != nil {
		return err
	}
	h, err := r.module.UnwrapKey(r.session, pkcs11.CKM_AES_KEY_WRAP_PAD, nil, r.wrap, wrapped, []*cryptoki.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, false),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true),
	})
	if err != nil {
		return err
	}
	if _, err := r.module.Value(r.session, h, len(wrapped)); err != nil {
		return err
	}
	return r.module.DestroyObject(r.session, h)
}

// signRSA is C_SignInit and C_Sign with CKM_RSA_PKCS.
func (r *rawToken) signRSA() error {
	const digestInfo, modulus = 51, 256 // bytes, of SHA-256 and RSA-2048
	_, _, err := r.module.Operate(
		r.session, cryptoki.Sign, pkcs11.CKM_RSA_PKCS, nil, r.rsa, make([]byte, digestInfo), modulus,
	)
	return err
}

// signECDSA is C_SignInit and C_Sign with CKM_ECDSA.
func (r *rawToken) signECDSA() error {
	const size = 64 // bytes of P-256
	_, _, err := r.module.Operate(r.session, cryptoki.Sign, pkcs11.CKM_ECDSA, nil, r.ec, make([]byte, keySize), size)
	return err
}

// generateMAC is C_SignInit and C_Sign with CKM_SHA256_HMAC.
func (r *rawToken) generateMAC() error {
	_, _, err := r.module.Operate(
		r.session, cryptoki.Sign, pkcs11.CKM_SHA256_HMAC, nil, r.mac, make([]byte, keySize), keySize,
	)
	return err
}
