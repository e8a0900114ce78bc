package faults

import (
	"fmt"
	"math"

	"github.com/miekg/pkcs11"
)

// CKM_AES_KEY_WRAP_KWP is of PKCS#11 v3.1; CKM_AES_KEY_WRAP_PAD, which many use for the same, is
// 0x210A, and SoftHSM2's.
const CKM_AES_KEY_WRAP_KWP = 0x210B

// PKCS7KeyWrap is a mechanism for MapMechanism to map to: it pads a key as PKCS#7 does, to blocks
// of 16 bytes, and wraps that with CKM_AES_KEY_WRAP. So it wraps and unwraps keys of every length,
// and never does what RFC 5649 says.
const PKCS7KeyWrap uint = 0xffffffff80f00001

// MapMechanism lists the mechanism number (a CKM_ constant), and makes it do what SoftHSM2's inner
// does. For a token with KWP at its number in v3.1, and something else that works at 0x210A:
//
//	m.MapMechanism(faults.CKM_AES_KEY_WRAP_KWP, pkcs11.CKM_AES_KEY_WRAP_PAD)
//	m.MapMechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, faults.PKCS7KeyWrap)
//
// Mappings do not follow each other, so the order is free. UnmapMechanisms ends them.
func (m *Module) MapMechanism(number, inner uint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	count := m.control.mappedCount.Load()
	place := count
	for i := range count {
		if m.control.mapped[i].number.Load() == uint64(number) {
			place = i
		}
	}
	if place == mostMapped {
		panic(fmt.Sprintf("faults: at most %d mechanisms can be mapped", mostMapped))
	}
	m.control.mapped[place].inner.Store(uint64(inner))
	m.control.mapped[place].number.Store(uint64(number))
	m.control.mappedCount.Store(max(count, place+1))
}

// UnmapMechanisms ends all mappings.
func (m *Module) UnmapMechanisms() { m.control.mappedCount.Store(0) }

// WrapNotExtractable makes C_WrapKey under these mechanisms wrap keys that are not extractable,
// too, as a token must not. What it gives then are random bytes, as many as there should be. Other
// refusals of C_WrapKey come of Fail with Of.
func (m *Module) WrapNotExtractable(mechanisms ...uint) {
	m.control.wrapsAll.set("mechanisms wrap what is not extractable", mechanisms)
}

// WeakCopies lets C_CopyObject make a copy that is weaker than its original, with CKA_SENSITIVE
// false or CKA_EXTRACTABLE true, as a token must not. Where SoftHSM2 refuses, the copy says that it
// is as was asked; CKA_VALUE is the key's if that is extractable, and bytes of no meaning
// otherwise; C_WrapKey wraps an extractable copy as in WrapNotExtractable. A process knows its last
// 64.
func (m *Module) WeakCopies() { m.control.weakCopies.Store(1) }

// ForceExtractable makes what C_UnwrapKey gives extractable, whatever the template says, as
// opencryptoki's soft token does. Then CKA_EXTRACTABLE is true and CKA_NEVER_EXTRACTABLE false, and
// the key can be wrapped.
func (m *Module) ForceExtractable() { m.control.forceExtractable.Store(1) }

// RefuseSecretSizes makes C_GenerateKey of generic secrets with these CKA_VALUE_LEN, in bytes, say
// CKR_KEY_SIZE_RANGE; and no others.
func (m *Module) RefuseSecretSizes(sizes ...int) { m.control.secretSizes.set("sizes", unsigned(sizes)) }

// RefuseWrapSizes makes C_WrapKey of secret keys of these lengths, in bytes, say
// CKR_KEY_SIZE_RANGE; and no others.
func (m *Module) RefuseWrapSizes(sizes ...int) { m.control.wrapSizes.set("sizes", unsigned(sizes)) }

func unsigned(sizes []int) (all []uint) {
	for _, size := range sizes {
		all = append(all, uint(size))
	}
	return all
}

// RefusePublicObjects makes calls that would create an object with CKA_PRIVATE false say
// CKR_ATTRIBUTE_VALUE_INVALID; public keys too.
func (m *Module) RefusePublicObjects() { m.control.privateOnly.Store(1) }

