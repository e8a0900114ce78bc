package hsm

/*
#cgo LDFLAGS: -ldl
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
#cgo noescape ck_random
#cgo nocallback ck_random
#include <stdlib.h>
#include "cryptoki.h"
*/
import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"
)

const (
	ivSize  = 12 // bytes; NIST SP 800-38D section 8.2: the length GCM is built for
	tagSize = 16 // bytes; NIST SP 800-38D section 5.2.1.2: the longest tag
)

// library is one loaded and initialised PKCS#11 module. C_Initialize and C_Finalize act on the whole process,
// so there is one library a path, counted.
type library struct {
	path string
	ctx  *pkcs11.Ctx
	list *C.struct_ck_function_list
	refs int  // guarded by libraries.mu
	ours bool // this package has initialised it, and so finalises it

	// objects keeps C_FindObjects and the creation or destruction of objects apart: on SoftHSM before 2.7.0
	// they disturb each other. Creators hold it shared, searches alone.
	objects sync.RWMutex

	// generators keeps C_FindObjects and C_GenerateKeyPair apart, and is taken before objects: a search that waits for
	// an RSA key of some seconds would, waiting for objects, hold up every short creation too.
	generators sync.RWMutex
}

var libraries = struct {
	mu     sync.Mutex
	byPath map[string]*library
}{byPath: map[string]*library{}}

func loadLibrary(path string) (*library, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("load PKCS#11 module %q: give its absolute path", path)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("load PKCS#11 module: %w (install the HSM's client, or scripts/setup.sh for SoftHSM)", err)
	}
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	if l := libraries.byPath[path]; l != nil {
		l.refs++
		return l, nil
	}

	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	var problem *C.char
	list := C.ck_load(cpath, &problem)
	if list == nil {
		defer C.free(unsafe.Pointer(problem))
		return nil, fmt.Errorf("load PKCS#11 module %s: %s", path, C.GoString(problem))
	}
	ctx := pkcs11.New(path)
	if ctx == nil {
		return nil, fmt.Errorf("load PKCS#11 module %s: it cannot be opened", path)
	}
	err := failed("C_Initialize", ctx.Initialize())
	if err != nil && !hasCode(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		ctx.Destroy()
		return nil, fmt.Errorf("initialise PKCS#11 module %s: %w (check the module's own configuration)", path, err)
	}
	l := &library{path: path, ctx: ctx, list: list, refs: 1, ours: err == nil}
	libraries.byPath[path] = l
	return l, nil
}

// release gives the library back; the last one finalises it, unless a call is still stuck inside.
func (l *library) release(stuck bool) error {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	l.refs--
	if l.refs > 0 || stuck {
		return nil
	}
	delete(libraries.byPath, l.path)
	defer l.ctx.Destroy()
	if !l.ours {
		return nil
	}
	return failed("C_Finalize", l.ctx.Finalize())
}

