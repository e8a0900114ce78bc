package hsm

import (
	"context"
	"slices"

	"github.com/miekg/pkcs11"
)

// Tokens lists the initialised tokens that a module offers, without logging in. The arguments are those of Config.
func Tokens(module, initArguments string, command []string) (tokens []Info, err error) {
	lib, err := loadLibrary(module, initArguments, command)
	if err != nil {
		return nil, err
	}
	defer func() {
		if released := lib.release(); err == nil {
			err = released
		}
	}()
	slots, err := lib.module.Slots()
	if err != nil {
		return nil, failed("C_GetSlotList", err)
	}
	for _, slot := range slots {
		if info, err := lib.module.TokenInfo(slot); err == nil && info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			tokens = append(tokens, infoOf(info))
		}
	}
	return tokens, nil
}

func infoOf(i pkcs11.TokenInfo) Info {
	return Info{Label: i.Label, Manufacturer: i.ManufacturerID, Model: i.Model, Serial: i.SerialNumber, Firmware: version(i.FirmwareVersion)}
}

// Mechanism is a mechanism that a token is expected to have. Those of PKCS#11 v3.2 are not among them: few tokens have any, and SelfTest
// tells.
type Mechanism struct {
	Name string // as PKCS#11 has it
	Need string // what it is for
	id   uint
}

// mechanisms is all of them.
var mechanisms = []Mechanism{
	{"CKM_AES_KEY_GEN", "CreateKey", pkcs11.CKM_AES_KEY_GEN},
	{"CKM_AES_GCM", "Encrypt, Decrypt, data keys", pkcs11.CKM_AES_GCM},
	{"CKM_GENERIC_SECRET_KEY_GEN", "GenerateDataKeyWithoutPlaintext inside the token", pkcs11.CKM_GENERIC_SECRET_KEY_GEN},
	{"CKM_AES_KEY_WRAP_PAD", "GenerateDataKeyWithoutPlaintext inside the token, import of private keys", pkcs11.CKM_AES_KEY_WRAP_PAD},
	{"CKM_RSA_PKCS_KEY_PAIR_GEN", "RSA key pairs", pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN},
	{"CKM_RSA_PKCS", "RSA signatures", pkcs11.CKM_RSA_PKCS},
	{"CKM_RSA_PKCS_PSS", "RSA signatures", pkcs11.CKM_RSA_PKCS_PSS},
	{"CKM_RSA_PKCS_OAEP", "RSA decryption, import", pkcs11.CKM_RSA_PKCS_OAEP},
	{"CKM_EC_KEY_PAIR_GEN", "key pairs of the NIST curves and secp256k1", pkcs11.CKM_EC_KEY_PAIR_GEN},
	{"CKM_ECDSA", "signatures of the NIST curves and secp256k1", pkcs11.CKM_ECDSA},
	{"CKM_ECDH1_DERIVE", "key agreement", pkcs11.CKM_ECDH1_DERIVE},
	{"CKM_EC_EDWARDS_KEY_PAIR_GEN", "Ed25519 key pairs", ckmECEdwardsKeyPairGen},
	{"CKM_EDDSA", "Ed25519 signatures", ckmEdDSA},
	{"CKM_SHA224_HMAC", "MACs", pkcs11.CKM_SHA224_HMAC},
	{"CKM_SHA256_HMAC", "MACs", pkcs11.CKM_SHA256_HMAC},
	{"CKM_SHA384_HMAC", "MACs", pkcs11.CKM_SHA384_HMAC},
	{"CKM_SHA512_HMAC", "MACs", pkcs11.CKM_SHA512_HMAC},
}

// MissingMechanisms gives those that the token does not list. SelfTest tells more: a listed mechanism may still not work.
func (t *Token) MissingMechanisms(ctx context.Context) ([]Mechanism, error) {
	return run(ctx, t, func(s *session) ([]Mechanism, error) {
		if err := s.step(); err != nil {
			return nil, err
		}
		listed, err := s.lib.module.Mechanisms(s.slot)
		if err != nil {
			return nil, failed("C_GetMechanismList", err)
		}
		var missing []Mechanism
		for _, m := range mechanisms {
			if !slices.Contains(listed, m.id) {
				missing = append(missing, m)
			}
		}
		return missing, nil
	})
}
