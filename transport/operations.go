package transport

import (
	"context"
	"reflect"

	"github.com/verenc/kms/service"
)

// targetPrefix begins X-Amz-Target; the operation's name follows.
const targetPrefix = "TrentService."

// Largest bodies in bytes. AWS's limits on members bound a request of a usual operation well below the first; a key
// policy may have 128 Ki characters, each escaped.
const (
	usualBody  = 64 << 10
	policyBody = 1 << 20
)

// operation is one entry of the table: how large its requests may be, and what to do with one.
type operation struct {
	maxBody int64
	call    func(context.Context, *service.Service, *service.Caller, []byte) (any, error)
}

// operations is the table of all operations, by the name behind targetPrefix.
var operations = map[string]operation{
	"CancelKeyDeletion":                   handle("CancelKeyDeletion", (*service.Service).CancelKeyDeletion),
	"ConnectCustomKeyStore":               handle("ConnectCustomKeyStore", (*service.Service).ConnectCustomKeyStore),
	"CreateAlias":                         handle("CreateAlias", (*service.Service).CreateAlias),
	"CreateCustomKeyStore":                handle("CreateCustomKeyStore", (*service.Service).CreateCustomKeyStore),
	"CreateGrant":                         handle("CreateGrant", (*service.Service).CreateGrant),
	"CreateKey":                           handle("CreateKey", (*service.Service).CreateKey).withBody(policyBody),
	"Decapsulate":                         handle("Decapsulate", (*service.Service).Decapsulate),
	"Decrypt":                             handle("Decrypt", (*service.Service).Decrypt),
	"DeleteAlias":                         handle("DeleteAlias", (*service.Service).DeleteAlias),
	"DeleteCustomKeyStore":                handle("DeleteCustomKeyStore", (*service.Service).DeleteCustomKeyStore),
	"DeleteImportedKeyMaterial":           handle("DeleteImportedKeyMaterial", (*service.Service).DeleteImportedKeyMaterial),
	"DeriveSharedSecret":                  handle("DeriveSharedSecret", (*service.Service).DeriveSharedSecret),
	"DescribeCustomKeyStores":             handle("DescribeCustomKeyStores", (*service.Service).DescribeCustomKeyStores),
	"DescribeKey":                         handle("DescribeKey", (*service.Service).DescribeKey),
	"DisableKey":                          handle("DisableKey", (*service.Service).DisableKey),
	"DisableKeyRotation":                  handle("DisableKeyRotation", (*service.Service).DisableKeyRotation),
	"DisconnectCustomKeyStore":            handle("DisconnectCustomKeyStore", (*service.Service).DisconnectCustomKeyStore),
	"EnableKey":                           handle("EnableKey", (*service.Service).EnableKey),
	"EnableKeyRotation":                   handle("EnableKeyRotation", (*service.Service).EnableKeyRotation),
	"Encapsulate":                         handle("Encapsulate", (*service.Service).Encapsulate),
	"Encrypt":                             handle("Encrypt", (*service.Service).Encrypt),
	"GenerateDataKey":                     handle("GenerateDataKey", (*service.Service).GenerateDataKey),
	"GenerateDataKeyPair":                 handle("GenerateDataKeyPair", (*service.Service).GenerateDataKeyPair),
	"GenerateDataKeyPairWithoutPlaintext": handle("GenerateDataKeyPairWithoutPlaintext", (*service.Service).GenerateDataKeyPairWithoutPlaintext),
	"GenerateDataKeyWithoutPlaintext":     handle("GenerateDataKeyWithoutPlaintext", (*service.Service).GenerateDataKeyWithoutPlaintext),
	"GenerateMac":                         handle("GenerateMac", (*service.Service).GenerateMac),
	"GenerateRandom":                      handle("GenerateRandom", (*service.Service).GenerateRandom),
	"GetKeyLastUsage":                     handle("GetKeyLastUsage", (*service.Service).GetKeyLastUsage),
	"GetKeyPolicy":                        handle("GetKeyPolicy", (*service.Service).GetKeyPolicy),
	"GetKeyRotationStatus":                handle("GetKeyRotationStatus", (*service.Service).GetKeyRotationStatus),
	"GetParametersForImport":              handle("GetParametersForImport", (*service.Service).GetParametersForImport),
	"GetPublicKey":                        handle("GetPublicKey", (*service.Service).GetPublicKey),
	"ImportKeyMaterial":                   handle("ImportKeyMaterial", (*service.Service).ImportKeyMaterial),
	"ListAliases":                         handle("ListAliases", (*service.Service).ListAliases),
	"ListGrants":                          handle("ListGrants", (*service.Service).ListGrants),
	"ListKeyPolicies":                     handle("ListKeyPolicies", (*service.Service).ListKeyPolicies),
	"ListKeyRotations":                    handle("ListKeyRotations", (*service.Service).ListKeyRotations),
	"ListKeys":                            handle("ListKeys", (*service.Service).ListKeys),
	"ListResourceTags":                    handle("ListResourceTags", (*service.Service).ListResourceTags),
	"ListRetirableGrants":                 handle("ListRetirableGrants", (*service.Service).ListRetirableGrants),
	"PutKeyPolicy":                        handle("PutKeyPolicy", (*service.Service).PutKeyPolicy).withBody(policyBody),
	"ReEncrypt":                           handle("ReEncrypt", (*service.Service).ReEncrypt),
	"ReplicateKey":                        handle("ReplicateKey", (*service.Service).ReplicateKey).withBody(policyBody),
	"RetireGrant":                         handle("RetireGrant", (*service.Service).RetireGrant),
	"RevokeGrant":                         handle("RevokeGrant", (*service.Service).RevokeGrant),
	"RotateKeyOnDemand":                   handle("RotateKeyOnDemand", (*service.Service).RotateKeyOnDemand),
	"ScheduleKeyDeletion":                 handle("ScheduleKeyDeletion", (*service.Service).ScheduleKeyDeletion),
	"Sign":                                handle("Sign", (*service.Service).Sign),
	"TagResource":                         handle("TagResource", (*service.Service).TagResource),
	"UntagResource":                       handle("UntagResource", (*service.Service).UntagResource),
	"UpdateAlias":                         handle("UpdateAlias", (*service.Service).UpdateAlias),
	"UpdateCustomKeyStore":                handle("UpdateCustomKeyStore", (*service.Service).UpdateCustomKeyStore),
	"UpdateKeyDescription":                handle("UpdateKeyDescription", (*service.Service).UpdateKeyDescription),
	"UpdatePrimaryRegion":                 handle("UpdatePrimaryRegion", (*service.Service).UpdatePrimaryRegion),
	"Verify":                              handle("Verify", (*service.Service).Verify),
	"VerifyMac":                           handle("VerifyMac", (*service.Service).VerifyMac),
}

// handle makes an operation of a service method: decode, validate, call, with its audit record.
func handle[Req, Resp any](name string, method func(*service.Service, context.Context, *service.Caller, *Req) (*Resp, error)) operation {
	d := newDecoder(reflect.TypeFor[Req]())
	return operation{
		maxBody: usualBody,
		call: func(ctx context.Context, s *service.Service, c *service.Caller, body []byte) (any, error) {
			in := new(Req)
			err := d.decode(body, in)
			clear(body) // it may hold a plaintext
			if err != nil {
				return s.Audited(ctx, c, "kms.amazonaws.com", name, nil, func(context.Context) (any, error) { return nil, err })
			}
			return s.Audited(ctx, c, "kms.amazonaws.com", name, in, func(ctx context.Context) (any, error) {
				out, err := method(s, ctx, c, in)
				if err != nil {
					return nil, err // no typed nil
				}
				return out, nil
			})
		},
	}
}

func (o operation) withBody(n int64) operation {
	o.maxBody = n
	return o
}
