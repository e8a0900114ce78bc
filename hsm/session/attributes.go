package session

import (
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/cryptoki"
	"github.com/verenc/kms/hsm/keyobject"
)

// Attributes is what the token says of a key. What it does not say is empty or false.
type Attributes struct {
	Label     string
	KeyType   string // CKA_KEY_TYPE by its name in PKCS#11, "CKK_AES"
	Mechanism string // CKA_KEY_GEN_MECHANISM by its name, "CKM_AES_KEY_GEN"; empty for a key that was imported

	Local            bool // CKA_LOCAL: generated in the token
	Sensitive        bool // CKA_SENSITIVE: can't be read
	AlwaysSensitive  bool // CKA_ALWAYS_SENSITIVE: never could
	Extractable      bool // CKA_EXTRACTABLE: can be wrapped
	NeverExtractable bool // CKA_NEVER_EXTRACTABLE: never could
}

// Names of key types, and of the mechanisms that generate keys.
var (
	keyTypeNames = map[uint]string{
		pkcs11.CKK_AES:            "CKK_AES",
		pkcs11.CKK_GENERIC_SECRET: "CKK_GENERIC_SECRET",
		pkcs11.CKK_RSA:            "CKK_RSA",
		pkcs11.CKK_EC:             "CKK_EC",
		keyobject.CKKECEdwards:    "CKK_EC_EDWARDS",
		keyobject.CKKMLDSA:        "CKK_ML_DSA",
		keyobject.CKKMLKEM:        "CKK_ML_KEM",
	}
	mechanismNames = map[uint]string{
		pkcs11.CKM_AES_KEY_GEN:            "CKM_AES_KEY_GEN",
		pkcs11.CKM_GENERIC_SECRET_KEY_GEN: "CKM_GENERIC_SECRET_KEY_GEN",
		pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN:  "CKM_RSA_PKCS_KEY_PAIR_GEN",
		pkcs11.CKM_EC_KEY_PAIR_GEN:        "CKM_EC_KEY_PAIR_GEN",
		keyobject.CKMECEdwardsKeyPairGen:  "CKM_EC_EDWARDS_KEY_PAIR_GEN",
		keyobject.CKMMLDSAKeyPairGen:      "CKM_ML_DSA_KEY_PAIR_GEN",
		keyobject.CKMMLKEMKeyPairGen:      "CKM_ML_KEM_KEY_PAIR_GEN",
		pkcs11.CK_UNAVAILABLE_INFORMATION: "",
	}
)

func name(names map[uint]string, value []byte) string {
	if value == nil {
		return ""
	}
	if known, ok := names[cryptoki.Ulong(value)]; ok && len(value) == cryptoki.UlongSize {
		return known
	}
	return fmt.Sprintf("%#x", cryptoki.Ulong(value))
}

// Describe reads the attributes of a key.
func (s *Session) Describe(h pkcs11.ObjectHandle) (Attributes, error) {
	v, err := s.attributesIfAny(
		h, pkcs11.CKA_LABEL, pkcs11.CKA_KEY_TYPE, pkcs11.CKA_KEY_GEN_MECHANISM, pkcs11.CKA_LOCAL,
		pkcs11.CKA_SENSITIVE, pkcs11.CKA_ALWAYS_SENSITIVE, pkcs11.CKA_EXTRACTABLE,
		pkcs11.CKA_NEVER_EXTRACTABLE,
	)
	if err != nil {
		return Attributes{}, err
	}
	return Attributes{
		Label:            string(v[0]),
		KeyType:          name(keyTypeNames, v[1]),
		Mechanism:        name(mechanismNames, v[2]),
		Local:            cryptoki.Truth(v[3]),
		Sensitive:        cryptoki.Truth(v[4]),
		AlwaysSensitive:  cryptoki.Truth(v[5]),
		Extractable:      cryptoki.Truth(v[6]),
		NeverExtractable: cryptoki.Truth(v[7]),
	}, nil
}
