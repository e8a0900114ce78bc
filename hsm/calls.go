package hsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"

	"github.com/verenc/kms/hsm/cryptoki"
)

// step stands before every C call in a session: none is made with handles of a connection that is lost.
func (s *session) step() error {
	if s.dead.Load() {
		return errLost
	}
	s.steps++
	if s.watchdog != nil {
		s.watchdog.Reset(s.searchCall)
	}
	return nil
}

// stepObject is step before a call that makes an object. One that makes a token object is never made again, whatever became of it;
// so an idle session, which the token may have closed, is asked first whether it is still there.
func (s *session) stepObject(template []*pkcs11.Attribute) error {
	if s.idled && s.steps == 0 && ofToken(template) {
		if err := s.step(); err != nil {
			return err
		}
		if _, err := s.lib.module.SessionState(s.handle); err != nil {
			return failed("C_GetSessionInfo", err)
		}
	}
	return s.step()
}

// createdObject gives the error of a call that makes an object. A token without room for another one may answer
// CKR_HOST_MEMORY (opencryptoki): it does when it is well otherwise, and the object was to be a token object.
func (s *session) createdObject(call string, err error, template []*pkcs11.Attribute) error {
	err = failed(call, err)
	if hasCode(err, pkcs11.CKR_HOST_MEMORY) && ofToken(template) && s.well() {
		err = &callError{call: call, rv: pkcs11.CKR_HOST_MEMORY, kind: ErrFull}
	}
	return err
}

func ofToken(template []*pkcs11.Attribute) bool {
	return slices.ContainsFunc(template, func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_TOKEN && truth(a.Value) })
}

// operated gives the result of an operation, whose Init call may have been what failed.
func operated(o cryptoki.Operation, out []byte, started bool, err error) ([]byte, bool, error) {
	call := o.String()
	if !started {
		call += "Init"
	}
	return out, started, failed(call, err)
}

// gcm encrypts or decrypts with CKM_AES_GCM into a new slice. A token may overwrite the IV when it encrypts. started
// tells whether the Init call succeeded.
func (s *session) gcm(o cryptoki.Operation, key pkcs11.ObjectHandle, iv *[ivSize]byte, in, aad []byte) (_ []byte, started bool, err error) {
	if err := s.step(); err != nil {
		return nil, false, err
	}
	var ivBytes []byte
	if iv != nil {
		ivBytes = iv[:]
	}
	out, started, err := s.lib.module.GCM(s.handle, o, key, ivBytes, aad, in, len(in)+2*tagSize) // room for an IV behind the tag
	return operated(o, out, started, err)
}

// once is an operation whose output has at most size bytes. The parameters of its mechanism hold no pointers.
func (s *session) once(o cryptoki.Operation, mechanism uint, params []byte, key pkcs11.ObjectHandle, in []byte, size int) (_ []byte, started bool, err error) {
	if err := s.step(); err != nil {
		return nil, false, err
	}
	out, started, err := s.lib.module.Operate(s.handle, o, mechanism, params, key, in, size)
	return operated(o, out, started, err)
}

// wrapKey is C_WrapKey. The mechanism's parameter holds no pointers. size is an upper bound of the output in bytes.
func (s *session) wrapKey(mechanism uint, params []byte, wrapping, key pkcs11.ObjectHandle, size int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out, err := s.lib.module.WrapKey(s.handle, mechanism, params, wrapping, key, size)
	return out, failed("C_WrapKey", err)
}

// value reads CKA_VALUE, at most size bytes.
func (s *session) value(object pkcs11.ObjectHandle, size int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out, err := s.lib.module.Value(s.handle, object, size)
	return out, failed("C_GetAttributeValue", err)
}

// create is C_CreateObject, without a copy of any value in C memory.
func (s *session) create(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.lib.module.CreateObject(s.handle, s.profile.allowed(template))
	return h, s.createdObject("C_CreateObject", err, template)
}

