// Package profile has the profiles of vendors' tokens: data on how they differ from PKCS#11.
package profile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
)

// Profile says how a family of tokens differs from PKCS#11 v2.40. What a token can and can't do is
// not declared here: the self-tests find it out.
//
// All profiles but softhsm follow the vendors' documentation, which is named with each;
// softhsm/faults imitates the restrictions. Mechanisms of AES-KWP and sources of initialisation
// vectors are proved, not declared.
type Profile struct {
	name string
	// A token is recognised by the beginning of its manufacturer or model (CK_TOKEN_INFO). A
	// profile without any has to be named in Config.Profile.
	manufacturers, models []string

	vendorKWP   []uint          // mechanisms of the vendor's own that may be AES-KWP, to be proved as all others
	allPrivate  bool            // CKA_PRIVATE is true for every object, public keys included
	omit        []uint          // attributes that no template may have; their defaults must do
	omitOf      map[uint][]uint // the same for templates of one CKA_KEY_TYPE
	SearchAlone bool            // a search must not meet a creation
}

// Name is the name for Config.Profile.
func (p *Profile) Name() string { return p.name }

// Names gives the names for Config.Profile.
func Names() []string {
	var names []string
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

// Named gives the profile of a name, nil for no name.
func Named(name string) (*Profile, error) {
	if name == "" {
		return nil, nil
	}
	for _, p := range profiles {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("token profile %q is none of %s", name, strings.Join(Names(), ", "))
}

// Of gives the profile of a token, recognised by its manufacturer and model.
func Of(info pkcs11.TokenInfo) *Profile {
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

// Allowed gives a template as the token accepts it.
func (p *Profile) Allowed(template []*pkcs11.Attribute) []*pkcs11.Attribute {
	if len(p.omit) == 0 && len(p.omitOf) == 0 && !p.allPrivate {
		return template
	}
	omit := p.omit
	for _, a := range template {
		if a.Type == pkcs11.CKA_KEY_TYPE {
			omit = slices.Concat(omit, p.omitOf[cryptoki.Ulong(a.Value)])
		}
	}
	template = slices.DeleteFunc(
		slices.Clone(template), func(a *pkcs11.Attribute) bool { return slices.Contains(omit, a.Type) },
	)
	for i, a := range template {
		if p.allPrivate && a.Type == pkcs11.CKA_PRIVATE {
			template[i] = pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true)
		}
	}
	return template
}

// KWPCandidates are the mechanisms to try on a token, in this order.
func (p *Profile) KWPCandidates() []uint {
	return append([]uint{CKMAESKeyWrapKWP, CKMAESKeyWrapPad}, p.vendorKWP...)
}
