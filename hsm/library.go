package hsm

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "cryptoki.h"
*/
import "C"

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"
	"golang.org/x/sync/semaphore"
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
	v32  *C.struct_ck_function_list // nil in most modules
	refs int                        // guarded by libraries.mu
	ours bool                       // this package has initialised it, and so finalises it

	strays strays

	// objects keeps C_FindObjects and the creation or destruction of objects apart: on SoftHSM before 2.7.0
	// they disturb each other. Creators hold one of it, searches all.
	objects *semaphore.Weighted

	// generators keeps C_FindObjects and C_GenerateKeyPair apart, and is taken before objects: a search that waits for
	// an RSA key of some seconds would, waiting for objects, hold up every short creation too.
	generators *semaphore.Weighted
}

// everyone is all of a semaphore.
const everyone = math.MaxInt32

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
	l := &library{path: path, ctx: ctx, list: list, v32: C.ck_load_v32(cpath), refs: 1, ours: err == nil,
		strays:  strays{owners: map[pkcs11.SessionHandle]*conn{}},
		objects: semaphore.NewWeighted(everyone), generators: semaphore.NewWeighted(everyone)}
	libraries.byPath[path] = l
	return l, nil
}

// release gives the library back; the last one finalises it.
func (l *library) release() error {
	libraries.mu.Lock()
	defer libraries.mu.Unlock()
	l.refs--
	if l.refs > 0 {
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