// setAttributes is C_SetAttributeValue.
func (s *session) setAttributes(h pkcs11.ObjectHandle, template []*pkcs11.Attribute) error {
	if err := s.step(); err != nil {
		return err
	}
	return failed("C_SetAttributeValue", s.lib.module.SetAttributes(s.handle, h, template))
}

// copyObject is C_CopyObject.
func (s *session) copyObject(h pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.lib.module.CopyObject(s.handle, h, template)
	return h, failed("C_CopyObject", err)
}

// decapsulate is C_DecapsulateKey of PKCS#11 v3.2.
func (s *session) decapsulate(mechanism uint, key pkcs11.ObjectHandle, ciphertext []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.step(); err != nil {
		return 0, err
	}
	h, err := s.lib.module.Decapsulate(s.handle, mechanism, key, ciphertext, s.profile.allowed(template))
	return h, failed("C_DecapsulateKey", err)
}

// random is C_GenerateRandom.
func (s *session) random(n int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out, err := s.lib.module.Random(s.handle, n)
	return out, failed("C_GenerateRandom", err)
}

// generate is C_GenerateKey.
func (s *session) generate(mechanism uint, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	h, err := s.callGenerateKey(mechanism, template)
	return h, s.orUnsupported(err, template, func(asSessionObject []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
		h, err := s.callGenerateKey(mechanism, asSessionObject)
		return []pkcs11.ObjectHandle{h}, err
	})
}

func (s *session) callGenerateKey(mechanism uint, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.lib.module.GenerateKey(s.handle, mechanism, s.profile.allowed(template))
	return h, s.createdObject("C_GenerateKey", err, template)
}

// destroy ends an object. A session object that can't be destroyed marks the session broken: closing it ends the object.
func (s *session) destroy(h pkcs11.ObjectHandle) error {
	defer keepOut(s.lib.objects)()
	if err := s.step(); err != nil {
		return err
	}
	err := failed("C_DestroyObject", s.lib.module.DestroyObject(s.handle, h))
	s.broken = s.broken || err != nil
	return err
}

func (s *session) unwrap(mechanism uint, params []byte, unwrapping pkcs11.ObjectHandle, wrapped []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.lib.module.UnwrapKey(s.handle, mechanism, params, unwrapping, wrapped, s.profile.allowed(template))
	return h, s.createdObject("C_UnwrapKey", err, template)
}

// deriveECDH is C_DeriveKey with CKM_ECDH1_DERIVE.
func (s *session) deriveECDH(base pkcs11.ObjectHandle, kdf uint, peer []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.step(); err != nil {
		return 0, err
	}
	h, err := s.lib.module.DeriveECDH(s.handle, base, kdf, peer, s.profile.allowed(template))
	return h, failed("C_DeriveKey", err)
}

// generateKeyPair is C_GenerateKeyPair.
func (s *session) generateKeyPair(mechanism uint, public, private []*pkcs11.Attribute) (pub, priv pkcs11.ObjectHandle, err error) {
	pub, priv, err = s.callGenerateKeyPair(mechanism, public, private)
	return pub, priv, s.orUnsupported(err, private, func(asSessionObject []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
		pub, priv, err := s.callGenerateKeyPair(mechanism, public, asSessionObject)
		return []pkcs11.ObjectHandle{pub, priv}, err
	})
}

func (s *session) callGenerateKeyPair(mechanism uint, public, private []*pkcs11.Attribute) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.generators)()
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(private); err != nil {
		return 0, 0, err
	}
	pub, priv, err := s.lib.module.GenerateKeyPair(s.handle, mechanism, s.profile.allowed(public), s.profile.allowed(private))
	return pub, priv, s.createdObject("C_GenerateKeyPair", err, private)
}