// RefuseSessionObjects makes calls that would create a session object say
// CKR_ATTRIBUTE_VALUE_INVALID; those whose template has no CKA_TOKEN, too.
func (m *Module) RefuseSessionObjects() { m.control.tokenOnly.Store(1) }

// StrictSessions makes session objects known only to the session that has made them: calls of
// others say CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID and so on.
func (m *Module) StrictSessions() { m.control.strictSessions.Store(1) }

// HideAttributes makes C_GetAttributeValue say CKR_ATTRIBUTE_TYPE_INVALID for these (CKA_
// constants), until Honest.
func (m *Module) HideAttributes(attributes ...uint) {
	for _, attribute := range attributes {
		m.Lie("C_GetAttributeValue", Absent, 0, Of(attribute))
	}
}

// KDFs says which key derivation functions CKM_ECDH1_DERIVE has.
type KDFs int

// Sets of key derivation functions. Those of ANSI X9.63 are CKD_SHA1_KDF to CKD_SHA512_KDF, which
// SoftHSM2 has not.
const (
	NullKDF     KDFs = iota // CKD_NULL
	AllKDFs                 // and those of ANSI X9.63
	X963KDFOnly             // those only: CKD_NULL is CKR_MECHANISM_PARAM_INVALID
)

// SetKDFs sets which key derivation functions there are. With those of X9.63 a key has
// CKA_VALUE_LEN bytes, at most 256, or as many as the hash.
func (m *Module) SetKDFs(which KDFs) { m.control.kdf.Store(uint64(which)) }

// Vendor is a token whose restrictions a module can have.
type Vendor int

// Vendors' tokens. What is not said here is as SoftHSM2 has it.
const (
	// AWS CloudHSM with Client SDK 5: CKA_PRIVATE is true, of public keys too ("must be explicitly
	// set only to the default value", AWS CloudHSM User Guide, Supported key attributes for the
	// PKCS #11 library); ECDH with the KDFs of X9.63 only, and the IV of CKM_AES_GCM is the HSM's,
	// written to the caller's buffer, which must be all zero (the same, Supported mechanisms).
	CloudHSM Vendor = iota + 1

	// ProtectServer 3 in FIPS mode with CKM_AES_GCM of ProtectToolkit 7.0: see AppendedIVs.
	ProtectServer

	// Luna in FIPS mode: see OwnAppendedIVs.
	LunaFIPS

	// YubiHSM 2: token objects only (github.com/Yubico/yubihsm-shell, issue 391), and no
	// CKM_AES_GCM (Yubico, YubiHSM 2 User Guide, PKCS#11 with YubiHSM 2).
	YubiHSM

	// IBM EP11 with STRICT_MODE: session keys can't be passed to other sessions (IBM, openCryptoki,
	// Controlling access to cryptographic objects with session modes).
	EP11

	// opencryptoki's soft token 3.8 as Debian 12 has it: no CKM_AES_GCM, keys that were unwrapped
	// are extractable, ulMaxRwSessionCount is ULONG_MAX-1 (until Honest), and 2,048 objects fill
	// it, said as CKR_HOST_MEMORY.
	OpenCryptoki
)

// Imitate gives the token a vendor's restrictions, besides those that it has.
func (m *Module) Imitate(vendor Vendor) {
	switch vendor {
	case CloudHSM:
		m.RefusePublicObjects()
		m.SetKDFs(X963KDFOnly)
		m.OwnIVs(TokenIVsOnly)
	case ProtectServer:
		m.OwnIVs(AppendedIVs)
	case LunaFIPS:
		m.OwnIVs(OwnAppendedIVs)
	case YubiHSM:
		m.RefuseSessionObjects()
		m.RefuseMechanisms(pkcs11.CKM_AES_GCM)
	case EP11:
		m.StrictSessions()
	case OpenCryptoki:
		m.RefuseMechanisms(pkcs11.CKM_AES_GCM)
		m.ForceExtractable()
		m.Lie("C_GetTokenInfo", MaxRWSessions, math.MaxUint64-1)
		m.LimitObjects(2048, pkcs11.CKR_HOST_MEMORY)
	default:
		panic(fmt.Sprintf("faults: there is no vendor %d", vendor))
	}
}
