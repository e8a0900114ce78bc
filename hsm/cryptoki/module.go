// Package cryptoki makes the PKCS#11 calls: it holds all C code of the product, and nothing else calls
// a PKCS#11 module.
//
// What it protects: the process, from what a module answers. Every number, length and byte that comes
// back is hostile. Output goes into buffers of a size that this package chose; a longer answer is an
// error. Process goes further and runs the module in a process of its own, so that a module that
// crashes or hangs takes nothing else with it.
//
// What it trusts: the code of a module that InProcess loads, which may do anything in this process.
//
// All calls to a module go through one function list. Some modules (p11-kit's client and proxy)
// give each caller of C_GetFunctionList an instance of its own, so that the sessions of one list
// mean nothing to another. Package miekg/pkcs11 makes the calls whose output has a fixed size; this
// package makes the others itself, on the same list.
//
// Errors are pkcs11.Error, the CK_RV of the call, unless the module broke PKCS#11 or its process ended.
package cryptoki

import (
	"errors"
	"time"

	"github.com/miekg/pkcs11"
)

// Module is a loaded and initialised PKCS#11 module, with the calls that this product makes. Its
// methods may be called concurrently, as far as PKCS#11 allows it: one call at a time in a session.
//
// Secrets in results are cleared by whoever takes them. Arguments are not kept after the call.
type Module interface {
	Info() (pkcs11.Info, error)                        // C_GetInfo
	Slots() ([]uint, error)                            // C_GetSlotList: the slots with a token
	TokenInfo(slot uint) (pkcs11.TokenInfo, error)     // C_GetTokenInfo
	Mechanisms(slot uint) ([]uint, error)              // C_GetMechanismList
	MechanismFlags(slot, mechanism uint) (uint, error) // C_GetMechanismInfo: its flags
	OpenSession(slot uint) (Session, error)            // C_OpenSession, for reading and writing
	CloseSession(s Session) error                      // C_CloseSession
	SessionState(s Session) (uint, error)              // C_GetSessionInfo: its CK_STATE
	Login(s Session, pin string) error                 // C_Login as CKU_USER
	Random(s Session, n int) ([]byte, error)           // C_GenerateRandom
	FindInit(s Session, template []*Attribute) error   // C_FindObjectsInit
	FindNext(s Session) ([]Object, error)              // C_FindObjects; an empty slice ends the search
	FindFinal(s Session) error                         // C_FindObjectsFinal
	DestroyObject(s Session, o Object) error           // C_DestroyObject
	Value(s Session, o Object, n int) ([]byte, error)  // C_GetAttributeValue of CKA_VALUE, at most n bytes

	// Attributes is C_GetAttributeValue of up to MostAttributes types, in their order. A value that
	// the token does not give, or that is longer than AttributeRoom, is nil; whatever the token
	// said of it is the error, and the other values are there nevertheless.
	Attributes(s Session, o Object, types ...uint) ([][]byte, error)

	// CreateObject is C_CreateObject, without a copy of any value in C memory.
	CreateObject(s Session, template []*Attribute) (Object, error)
	// SetAttributes is C_SetAttributeValue.
	SetAttributes(s Session, o Object, template []*Attribute) error
	// CopyObject is C_CopyObject.
	CopyObject(s Session, o Object, template []*Attribute) (Object, error)
	// GenerateKey is C_GenerateKey with a mechanism that has no parameter.
	GenerateKey(s Session, mechanism uint, template []*Attribute) (Object, error)
	// GenerateKeyPair is C_GenerateKeyPair with a mechanism that has no parameter.
	GenerateKeyPair(s Session, mechanism uint, public, private []*Attribute) (publicKey, privateKey Object, err error)

	// WrapKey is C_WrapKey, for at most n bytes. The mechanism's parameter holds no pointers.
	WrapKey(s Session, mechanism uint, parameter []byte, wrapping, key Object, n int) ([]byte, error)
	// UnwrapKey is C_UnwrapKey. The mechanism's parameter holds no pointers.
	UnwrapKey(
		s Session, mechanism uint, parameter []byte, unwrapping Object, wrapped []byte, template []*Attribute,
	) (Object, error)
	// DeriveECDH is C_DeriveKey with CKM_ECDH1_DERIVE, a CKD_ number, no shared info, and a peer's
	// point.
	DeriveECDH(s Session, base Object, kdf uint, peer []byte, template []*Attribute) (Object, error)
	// Decapsulate is C_DecapsulateKey of PKCS#11 v3.2, with a mechanism that has no parameter.
	Decapsulate(s Session, mechanism uint, key Object, ciphertext []byte, template []*Attribute) (Object, error)

	// GCM encrypts or decrypts with CKM_AES_GCM, a tag of 16 bytes behind the ciphertext. The result is
	// a part of room, which bounds its length. iv has 12 bytes, which a token may overwrite, or is nil.
	// started reports whether the Init call succeeded.
	GCM(s Session, o Operation, key Object, iv, aad, in, room []byte) (out []byte, started bool, err error)
	// Operate is the Init call of an operation and the call that does all of it, and gives at most
	// n bytes. The mechanism's parameter holds no pointers. started reports whether the Init call
	// succeeded.
	Operate(
		s Session, o Operation, mechanism uint, parameter []byte, key Object, in []byte, n int,
	) (out []byte, started bool, err error)
	// Verify is C_VerifyInit and C_Verify with a mechanism that has no parameter.
	Verify(s Session, mechanism uint, key Object, message, signature []byte) error

	// Generation counts the initialisations. All handles of an earlier one are gone.
	Generation() uint64
	// Restart initialises the module anew, unless its generation is not seen any more: C_Finalize and
	// C_Initialize, or a new process. It waits up to timeout for the calls that are inside the module,
	// and gives ErrBusy when they stay; every call meanwhile gives CKR_CRYPTOKI_NOT_INITIALIZED.
	Restart(seen uint64, timeout time.Duration) error
	// Gone reports that the module's process has ended, so that nothing works before Restart.
	Gone() bool
	// Abort ends every call that is inside the module, and reports whether it could.
	Abort() bool
	// Close finalises the module. No call may be made after it.
	Close() error
}

