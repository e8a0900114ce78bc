package profile

import (
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/keyobject"
)

// profiles has all profiles. The last one is for tokens that are not recognised.
var profiles = []*Profile{
	{name: "softhsm", manufacturers: []string{"SoftHSM"}, SearchAlone: true},

	// Thales, Luna 7 SDK Reference, CKM_AES_GCM and CKM_AES_KWP. FIPS mode (HSM policy 12) is
	// recognised by where the initialisation vectors come from. They have 96 bits from firmware
	// 7.9.3 on; before that they have 128, which is not supported here. The second name is for
	// existing configurations.
	{name: "luna", models: []string{"Luna"}, vendorKWP: []uint{ckmLunaAESKWP}},
	{name: "luna-fips", vendorKWP: []uint{ckmLunaAESKWP}},

	// Entrust, nShield PKCS#11 Reference, Mechanisms.
	{name: "nshield", manufacturers: []string{"nCipher"}},

	// AWS CloudHSM User Guide, Supported key attributes for the PKCS #11 library (SDK 5):
	// CKA_PRIVATE is true for every key; CKA_SIGN_RECOVER is supported for no key, and each type of
	// key has attributes that it does not accept. Client SDK 3 accepted CKA_MODIFIABLE with its
	// default only.
	{
		name:          "cloudhsm",
		manufacturers: []string{"Marvell", "Cavium"},
		vendorKWP:     []uint{ckmCloudHSMKeyWrapPad},
		allPrivate:    true,
		omit:          []uint{pkcs11.CKA_MODIFIABLE, pkcs11.CKA_SIGN_RECOVER},
		omitOf: map[uint][]uint{
			pkcs11.CKK_GENERIC_SECRET: {pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP},
			pkcs11.CKK_EC:             {pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP},
			keyobject.CKKMLDSA:        {pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE},
		},
	},

	// No difference is known that its documentation states. It has no CKM_AES_GCM (YubiHSM 2 User
	// Guide, Device Specifications): RSA, ECDSA, Ed25519 and HMAC keys only.
	{name: "yubihsm2", models: []string{"YubiHSM"}},

	// No difference is known.
	{name: "utimaco", manufacturers: []string{"Utimaco"}},
	{name: "standard"},
}

// Mechanisms that may be AES-KWP (RFC 5649, NIST SP 800-38F section 6.3). A token has to prove
// which of them is: v3.0 gave it the number 0x210B, and some tokens have another algorithm under
// v2.40's 0x210A.
const (
	CKMAESKeyWrapKWP      = 0x210B // CKM_AES_KEY_WRAP_KWP
	CKMAESKeyWrapPad      = 0x210A // CKM_AES_KEY_WRAP_PAD
	ckmLunaAESKWP         = pkcs11.CKM_VENDOR_DEFINED + 0x171
	ckmCloudHSMKeyWrapPad = pkcs11.CKM_VENDOR_DEFINED + 0x216F // CKM_CLOUDHSM_AES_KEY_WRAP_ZERO_PAD of AWS's header
)
