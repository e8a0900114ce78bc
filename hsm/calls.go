package hsm

/*
#cgo noescape ck_gcm
#cgo nocallback ck_gcm
#cgo noescape ck_once
#cgo nocallback ck_once
#cgo noescape ck_wrap
#cgo nocallback ck_wrap
#cgo noescape ck_value
#cgo nocallback ck_value
#cgo noescape ck_create
#cgo nocallback ck_create
#cgo noescape ck_decapsulate
#cgo nocallback ck_decapsulate
#cgo noescape ck_random
#cgo nocallback ck_random
#include "cryptoki.h"
*/
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"
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
		if _, err := s.lib.ctx.GetSessionInfo(s.handle); err != nil {
			return failed("C_GetSessionInfo", err)
		}
	}
	return s.step()
}

func ofToken(template []*pkcs11.Attribute) bool {
	return slices.ContainsFunc(template, func(a *pkcs11.Attribute) bool { return a.Type == pkcs11.CKA_TOKEN && truth(a.Value) })
}

// operation is a pair of calls: an Init call and the one that does all the work.
type operation struct {
	init int // position of the Init call in the function list
	call string
}

var (
	cEncrypt = operation{C.C_ENCRYPT_INIT, "C_Encrypt"}
	cDecrypt = operation{C.C_DECRYPT_INIT, "C_Decrypt"}
	cSign    = operation{C.C_SIGN_INIT, "C_Sign"}
)

// result gives the output of an operation, n bytes of out.
func (o operation) result(rv C.ck_rv, out []byte, n C.ck_ulong, began C.int) ([]byte, bool, error) {
	if rv != 0 {
		clear(out)
		call := o.call
		if began == 0 {
			call += "Init"
		}
		return nil, began != 0, failed(call, pkcs11.Error(rv))
	}
	if n > C.ck_ulong(len(out)) {
		clear(out)
		return nil, true, errors.New(o.call + ": output length is larger than its buffer")
	}
	return out[:n], true, nil
}

// gcm encrypts or decrypts with CKM_AES_GCM into a new slice. A token may overwrite the IV when it encrypts. started tells whether the Init call succeeded.
func (s *session) gcm(o operation, key pkcs11.ObjectHandle, iv *[ivSize]byte, in, aad []byte) (_ []byte, started bool, err error) {
	if err := s.step(); err != nil {
		return nil, false, err
	}
	out := make([]byte, len(in)+2*tagSize) // room for an IV behind the tag
	var ivPtr *C.uchar
	if iv != nil {
		ivPtr = bytePtr(iv[:])
	}
	n, began := C.ck_ulong(len(out)), C.int(0)
	rv := C.ck_gcm(s.lib.list, C.int(o.init), C.ck_ulong(s.handle), C.ck_ulong(key), ivPtr, bytePtr(aad), C.ck_ulong(len(aad)),
		bytePtr(in), C.ck_ulong(len(in)), bytePtr(out), &n, &began)
	return o.result(rv, out, n, began)
}

// once is an operation whose output has at most size bytes. The parameters of its mechanism hold no pointers.
func (s *session) once(o operation, mechanism uint, params []byte, key pkcs11.ObjectHandle, in []byte, size int) (_ []byte, started bool, err error) {
	if err := s.step(); err != nil {
		return nil, false, err
	}
	out := make([]byte, size)
	n, began := C.ck_ulong(size), C.int(0)
	rv := C.ck_once(s.lib.list, C.int(o.init), C.ck_ulong(s.handle), C.ck_ulong(mechanism), unsafe.Pointer(bytePtr(params)), C.ck_ulong(len(params)),
		C.ck_ulong(key), bytePtr(in), C.ck_ulong(len(in)), bytePtr(out), &n, &began)
	return o.result(rv, out, n, began)
}

