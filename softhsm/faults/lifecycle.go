package faults

import "fmt"

// PrivateInstances gives each caller of C_GetFunctionList, and of C_GetInterface, an instance of
// its own, as p11-kit's client and proxy do: with its own functions, its own initialisation and
// login, and session handles that are invalid in other instances. An instance that is not
// initialised answers CKR_CRYPTOKI_NOT_INITIALIZED, whatever the state of the others. A process can
// have 32 of a module; after that C_GetFunctionList answers CKR_HOST_MEMORY. Call it before the
// module is loaded.
func (m *Module) PrivateInstances() { m.control.privateInstances.Store(1) }

// RequireArgument makes C_Initialize require a string in pReserved of CK_C_INITIALIZE_ARGS, as
// NSS's softokn does, and answer CKR_ARGUMENTS_BAD otherwise. The string is not passed to SoftHSM2.
// Call it before the module is initialised.
func (m *Module) RequireArgument(text string) {
	if len(text) >= len(m.control.initArgument) {
		panic(fmt.Sprintf("faults: an argument has less than %d bytes", len(m.control.initArgument)))
	}
	clear(m.control.initArgument[:])
	copy(m.control.initArgument[:], text)
}

// Wedge makes every call answer rv, for example CKR_DEVICE_ERROR or CKR_CRYPTOKI_NOT_INITIALIZED,
// until the process has called C_Finalize and then C_Initialize. This includes calls in progress.
// C_Finalize, C_Initialize and C_GetFunctionList work as always: C_Initialize without C_Finalize
// answers CKR_CRYPTOKI_ALREADY_INITIALIZED. With PrivateInstances each instance is healed
// separately. C_Finalize ends the login, the sessions and their objects, as it always does.
func (m *Module) Wedge(rv uint) {
	m.control.wedgeRV.Store(uint64(rv))
	m.control.wedges.Add(1)
}

// HealOnlyByFinalize makes Unplug a Wedge too: after Plug, every call answers rv until C_Finalize
// and C_Initialize. A C_Initialize before Plug does not heal. Calls("C_Initialize") and
// Calls("C_Finalize") tell how often these were called. An rv of 0 switches it off.
func (m *Module) HealOnlyByFinalize(rv uint) { m.control.healOnly.Store(uint64(rv)) }

// TokenFlags sets and clears flags of CK_TOKEN_INFO (CKF_ constants), whatever the token reports
// and LockPIN has set; clearing takes precedence. TokenFlags(0, 0) switches it off.
func (m *Module) TokenFlags(set, clear uint) {
	m.control.flagsSet.Store(uint64(set))
	m.control.flagsCleared.Store(uint64(clear))
}

// LockPIN locks the user PIN after the given number of wrong ones in a row. CK_TOKEN_INFO has
// CKF_USER_PIN_COUNT_LOW after the first one, CKF_USER_PIN_FINAL_TRY before the last one, and
// CKF_USER_PIN_LOCKED after it; from then on C_Login answers CKR_PIN_LOCKED for every PIN. A right
// PIN before that, C_InitPIN and LockPIN itself reset the count. 0 means that wrong PINs never
// lock.
func (m *Module) LockPIN(after int) {
	m.control.pinsWrong.Store(0)
	m.control.pinsMost.Store(int64(after))
}

// WrongPINs returns how many wrong user PINs there were in a row, in all processes. They are
// counted without LockPIN too.
func (m *Module) WrongPINs() int { return int(m.control.pinsWrong.Load()) }