// findSlot gives the slot of the token with this label and serial number; an empty one matches all. Slots are
// numbered anew by reboots and failovers, so they are never remembered.
func (l *library) findSlot(label, serial string) (uint, pkcs11.TokenInfo, error) {
	slots, err := l.ctx.GetSlotList(true)
	if err != nil {
		return 0, pkcs11.TokenInfo{}, failed("C_GetSlotList", err)
	}
	var matches []uint
	var found pkcs11.TokenInfo
	for _, slot := range slots {
		info, err := l.ctx.GetTokenInfo(slot)
		if err != nil || (label != "" && info.Label != label) || (serial != "" && info.SerialNumber != serial) {
			continue
		}
		matches, found = append(matches, slot), info
	}
	switch {
	case len(matches) == 0:
		return 0, found, &callError{call: fmt.Sprintf("find token (label %q, serial %q; see verenc doctor for the tokens there are)",
			label, serial), rv: pkcs11.CKR_TOKEN_NOT_PRESENT, kind: ErrUnavailable}
	case len(matches) > 1:
		return 0, found, fmt.Errorf("find token: %d tokens have label %q and serial %q: give the serial number of one",
			len(matches), label, serial)
	}
	return matches[0], found, nil
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

// gcm encrypts or decrypts with CKM_AES_GCM into a new slice. started tells whether the Init call succeeded.
func (l *library) gcm(s pkcs11.SessionHandle, o operation, key pkcs11.ObjectHandle, iv *[ivSize]byte, in, aad []byte) (_ []byte, started bool, err error) {
	out := make([]byte, len(in)+2*tagSize)
	n, began := C.ck_ulong(len(out)), C.int(0)
	rv := C.ck_gcm(l.list, C.int(o.init), C.ck_ulong(s), C.ck_ulong(key), bytePtr(iv[:]), bytePtr(aad), C.ck_ulong(len(aad)),
		bytePtr(in), C.ck_ulong(len(in)), bytePtr(out), &n, &began)
	return o.result(rv, out, n, began)
}

// once is an operation whose output has at most size bytes. The parameters of its mechanism hold no pointers.
func (l *library) once(s pkcs11.SessionHandle, o operation, mechanism uint, params []byte, key pkcs11.ObjectHandle, in []byte, size int) (_ []byte, started bool, err error) {
	out := make([]byte, size)
	n, began := C.ck_ulong(size), C.int(0)
	rv := C.ck_once(l.list, C.int(o.init), C.ck_ulong(s), C.ck_ulong(mechanism), unsafe.Pointer(bytePtr(params)), C.ck_ulong(len(params)),
		C.ck_ulong(key), bytePtr(in), C.ck_ulong(len(in)), bytePtr(out), &n, &began)
	return o.result(rv, out, n, began)
}

// wrap is C_WrapKey with a mechanism that has no parameter. size is an upper bound of the output in bytes.
func (l *library) wrap(s pkcs11.SessionHandle, mechanism uint, wrapping, key pkcs11.ObjectHandle, size int) ([]byte, error) {
	out := make([]byte, size)
	n := C.ck_ulong(size)
	if rv := C.ck_wrap(l.list, C.ck_ulong(s), C.ck_ulong(mechanism), C.ck_ulong(wrapping), C.ck_ulong(key), bytePtr(out), &n); rv != 0 {
		return nil, failed("C_WrapKey", pkcs11.Error(rv))
	}
	if int(n) > size {
		return nil, errors.New("C_WrapKey: output length is larger than its buffer")
	}
	return out[:n], nil
}

// value reads CKA_VALUE, at most size bytes.
func (l *library) value(s pkcs11.SessionHandle, object pkcs11.ObjectHandle, size int) ([]byte, error) {
	out := make([]byte, size)
	n := C.ck_ulong(size)
	if rv := C.ck_value(l.list, C.ck_ulong(s), C.ck_ulong(object), bytePtr(out), &n); rv != 0 {
		return nil, failed("C_GetAttributeValue", pkcs11.Error(rv))
	}
	if n > C.ck_ulong(size) { // CK_UNAVAILABLE_INFORMATION is the largest CK_ULONG
		return nil, errors.New("C_GetAttributeValue: CKA_VALUE is not available")
	}
	return out[:n], nil
}

// create is C_CreateObject, without a copy of any value in C memory.
func (l *library) create(s pkcs11.SessionHandle, template []*pkcs11.Attribute) (pkcs11.ObjectHandle, error) {
	var values runtime.Pinner
	defer values.Unpin()
	attributes := make([]C.struct_ck_attribute, len(template))
	for i, a := range template {
		attributes[i]._type = C.ck_ulong(a.Type)
		if len(a.Value) > 0 {
			values.Pin(&a.Value[0])
			attributes[i].value, attributes[i].value_len = unsafe.Pointer(&a.Value[0]), C.ck_ulong(len(a.Value))
		}
	}
	var object C.ck_ulong
	if rv := C.ck_create(l.list, C.ck_ulong(s), unsafe.SliceData(attributes), C.ck_ulong(len(attributes)), &object); rv != 0 {
		return 0, failed("C_CreateObject", pkcs11.Error(rv))
	}
	return pkcs11.ObjectHandle(object), nil
}

// random is C_GenerateRandom.
func (l *library) random(s pkcs11.SessionHandle, n int) ([]byte, error) {
	out := make([]byte, n)
	if rv := C.ck_random(l.list, C.ck_ulong(s), bytePtr(out), C.ck_ulong(n)); rv != 0 {
		return nil, failed("C_GenerateRandom", pkcs11.Error(rv))
	}
	return out, nil
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