// wrapKey is C_WrapKey with a mechanism that has no parameter. size is an upper bound of the output in bytes.
func (s *session) wrapKey(mechanism uint, wrapping, key pkcs11.ObjectHandle, size int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out := make([]byte, size)
	n := C.ck_ulong(size)
	if rv := C.ck_wrap(s.lib.list, C.ck_ulong(s.handle), C.ck_ulong(mechanism), C.ck_ulong(wrapping), C.ck_ulong(key), bytePtr(out), &n); rv != 0 {
		return nil, failed("C_WrapKey", pkcs11.Error(rv))
	}
	if int(n) > size {
		return nil, errors.New("C_WrapKey: output length is larger than its buffer")
	}
	return out[:n], nil
}

// value reads CKA_VALUE, at most size bytes.
func (s *session) value(object pkcs11.ObjectHandle, size int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out := make([]byte, size)
	n := C.ck_ulong(size)
	if rv := C.ck_value(s.lib.list, C.ck_ulong(s.handle), C.ck_ulong(object), bytePtr(out), &n); rv != 0 {
		return nil, failed("C_GetAttributeValue", pkcs11.Error(rv))
	}
	if n > C.ck_ulong(size) { // CK_UNAVAILABLE_INFORMATION is the largest CK_ULONG
		return nil, errors.New("C_GetAttributeValue: CKA_VALUE is not available")
	}
	return out[:n], nil
}

// create is C_CreateObject, without a copy of any value in C memory.
func (s *session) create(template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	attributes, unpin := pinned(s.profile.allowed(template))
	defer unpin()
	var object C.ck_ulong
	if rv := C.ck_create(s.lib.list, C.ck_ulong(s.handle), unsafe.SliceData(attributes), C.ck_ulong(len(attributes)), &object); rv != 0 {
		return 0, failed("C_CreateObject", pkcs11.Error(rv))
	}
	return pkcs11.ObjectHandle(object), nil
}

// pinned is a template whose values stay where they are until unpin.
func pinned(template []*pkcs11.Attribute) (attributes []C.struct_ck_attribute, unpin func()) {
	values := &runtime.Pinner{}
	attributes = make([]C.struct_ck_attribute, len(template))
	for i, a := range template {
		attributes[i]._type = C.ck_ulong(a.Type)
		if len(a.Value) > 0 {
			values.Pin(&a.Value[0])
			attributes[i].value, attributes[i].value_len = unsafe.Pointer(&a.Value[0]), C.ck_ulong(len(a.Value))
		}
	}
	return attributes, values.Unpin
}

// decapsulate is C_DecapsulateKey of PKCS#11 v3.2.
func (s *session) decapsulate(mechanism uint, key pkcs11.ObjectHandle, ciphertext []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.step(); err != nil {
		return 0, err
	}
	attributes, unpin := pinned(s.profile.allowed(template))
	defer unpin()
	var object C.ck_ulong
	if rv := C.ck_decapsulate(s.lib.v32, C.ck_ulong(s.handle), C.ck_ulong(mechanism), C.ck_ulong(key), unsafe.SliceData(attributes), C.ck_ulong(len(attributes)),
		bytePtr(ciphertext), C.ck_ulong(len(ciphertext)), &object); rv != 0 {
		return 0, failed("C_DecapsulateKey", pkcs11.Error(rv))
	}
	return pkcs11.ObjectHandle(object), nil
}

// random is C_GenerateRandom.
func (s *session) random(n int) ([]byte, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	out := make([]byte, n)
	if rv := C.ck_random(s.lib.list, C.ck_ulong(s.handle), bytePtr(out), C.ck_ulong(n)); rv != 0 {
		return nil, failed("C_GenerateRandom", pkcs11.Error(rv))
	}
	return out, nil
}

func (s *session) generate(mechanism uint, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.lib.ctx.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, s.profile.allowed(template))
	return h, failed("C_GenerateKey", err)
}

// destroy ends an object. A session object that can't be destroyed marks the session broken: closing it ends the object.
func (s *session) destroy(h pkcs11.ObjectHandle) error {
	defer keepOut(s.lib.objects)()
	if err := s.step(); err != nil {
		return err
	}
	err := failed("C_DestroyObject", s.lib.ctx.DestroyObject(s.handle, h))
	s.broken = s.broken || err != nil
	return err
}

