package faults

import "fmt"

// PrivateInstances gives each caller of C_GetFunctionList, and of C_GetInterface, an instance of
// its own, as p11-kit's client and proxy do: functions of its own, an initialisation and a login of
// its own, and session handles that mean nothing to another one. An instance that was not
// initialised says CKR_CRYPTOKI_NOT_INITIALIZED, whatever the others are. A process can have 32 of
// a module; C_GetFunctionList then says CKR_HOST_MEMORY. It is to be called before the module is
// loaded.
func (m *Module) PrivateInstances() { m.control.privateInstances.Store(1) }

// RequireArgument makes C_Initialize insist on a string as pReserved of CK_C_INITIALIZE_ARGS, as
// NSS's softokn does, and say CKR_ARGUMENTS_BAD otherwise. SoftHSM2 does not get it. It is to be
// called before the module is initialised.
func (m *Module) RequireArgument(text string) {
	if len(text) >= len(m.control.initArgument) {
		panic(fmt.Sprintf("faults: an argument has less than %d bytes", len(m.control.initArgument)))
	}
	clear(m.control.initArgument[:])
	copy(m.control.initArgument[:], text)
}

// Wedge makes every call say rv, CKR_DEVICE_ERROR or CKR_CRYPTOKI_NOT_INITIALIZED say, until the
// process has called C_Finalize and then C_Initialize; those under way too. These two, and
// C_GetFunctionList, are as ever: C_Initialize alone says CKR_CRYPTOKI_ALREADY_INITIALIZED. With
// PrivateInstances each instance is healed by itself. C_Finalize ends the login, the sessions and
// their objects, as it always does.
func (m *Module) Wedge(rv uint) {
	m.control.wedgeRV.Store(uint64(rv))
	m.control.wedges.Add(1)
}

// HealOnlyByFinalize makes Unplug a Wedge too: after Plug every call says rv until C_Finalize and
// C_Initialize. A C_Initialize before Plug does not heal. Calls("C_Initialize") and
// Calls("C_Finalize") tell how often they were called. An rv of 0 ends it.
func (m *Module) HealOnlyByFinalize(rv uint) { m.control.healOnly.Store(uint64(rv)) }

// TokenFlags sets and clears flags of CK_TOKEN_INFO (CKF_ constants), whatever the token says and
// LockPIN has set; clearing is stronger. TokenFlags(0, 0) ends it.
func (m *Module) TokenFlags(set, clear uint) {
	m.control.flagsSet.Store(uint64(set))
	m.control.flagsCleared.Store(uint64(clear))
}

// LockPIN locks the user PIN after so many wrong ones in a row. CK_TOKEN_INFO has
// CKF_USER_PIN_COUNT_LOW after the first one, CKF_USER_PIN_FINAL_TRY before the last one, and
// CKF_USER_PIN_LOCKED after it; from then on C_Login says CKR_PIN_LOCKED for every PIN. A right PIN
// before, and C_InitPIN, begin the count anew. 0 means that no wrong PIN locks. LockPIN begins the
// count anew, too.
func (m *Module) LockPIN(after int) {
	m.control.pinsWrong.Store(0)
	m.control.pinsMost.Store(int64(after))
}

// WrongPINs is how many wrong user PINs there were in a row, in all processes. It is counted
// without LockPIN, too.
func (m *Module) WrongPINs() int { return int(m.control.pinsWrong.Load()) }
