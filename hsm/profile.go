package hsm

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// profile is how a family of tokens differs from PKCS#11 v2.40 as this package uses it. What is not declared here is the same
// for all; what a token can and can't do is for SelfTest to find out.
//
// All but softhsm is as the vendors' documentation has it, named beside each; softhsm/faults imitates the restrictions.
// Mechanisms of AES-KWP and sources of initialisation vectors are proved, not declared.
type profile struct {
	name string
	// A token is recognised by how its manufacturer or its model begins (CK_TOKEN_INFO). None: only by Config.Profile.
	manufacturers, models []string

	vendorKWP   []uint          // mechanisms of the vendor's own that may be AES-KWP, to be proved as all others
	allPrivate  bool            // CKA_PRIVATE is true for every object, public keys included
	omit        []uint          // attributes that no template may have; their defaults must do
	omitOf      map[uint][]uint // the same for templates of one CKA_KEY_TYPE
	searchAlone bool            // a search must not meet a creation
}

// profiles: the last one is for tokens that are not recognised.
var profiles = []*profile{
	{name: "softhsm", manufacturers: []string{"SoftHSM"}, searchAlone: true},

	// Thales, Luna 7 SDK Reference, CKM_AES_GCM and CKM_AES_KWP. FIPS mode (HSM policy 12) is recognised by where the
	// initialisation vectors come from. There one of 96 bits can be had from firmware 7.9.3 on; before, it has 128, which is
	// none of ours. The second name is for configurations that have it.
	{name: "luna", models: []string{"Luna"}, vendorKWP: []uint{ckmLunaAESKWP}},
	{name: "luna-fips", vendorKWP: []uint{ckmLunaAESKWP}},

	// Entrust, nShield PKCS#11 Reference, Mechanisms.
	{name: "nshield", manufacturers: []string{"nCipher"}},

	// AWS CloudHSM User Guide, Supported key attributes for the PKCS #11 library (SDK 5): CKA_PRIVATE is true for every key;
	// CKA_SIGN_RECOVER is supported of none, and each type of keys has attributes that it does not take. Client SDK 3 took
	// CKA_MODIFIABLE with its default only.
	{name: "cloudhsm", manufacturers: []string{"Marvell", "Cavium"}, vendorKWP: []uint{ckmCloudHSMKeyWrapPad}, allPrivate: true,
		omit: []uint{pkcs11.CKA_MODIFIABLE, pkcs11.CKA_SIGN_RECOVER},
		omitOf: map[uint][]uint{
			pkcs11.CKK_GENERIC_SECRET: {pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP},
			pkcs11.CKK_EC:             {pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP},
			ckkMLDSA:                  {pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE},
		}},

	// No difference is known that its documentation states. It has no CKM_AES_GCM (YubiHSM 2 User Guide, Device
	// Specifications): RSA, ECDSA, Ed25519 and HMAC keys only.
	{name: "yubihsm2", models: []string{"YubiHSM"}},

	// No difference is known.
	{name: "utimaco", manufacturers: []string{"Utimaco"}},
	{name: "standard"},
}

// Profiles gives the names for Config.Profile.
func Profiles() []string {
	var names []string
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

// profileNamed gives nil for no name: it is the token's word then.
func profileNamed(name string) (*profile, error) {
	if name == "" {
		return nil, nil
	}
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("token profile %q is none of %s", name, strings.Join(Profiles(), ", "))
}

func profileOf(info pkcs11.TokenInfo) *profile {
	for _, p := range profiles {
		if begins(info.ManufacturerID, p.manufacturers) || begins(info.Model, p.models) {
			return p
		}
	}
	return profiles[len(profiles)-1]
}

func begins(s string, with []string) bool {
	return slices.ContainsFunc(with, func(prefix string) bool { return strings.HasPrefix(s, prefix) })
}

// allowed is a template as the token takes it.
func (p *profile) allowed(template []*pkcs11.Attribute) []*pkcs11.Attribute {
	if len(p.omit) == 0 && len(p.omitOf) == 0 && !p.allPrivate {
		return template
	}
	omit := p.omit
	for _, a := range template {
		if a.Type == pkcs11.CKA_KEY_TYPE {
			omit = slices.Concat(omit, p.omitOf[ulong(a.Value)])
		}
	}
	template = slices.DeleteFunc(slices.Clone(template), func(a *pkcs11.Attribute) bool { return slices.Contains(omit, a.Type) })
	for i, a := range template {
		if p.allPrivate && a.Type == pkcs11.CKA_PRIVATE {
			template[i] = pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true)
		}
	}
	return template
}