// orUnsupported gives the error of a call that generates. A token may answer CKR_DEVICE_ERROR for a mechanism or an attribute
// that it does not know, or that its protocol does not carry (p11-kit). It means that, and no trouble of the device, when the
// token generates a plain key, and still answers the same for what was asked, made as a session object.
func (s *session) orUnsupported(err error, template []*pkcs11.Attribute, generate func(asSessionObject []*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error)) error {
	if !hasCode(err, pkcs11.CKR_DEVICE_ERROR) || !s.well() {
		return err
	}
	plain, probe := s.callGenerateKey(Seal.mechanism(), testKeyTemplate(Seal))
	if probe != nil || s.destroy(plain) != nil {
		return err
	}
	template = slices.DeleteFunc(slices.Clone(template), func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_TOKEN })
	objects, probe := generate(slices.Insert(template, 0, pkcs11.NewAttribute(pkcs11.CKA_TOKEN, false)))
	if probe == nil {
		return errors.Join(err, s.destroyAll(objects)) // it was a moment's trouble
	}
	if !hasCode(probe, pkcs11.CKR_DEVICE_ERROR) {
		return err
	}
	var e *callError
	errors.As(err, &e)
	return &callError{call: e.call, rv: e.rv, kind: ErrUnsupported}
}

// attributes reads attributes of an object, in their order. All of them must be there.
func (s *session) attributes(h pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	values, err := s.lib.module.Attributes(s.handle, h, types...)
	if err != nil {
		return nil, failed("C_GetAttributeValue", err)
	}
	for i, v := range values {
		if v == nil {
			return nil, fmt.Errorf("C_GetAttributeValue: attribute %#x is not available", types[i])
		}
	}
	return values, nil
}

// attributesIfAny reads attributes that a token need not have: those that it does not give are nil.
func (s *session) attributesIfAny(h pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	values, err := s.lib.module.Attributes(s.handle, h, types...)
	err = failed("C_GetAttributeValue", err)
	if hasCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE, pkcs11.CKR_BUFFER_TOO_SMALL) {
		err = nil
	}
	return values, err
}

func (s *session) findInit(template []*pkcs11.Attribute) error {
	if err := s.step(); err != nil {
		return err
	}
	return failed("C_FindObjectsInit", s.lib.module.FindInit(s.handle, template))
}

func (s *session) findNext() ([]pkcs11.ObjectHandle, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	some, err := s.lib.module.FindNext(s.handle)
	return some, failed("C_FindObjects", err)
}

func (s *session) findFinal() error {
	if err := s.step(); err != nil {
		return err
	}
	return failed("C_FindObjectsFinal", s.lib.module.FindFinal(s.handle))
}

// loggedIn tells whether the session lives and its user is logged in.
func (s *session) loggedIn() bool {
	if s.step() != nil {
		return false
	}
	state, err := s.lib.module.SessionState(s.handle)
	return err == nil && state == pkcs11.CKS_RW_USER_FUNCTIONS && !s.dead.Load() // or it may be the next connection's login
}

// keepOut keeps searches out until what it returns is called.
func keepOut(lock *semaphore.Weighted) (release func()) {
	_ = lock.Acquire(context.Background(), 1) // it has no end that could fail it
	return func() { lock.Release(1) }
}

// ulongSize is that of a CK_ULONG in bytes: Go's uint is as long wherever there is cgo and dlopen.
const ulongSize = bits.UintSize / 8

// ulongs is a mechanism's parameter that has nothing but CK_ULONGs.
func ulongs(values ...uint) []byte {
	var out []byte
	for _, v := range values {
		if ulongSize == 4 {
			out = binary.NativeEndian.AppendUint32(out, uint32(v))
		} else {
			out = binary.NativeEndian.AppendUint64(out, uint64(v))
		}
	}
	return out
}

// ulong reads an attribute that is a CK_ULONG, 0 if it is none.
func ulong(value []byte) uint {
	switch {
	case len(value) != ulongSize:
		return 0
	case ulongSize == 4:
		return uint(binary.NativeEndian.Uint32(value))
	}
	return uint(binary.NativeEndian.Uint64(value))
}