func (s *session) unwrap(mechanism uint, params []byte, unwrapping pkcs11.ObjectHandle, wrapped []byte, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(template); err != nil {
		return 0, err
	}
	h, err := s.lib.ctx.UnwrapKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, params)}, unwrapping, wrapped, s.profile.allowed(template))
	return h, failed("C_UnwrapKey", err)
}

func (s *session) deriveKey(m *pkcs11.Mechanism, base pkcs11.ObjectHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.objects)()
	if err := s.step(); err != nil {
		return 0, err
	}
	h, err := s.lib.ctx.DeriveKey(s.handle, []*pkcs11.Mechanism{m}, base, s.profile.allowed(template))
	return h, failed("C_DeriveKey", err)
}

func (s *session) generateKeyPair(mechanism uint, public, private []*pkcs11.Attribute) (pkcs11.ObjectHandle, pkcs11.ObjectHandle, error) {
	defer keepOut(s.lib.generators)()
	defer keepOut(s.lib.objects)()
	if err := s.stepObject(private); err != nil {
		return 0, 0, err
	}
	pub, priv, err := s.lib.ctx.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, nil)}, s.profile.allowed(public), s.profile.allowed(private))
	return pub, priv, failed("C_GenerateKeyPair", err)
}

// attributes reads attributes of an object, in their order.
func (s *session) attributes(h pkcs11.ObjectHandle, types ...uint) ([][]byte, error) {
	template := make([]*pkcs11.Attribute, len(types))
	for i, t := range types {
		template[i] = pkcs11.NewAttribute(t, nil)
	}
	if err := s.step(); err != nil {
		return nil, err
	}
	got, err := s.lib.ctx.GetAttributeValue(s.handle, h, template)
	if err != nil {
		return nil, failed("C_GetAttributeValue", err)
	}
	if len(got) != len(types) {
		return nil, fmt.Errorf("C_GetAttributeValue: %d attributes instead of %d", len(got), len(types))
	}
	values := make([][]byte, len(got))
	for i, a := range got {
		values[i] = a.Value
	}
	return values, nil
}

func (s *session) findInit(template []*pkcs11.Attribute) error {
	if err := s.step(); err != nil {
		return err
	}
	return failed("C_FindObjectsInit", s.lib.ctx.FindObjectsInit(s.handle, template))
}

func (s *session) findNext() ([]pkcs11.ObjectHandle, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	some, _, err := s.lib.ctx.FindObjects(s.handle, 1024)
	return some, failed("C_FindObjects", err)
}

func (s *session) findFinal() error {
	if err := s.step(); err != nil {
		return err
	}
	return failed("C_FindObjectsFinal", s.lib.ctx.FindObjectsFinal(s.handle))
}

// insideOnly is the CKA_UNWRAP_TEMPLATE of a wrapping key: what it unwraps is sensitive and not extractable.
func insideOnly() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&C.ck_inside_only)), C.sizeof_ck_inside_only_t)
}

// loggedIn tells whether the session lives and its user is logged in.
func (s *session) loggedIn() bool {
	if s.step() != nil {
		return false
	}
	info, err := s.lib.ctx.GetSessionInfo(s.handle)
	return err == nil && info.State == pkcs11.CKS_RW_USER_FUNCTIONS && !s.dead.Load() // or it may be the next connection's login
}

// keepOut keeps searches out until what it returns is called.
func keepOut(lock *semaphore.Weighted) (release func()) {
	_ = lock.Acquire(context.Background(), 1) // it has no end that could fail it
	return func() { lock.Release(1) }
}

// ulongs is a mechanism's parameter that has nothing but CK_ULONGs.
func ulongs(values ...uint) []byte {
	words := make([]C.ck_ulong, len(values))
	for i, v := range values {
		words[i] = C.ck_ulong(v)
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), len(words)*int(unsafe.Sizeof(words[0])))
}

// ulong reads an attribute that is a CK_ULONG, 0 if it is none.
func ulong(value []byte) uint {
	if len(value) != C.sizeof_ck_ulong {
		return 0
	}
	if C.sizeof_ck_ulong == 4 {
		return uint(binary.NativeEndian.Uint32(value))
	}
	return uint(binary.NativeEndian.Uint64(value))
}

func bytePtr(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }
