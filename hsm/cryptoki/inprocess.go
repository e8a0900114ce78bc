package cryptoki

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "calls.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// Config says which module to load, and how.
type Config struct {
	Path string // absolute path of the module's shared library
	// InitArguments is C_INITIALIZE_ARGS.pReserved, a string for the module; empty for NULL.
	InitArguments string
}

// check finds what is wrong with a path before anything is loaded.
func (c Config) check() error {
	if !filepath.IsAbs(c.Path) {
		return fmt.Errorf("load PKCS#11 module %q: give its absolute path", c.Path)
	}
	if _, err := os.Stat(c.Path); err != nil {
		return fmt.Errorf("load PKCS#11 module: %w (install the HSM's client, or scripts/setup.sh for SoftHSM)", err)
	}
	return nil
}

// InProcess is a module that is loaded into this process.
type InProcess struct {
	ctx      *pkcs11.Ctx
	list     *C.struct_ck_function_list
	v32      *C.struct_ck_function_list // nil in most modules
	path     string
	reserved unsafe.Pointer // the module may keep it, so it is never freed
	shared   bool           // somebody else has initialised the module

	// inside is the number of calls inside the module, and closedGate while none may begin.
	inside atomic.Int64

	restarting sync.Mutex
	generation atomic.Uint64 // changed under restarting
}

// closedGate is far more than the calls that there can be.
const closedGate = 1 << 32

// Load loads a module into this process and initialises it.
func Load(c Config) (*InProcess, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	ctx := pkcs11.New(c.Path)
	if ctx == nil {
		return nil, fmt.Errorf(
			"load PKCS#11 module %s: it is no shared library for this machine, "+
				"needs a library that is missing (ldd lists them), or has no C_GetFunctionList",
			c.Path,
		)
	}
	m := &InProcess{ctx: ctx, path: c.Path}
	if c.InitArguments != "" {
		m.reserved = unsafe.Pointer(C.CString(c.InitArguments))
	}
	var err error
	if m.list, err = functionList(ctx, c.Path); err == nil {
		err = m.initialize()
	}
	if err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("load PKCS#11 module %s: %w", c.Path, err)
	}
	return m, nil
}

// functionList gives the one list that ctx calls. miekg/pkcs11 does not export it; it is the second
// pointer of a structure whose first one is the handle of the library, by which the structure is
// recognised.
func functionList(ctx *pkcs11.Ctx, path string) (*C.struct_ck_function_list, error) {
	type library struct {
		handle unsafe.Pointer
		list   *C.struct_ck_function_list
	}
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	inner := *(**library)(unsafe.Pointer(ctx))
	if inner == nil || inner.handle == nil || inner.handle != C.ck_handle(cpath) {
		return nil, errors.New("miekg/pkcs11 keeps its function list elsewhere: this version of it can't be used")
	}
	if inner.list == nil {
		return nil, errors.New("its C_GetFunctionList gives no function list")
	}
	if v := C.ck_version(inner.list); v < 0x0200 || v > 0x03ff {
		return nil, fmt.Errorf("its function list is of Cryptoki %d.%d, not of 2.x or 3.x", v>>8, v&0xff)
	}
	return inner.list, nil
}

func (m *InProcess) initialize() error {
	err := m.ctx.Initialize(
		pkcs11.InitializeWithFlags(pkcs11.CKF_OS_LOCKING_OK), pkcs11.InitializeWithReserved(m.reserved),
	)
	m.shared = err == pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)
	if err != nil && !m.shared {
		return fmt.Errorf("C_Initialize: %w (check the module's own configuration and token.init_arguments)", err)
	}
	cpath := C.CString(m.path)
	defer C.free(unsafe.Pointer(cpath))
	m.v32 = C.ck_load_v32(cpath)
	m.generation.Add(1)
	return nil
}

// enter lets a call into the module. Whoever is let in calls leave.
func (m *InProcess) enter() error {
	if m.inside.Add(1) < closedGate {
		return nil
	}
	m.inside.Add(-1)
	return pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
}

func (m *InProcess) leave() { m.inside.Add(-1) }

// Generation implements Module.
func (m *InProcess) Generation() uint64 { return m.generation.Load() }

// Restart implements Module.
func (m *InProcess) Restart(seen uint64, timeout time.Duration) error {
	m.restarting.Lock()
	defer m.restarting.Unlock()
	if m.generation.Load() != seen {
		return nil
	}
	if m.shared {
		return ErrShared
	}
	m.inside.Add(closedGate)
	defer m.inside.Add(-closedGate)
	if !m.empty(timeout) {
		return ErrBusy
	}
	err := m.ctx.Finalize()
	if err != nil && err != pkcs11.Error(pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		// The module may have finalised itself nevertheless: C_Initialize tells.
		err = fmt.Errorf("C_Finalize: %w", err)
	} else {
		err = nil
	}
	initialized := m.initialize()
	switch {
	case initialized != nil:
		return errors.Join(err, initialized)
	case m.shared: // it is as it was
		m.shared = false
		return errors.Join(err, errors.New("C_Initialize: the module is initialised still"))
	}
	return nil
}

// empty waits until no call is inside the module.
func (m *InProcess) empty(timeout time.Duration) bool {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for m.inside.Load()&(closedGate-1) != 0 {
		select {
		case <-deadline.C:
			return false
		case <-poll.C:
		}
	}
	return true
}

// Gone implements Module.
func (m *InProcess) Gone() bool { return false }

// Abort implements Module: a call in this process can't be ended.
func (m *InProcess) Abort() bool { return false }

// Close implements Module.
func (m *InProcess) Close() error {
	defer m.ctx.Destroy()
	if m.shared {
		return nil
	}
	if err := m.ctx.Finalize(); err != nil {
		return fmt.Errorf("C_Finalize: %w", err)
	}
	return nil
}
