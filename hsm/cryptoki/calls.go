package cryptoki

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
#cgo noescape ck_generate
#cgo nocallback ck_generate
#cgo noescape ck_unwrap
#cgo nocallback ck_unwrap
#cgo noescape ck_decapsulate
#cgo nocallback ck_decapsulate
#cgo noescape ck_random
#cgo nocallback ck_random
#cgo noescape ck_slots
#cgo nocallback ck_slots
#cgo noescape ck_mechanisms
#cgo nocallback ck_mechanisms
#cgo noescape ck_find
#cgo nocallback ck_find
#cgo noescape ck_attributes
#cgo nocallback ck_attributes
#include "calls.h"
*/
import "C"

import (
	"runtime"
	"strings"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// positions are those of the Init calls in the function list.
var positions = [...]C.int{Encrypt: C.C_ENCRYPT_INIT, Decrypt: C.C_DECRYPT_INIT, Sign: C.C_SIGN_INIT}

// fault gives the error of a return value.
func fault(rv C.ck_rv) error {
	if rv == 0 {
		return nil
	}
	return pkcs11.Error(rv)
}

// bounded gives the n elements that a module has written into a buffer. After a failure it clears the
// buffer, which may hold a secret.
func bounded[T any](call string, rv C.ck_rv, out []T, n C.ck_ulong) ([]T, error) {
	err := fault(rv)
	if err == nil && n > C.ck_ulong(len(out)) {
		err = tooLong(call)
	}
	if err != nil {
		clear(out)
		return nil, err
	}
	return out[:n], nil
}

// Info implements Module. Its texts are cleaned as those of TokenInfo.
func (m *InProcess) Info() (pkcs11.Info, error) {
	if err := m.enter(); err != nil {
		return pkcs11.Info{}, err
	}
	defer m.leave()
	info, err := m.ctx.GetInfo()
	info.ManufacturerID, info.LibraryDescription = printable(info.ManufacturerID), printable(info.LibraryDescription)
	return info, err
}

// Slots implements Module.
func (m *InProcess) Slots() ([]uint, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	slots := make([]uint, MostSlots)
	n := C.ck_ulong(len(slots))
	rv := C.ck_slots(m.list, ulongPtr(slots), &n)
	return bounded("C_GetSlotList", rv, slots, n)
}

// TokenInfo implements Module. Blanks and NULs behind a text are no part of it, and bytes that are no
// text are replaced.
func (m *InProcess) TokenInfo(slot uint) (pkcs11.TokenInfo, error) {
	if err := m.enter(); err != nil {
		return pkcs11.TokenInfo{}, err
	}
	defer m.leave()
	info, err := m.ctx.GetTokenInfo(slot)
	for _, text := range []*string{&info.Label, &info.ManufacturerID, &info.Model, &info.SerialNumber} {
		*text = printable(*text)
	}
	return info, err
}

func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '\ufffd'
		}
		return r
	}, strings.ToValidUTF8(strings.TrimRight(s, " \x00"), "\ufffd"))
}

// Mechanisms implements Module.
func (m *InProcess) Mechanisms(slot uint) ([]uint, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	mechanisms := make([]uint, MostMechanisms)
	n := C.ck_ulong(len(mechanisms))
	rv := C.ck_mechanisms(m.list, C.ck_ulong(slot), ulongPtr(mechanisms), &n)
	return bounded("C_GetMechanismList", rv, mechanisms, n)
}

// MechanismFlags implements Module.
func (m *InProcess) MechanismFlags(slot, mechanism uint) (uint, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	info, err := m.ctx.GetMechanismInfo(slot, only(mechanism, nil))
	return info.Flags, err
}

// OpenSession implements Module.
func (m *InProcess) OpenSession(slot uint) (Session, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	return m.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
}

// CloseSession implements Module.
func (m *InProcess) CloseSession(s Session) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return m.ctx.CloseSession(s)
}

// SessionState implements Module.
func (m *InProcess) SessionState(s Session) (uint, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	info, err := m.ctx.GetSessionInfo(s)
	return info.State, err
}

// Login implements Module.
func (m *InProcess) Login(s Session, pin string) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return m.ctx.Login(s, pkcs11.CKU_USER, pin)
}

// Random implements Module.
func (m *InProcess) Random(s Session, n int) ([]byte, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	out := make([]byte, n)
	rv := C.ck_random(m.list, C.ck_ulong(s), bytePtr(out), C.ck_ulong(n))
	return bounded("C_GenerateRandom", rv, out, C.ck_ulong(n))
}

// FindInit implements Module.
func (m *InProcess) FindInit(s Session, template []*Attribute) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return m.ctx.FindObjectsInit(s, template)
}