// Handles and templates, as miekg/pkcs11 has them.
type (
	Session   = pkcs11.SessionHandle
	Object    = pkcs11.ObjectHandle
	Attribute = pkcs11.Attribute
)

// Limits of what a module may answer. A module that has more gets an error.
const (
	AttributeRoom  = 1024 // bytes of an attribute's value
	MostAttributes = 16   // attributes of one call
	MostFound      = 1024 // objects of one FindNext
	MostMechanisms = 4096
	MostSlots      = 1024
)

// ErrBusy is the error of Restart when calls stay inside the module.
var ErrBusy = errors.New("calls are stuck inside the PKCS#11 module")

// ErrShared is the error of Restart when somebody else has initialised the module in this process, and
// so may not be finalised.
var ErrShared = errors.New("the PKCS#11 module was initialised by another part of this process")

// Operation is a pair of calls: an Init call and the one that does all the work.
type Operation int

// Operations.
const (
	Encrypt Operation = iota
	Decrypt
	Sign
)

func (o Operation) String() string {
	return [...]string{Encrypt: "C_Encrypt", Decrypt: "C_Decrypt", Sign: "C_Sign"}[o]
}

// UnwrapTemplate is a CKA_UNWRAP_TEMPLATE for the template of a wrapping key. The token then makes of
// what the key unwraps objects that are sensitive and not extractable, and nothing else.
func UnwrapTemplate() *Attribute { return &Attribute{Type: pkcs11.CKA_UNWRAP_TEMPLATE} }

// tooLong is for an answer that does not fit the buffer it was made for.
func tooLong(call string) error {
	return errors.New(call + ": the module reports more output than it was given room for")
}
