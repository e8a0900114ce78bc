package faults

import (
	"fmt"
	"math"

	"github.com/miekg/pkcs11"
)

// CKM_AES_KEY_WRAP_KWP is that of PKCS#11 v3.1. CKM_AES_KEY_WRAP_PAD, which many tokens use for the
// same, is 0x210A, and SoftHSM2 has that.
const CKM_AES_KEY_WRAP_KWP = 0x210B

// PKCS7KeyWrap is a mechanism for MapMechanism: it pads a key as PKCS#7 does, to blocks of 16
// bytes, and wraps that with CKM_AES_KEY_WRAP. So it wraps and unwraps keys of every length, but
// never as RFC 5649 requires.
const PKCS7KeyWrap uint = 0xffffffff80f00001

// MapMechanism adds a mechanism number (a CKM_ constant) to the token's list, and makes it do what
// inner does in SoftHSM2. For a token that has KWP at its number of v3.1, and something else that
// works at 0x210A:
//
//	m.MapMechanism(faults.CKM_AES_KEY_WRAP_KWP, pkcs11.CKM_AES_KEY_WRAP_PAD)
//	m.MapMechanism(pkcs11.CKM_AES_KEY_WRAP_PAD, faults.PKCS7KeyWrap)
//
// Mappings are not applied to each other, so their order does not matter. UnmapMechanisms removes
// them.
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

// UnmapMechanisms removes all mappings.
func (m *Module) UnmapMechanisms() { m.control.mappedCount.Store(0) }

// WrapNotExtractable makes C_WrapKey with these mechanisms wrap keys that are not extractable too,
// which a token must not do. It returns random bytes of the right length. Use Fail with Of for
// other refusals of C_WrapKey.
func (m *Module) WrapNotExtractable(mechanisms ...uint) {
	m.control.wrapsAll.set("mechanisms wrap what is not extractable", mechanisms)
}

// WeakCopies lets C_CopyObject make a copy that is weaker than its original, with CKA_SENSITIVE
// false or CKA_EXTRACTABLE true, which a token must not do. Where SoftHSM2 refuses, the copy claims
// to be as requested: CKA_VALUE is the key's value if the key is extractable, and meaningless bytes
// otherwise; C_WrapKey wraps an extractable copy as in WrapNotExtractable. A process remembers its
// last 64 copies.
func (m *Module) WeakCopies() { m.control.weakCopies.Store(1) }

// ForceExtractable makes keys from C_UnwrapKey extractable, whatever the template says, as
// opencryptoki's soft token does. CKA_EXTRACTABLE is then true and CKA_NEVER_EXTRACTABLE false, and
// the key can be wrapped.
func (m *Module) ForceExtractable() { m.control.forceExtractable.Store(1) }

// RefuseSecretSizes makes C_GenerateKey of generic secrets of exactly these sizes (CKA_VALUE_LEN,
// in bytes) answer CKR_KEY_SIZE_RANGE.
func (m *Module) RefuseSecretSizes(sizes ...int) { m.control.secretSizes.set("sizes", unsigned(sizes)) }

// RefuseWrapSizes makes C_WrapKey of secret keys of exactly these sizes, in bytes, answer
// CKR_KEY_SIZE_RANGE.
func (m *Module) RefuseWrapSizes(sizes ...int) { m.control.wrapSizes.set("sizes", unsigned(sizes)) }

func unsigned(sizes []int) (all []uint) {
	for _, size := range sizes {
		all = append(all, uint(size))
	}
	return all
}

// RefusePublicObjects makes calls that would create an object with CKA_PRIVATE false, including
// public keys, answer CKR_ATTRIBUTE_VALUE_INVALID.
func (m *Module) RefusePublicObjects() { m.control.privateOnly.Store(1) }

// RefuseSessionObjects makes calls that would create a session object, including those whose
// template has no CKA_TOKEN, answer CKR_ATTRIBUTE_VALUE_INVALID.
func (m *Module) RefuseSessionObjects() { m.control.tokenOnly.Store(1) }

// StrictSessions makes session objects visible only to the session that has made them: in other
// sessions, calls answer CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID and so on.
func (m *Module) StrictSessions() { m.control.strictSessions.Store(1) }

// HideAttributes makes C_GetAttributeValue answer CKR_ATTRIBUTE_TYPE_INVALID for these attributes
// (CKA_ constants), until Honest.
func (m *Module) HideAttributes(attributes ...uint) {
	for _, attribute := range attributes {
		m.Lie("C_GetAttributeValue", Absent, 0, Of(attribute))
	}
}

// KDFs says which key derivation functions CKM_ECDH1_DERIVE supports.
type KDFs int

// Sets of key derivation functions. Those of ANSI X9.63 are CKD_SHA1_KDF to CKD_SHA512_KDF, which
// SoftHSM2 lacks.
const (
	NullKDF     KDFs = iota // CKD_NULL
	AllKDFs                 // and those of ANSI X9.63
	X963KDFOnly             // only those: CKD_NULL is CKR_MECHANISM_PARAM_INVALID
)

// SetKDFs sets the supported key derivation functions. With those of X9.63 a key has CKA_VALUE_LEN
// bytes, at most 256, or as many as the hash.
func (m *Module) SetKDFs(which KDFs) { m.control.kdf.Store(uint64(which)) }

// Vendor is a token whose restrictions a module can imitate.
type Vendor int

// Vendors' tokens. Everything else is as in SoftHSM2.
const (
	// AWS CloudHSM with Client SDK 5: CKA_PRIVATE is true, for public keys too ("must be explicitly
	// set only to the default value", AWS CloudHSM User Guide, Supported key attributes for the
	// PKCS #11 library). ECDH has only the KDFs of X9.63, and the HSM generates the IV of
	// CKM_AES_GCM and writes it to the caller's buffer, which must be all zero (the same, Supported
	// mechanisms).
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

	// opencryptoki's soft token 3.8 as in Debian 12: no CKM_AES_GCM, unwrapped keys are
	// extractable, ulMaxRwSessionCount is ULONG_MAX-1 (until Honest), and it is full with 2,048
	// objects, which it reports as CKR_HOST_MEMORY.
	OpenCryptoki
)

// Imitate adds a vendor's restrictions to those that the token has.
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