// FindNext implements Module.
func (m *InProcess) FindNext(s Session) ([]Object, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	objects := make([]Object, MostFound)
	n := C.ck_ulong(0)
	rv := C.ck_find(m.list, C.ck_ulong(s), ulongPtr(objects), MostFound, &n)
	return bounded("C_FindObjects", rv, objects, n)
}

// FindFinal implements Module.
func (m *InProcess) FindFinal(s Session) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return m.ctx.FindObjectsFinal(s)
}

// DestroyObject implements Module.
func (m *InProcess) DestroyObject(s Session, o Object) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return m.ctx.DestroyObject(s, o)
}

// Value implements Module.
func (m *InProcess) Value(s Session, o Object, n int) ([]byte, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	out := make([]byte, n)
	length := C.ck_ulong(n)
	rv := C.ck_value(m.list, C.ck_ulong(s), C.ck_ulong(o), bytePtr(out), &length)
	return bounded("C_GetAttributeValue of CKA_VALUE", rv, out, length)
}

// Attributes implements Module.
func (m *InProcess) Attributes(s Session, o Object, types ...uint) ([][]byte, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	room := make([]byte, len(types)*AttributeRoom)
	lengths := make([]C.ck_ulong, len(types))
	rv := C.ck_attributes(m.list, C.ck_ulong(s), C.ck_ulong(o), ulongPtr(types), C.ck_ulong(len(types)),
		bytePtr(room), AttributeRoom, unsafe.SliceData(lengths))
	values := make([][]byte, len(types))
	for i, n := range lengths {
		if n <= AttributeRoom { // CK_UNAVAILABLE_INFORMATION is the largest CK_ULONG
			values[i] = room[i*AttributeRoom:][:n:n]
		}
	}
	return values, fault(rv)
}

// CreateObject implements Module.
func (m *InProcess) CreateObject(s Session, template []*Attribute) (Object, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	attributes, unpin := pinned(template)
	defer unpin()
	var object C.ck_ulong
	rv := C.ck_create(m.list, C.ck_ulong(s), unsafe.SliceData(attributes), C.ck_ulong(len(attributes)), &object)
	return Object(object), fault(rv)
}

// CopyObject implements Module.
func (m *InProcess) CopyObject(s Session, o Object, template []*Attribute) (Object, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	return m.ctx.CopyObject(s, o, template)
}

// SetAttributes implements Module.
func (m *InProcess) SetAttributes(s Session, o Object, template []*Attribute) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	return m.ctx.SetAttributeValue(s, o, template)
}

// GenerateKey implements Module.
func (m *InProcess) GenerateKey(s Session, mechanism uint, template []*Attribute) (Object, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	var flat C.ck_flat_t
	if !flatten(nested(template), &flat) {
		return 0, pkcs11.Error(pkcs11.CKR_ARGUMENTS_BAD)
	}
	var object C.ck_ulong
	rv := C.ck_generate(m.list, C.ck_ulong(s), C.ck_ulong(mechanism), &flat, &object)
	return Object(object), fault(rv)
}

// GenerateKeyPair implements Module.
func (m *InProcess) GenerateKeyPair(s Session, mechanism uint, public, private []*Attribute) (Object, Object, error) {
	if err := m.enter(); err != nil {
		return 0, 0, err
	}
	defer m.leave()
	return m.ctx.GenerateKeyPair(s, only(mechanism, nil), public, private)
}

// WrapKey implements Module.
func (m *InProcess) WrapKey(s Session, mechanism uint, parameter []byte, wrapping, key Object, n int) ([]byte, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.leave()
	out := make([]byte, n)
	length := C.ck_ulong(n)
	rv := C.ck_wrap(m.list, C.ck_ulong(s), C.ck_ulong(mechanism), unsafe.Pointer(bytePtr(parameter)),
		C.ck_ulong(len(parameter)), C.ck_ulong(wrapping), C.ck_ulong(key), bytePtr(out), &length)
	return bounded("C_WrapKey", rv, out, length)
}

// UnwrapKey implements Module.
func (m *InProcess) UnwrapKey(
	s Session, mechanism uint, parameter []byte, unwrapping Object, wrapped []byte, template []*Attribute,
) (Object, error) {
	if len(wrapped) == 0 {
		return 0, pkcs11.Error(pkcs11.CKR_WRAPPED_KEY_LEN_RANGE)
	}
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	var flat C.ck_flat_t
	if !flatten(template, &flat) {
		return 0, pkcs11.Error(pkcs11.CKR_ARGUMENTS_BAD)
	}
	var object C.ck_ulong
	rv := C.ck_unwrap(m.list, C.ck_ulong(s), C.ck_ulong(mechanism), unsafe.Pointer(bytePtr(parameter)),
		C.ck_ulong(len(parameter)), C.ck_ulong(unwrapping), bytePtr(wrapped), C.ck_ulong(len(wrapped)), &flat, &object)
	return Object(object), fault(rv)
}

// DeriveECDH implements Module.
func (m *InProcess) DeriveECDH(s Session, base Object, kdf uint, peer []byte, template []*Attribute) (Object, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	params := pkcs11.NewECDH1DeriveParams(kdf, nil, peer)
	return m.ctx.DeriveKey(s, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_ECDH1_DERIVE, params)}, base, template)
}

// Decapsulate implements Module.
func (m *InProcess) Decapsulate(
	s Session, mechanism uint, key Object, ciphertext []byte, template []*Attribute,
) (Object, error) {
	if err := m.enter(); err != nil {
		return 0, err
	}
	defer m.leave()
	attributes, unpin := pinned(template)
	defer unpin()
	var object C.ck_ulong
	rv := C.ck_decapsulate(m.v32, C.ck_ulong(s), C.ck_ulong(mechanism), C.ck_ulong(key), unsafe.SliceData(attributes),
		C.ck_ulong(len(attributes)), bytePtr(ciphertext), C.ck_ulong(len(ciphertext)), &object)
	return Object(object), fault(rv)
}

// GCM implements Module.
func (m *InProcess) GCM(s Session, o Operation, key Object, iv, aad, in, room []byte) ([]byte, bool, error) {
	if err := m.enter(); err != nil {
		return nil, false, err
	}
	defer m.leave()
	length, started := C.ck_ulong(len(room)), C.int(0)
	rv := C.ck_gcm(
		m.list, positions[o], C.ck_ulong(s), C.ck_ulong(key), bytePtr(iv), bytePtr(aad), C.ck_ulong(len(aad)),
		bytePtr(in), C.ck_ulong(len(in)), bytePtr(room), &length, &started,
	)
	out, err := bounded(o.String(), rv, room, length)
	return out, started != 0, err
}

// Operate implements Module.
func (m *InProcess) Operate(
	s Session, o Operation, mechanism uint, parameter []byte, key Object, in []byte, n int,
) ([]byte, bool, error) {
	if err := m.enter(); err != nil {
		return nil, false, err
	}
	defer m.leave()
	out := make([]byte, n)
	length, started := C.ck_ulong(n), C.int(0)
	rv := C.ck_once(m.list, positions[o], C.ck_ulong(s), C.ck_ulong(mechanism), unsafe.Pointer(bytePtr(parameter)),
		C.ck_ulong(len(parameter)), C.ck_ulong(key), bytePtr(in), C.ck_ulong(len(in)), bytePtr(out), &length, &started)
	out, err := bounded(o.String(), rv, out, length)
	return out, started != 0, err
}

// Verify implements Module.
func (m *InProcess) Verify(s Session, mechanism uint, key Object, message, signature []byte) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.leave()
	if err := m.ctx.VerifyInit(s, only(mechanism, nil), key); err != nil {
		return err
	}
	return m.ctx.Verify(s, message, signature)
}

func only(mechanism uint, parameter []byte) []*pkcs11.Mechanism {
	return []*pkcs11.Mechanism{pkcs11.NewMechanism(mechanism, parameter)}
}

// nested is a template in which an UnwrapTemplate has its value. That holds pointers, so it can't be
// made before.
func nested(template []*Attribute) []*Attribute {
	for i, a := range template {
		if a.Type == pkcs11.CKA_UNWRAP_TEMPLATE {
			template = append([]*Attribute(nil), template...)
			value := unsafe.Slice((*byte)(unsafe.Pointer(&C.ck_inside_only)), C.sizeof_ck_inside_only_t)
			template[i] = &Attribute{Type: a.Type, Value: value}
		}
	}
	return template
}

// flatten copies a template, which must hold no secrets, for C. It reports whether there was room: all
// templates of this product fit.
func flatten(template []*Attribute, flat *C.ck_flat_t) bool {
	at := 0
	if len(template) > len(flat.types) {
		return false
	}
	for i, a := range template {
		if at+len(a.Value) > len(flat.values) {
			return false
		}
		flat.types[i], flat.lengths[i] = C.ck_ulong(a.Type), C.ck_ulong(len(a.Value))
		for j, b := range a.Value {
			flat.values[at+j] = C.uchar(b)
		}
		at += (len(a.Value) + 7) &^ 7
	}
	flat.count = C.ck_ulong(len(template))
	return true
}

// pinned is a template whose values stay where they are until unpin.
func pinned(template []*Attribute) (attributes []C.struct_ck_attribute, unpin func()) {
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

func bytePtr(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }

// ulongPtr gives a slice of Go's uint to C, whose CK_ULONG is as long: miekg/pkcs11 takes that for
// granted, too.
func ulongPtr[T ~uint](s []T) *C.ck_ulong { return (*C.ck_ulong)(unsafe.Pointer(unsafe.SliceData(s))) }
