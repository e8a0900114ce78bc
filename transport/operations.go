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
	"CancelKeyDeletion":                   handle((*service.Service).CancelKeyDeletion),
	"ConnectCustomKeyStore":               handle((*service.Service).ConnectCustomKeyStore),
	"CreateAlias":                         handle((*service.Service).CreateAlias),
	"CreateCustomKeyStore":                handle((*service.Service).CreateCustomKeyStore),
	"CreateGrant":                         handle((*service.Service).CreateGrant),
	"CreateKey":                           handle((*service.Service).CreateKey).withBody(policyBody),
	"Decapsulate":                         handle((*service.Service).Decapsulate),
	"Decrypt":                             handle((*service.Service).Decrypt),
	"DeleteAlias":                         handle((*service.Service).DeleteAlias),
	"DeleteCustomKeyStore":                handle((*service.Service).DeleteCustomKeyStore),
	"DeleteImportedKeyMaterial":           handle((*service.Service).DeleteImportedKeyMaterial),
	"DeriveSharedSecret":                  handle((*service.Service).DeriveSharedSecret),
	"DescribeCustomKeyStores":             handle((*service.Service).DescribeCustomKeyStores),
	"DescribeKey":                         handle((*service.Service).DescribeKey),
	"DisableKey":                          handle((*service.Service).DisableKey),
	"DisableKeyRotation":                  handle((*service.Service).DisableKeyRotation),
	"DisconnectCustomKeyStore":            handle((*service.Service).DisconnectCustomKeyStore),
	"EnableKey":                           handle((*service.Service).EnableKey),
	"EnableKeyRotation":                   handle((*service.Service).EnableKeyRotation),
	"Encapsulate":                         handle((*service.Service).Encapsulate),
	"Encrypt":                             handle((*service.Service).Encrypt),
	"GenerateDataKey":                     handle((*service.Service).GenerateDataKey),
	"GenerateDataKeyPair":                 handle((*service.Service).GenerateDataKeyPair),
	"GenerateDataKeyPairWithoutPlaintext": handle((*service.Service).GenerateDataKeyPairWithoutPlaintext),
	"GenerateDataKeyWithoutPlaintext":     handle((*service.Service).GenerateDataKeyWithoutPlaintext),
	"GenerateMac":                         handle((*service.Service).GenerateMac),
	"GenerateRandom":                      handle((*service.Service).GenerateRandom),
	"GetKeyLastUsage":                     handle((*service.Service).GetKeyLastUsage),
	"GetKeyPolicy":                        handle((*service.Service).GetKeyPolicy),
	"GetKeyRotationStatus":                handle((*service.Service).GetKeyRotationStatus),
	"GetParametersForImport":              handle((*service.Service).GetParametersForImport),
	"GetPublicKey":                        handle((*service.Service).GetPublicKey),
	"ImportKeyMaterial":                   handle((*service.Service).ImportKeyMaterial),
	"ListAliases":                         handle((*service.Service).ListAliases),
	"ListGrants":                          handle((*service.Service).ListGrants),
	"ListKeyPolicies":                     handle((*service.Service).ListKeyPolicies),
	"ListKeyRotations":                    handle((*service.Service).ListKeyRotations),
	"ListKeys":                            handle((*service.Service).ListKeys),
	"ListResourceTags":                    handle((*service.Service).ListResourceTags),
	"ListRetirableGrants":                 handle((*service.Service).ListRetirableGrants),
	"PutKeyPolicy":                        handle((*service.Service).PutKeyPolicy).withBody(policyBody),
	"ReEncrypt":                           handle((*service.Service).ReEncrypt),
	"ReplicateKey":                        handle((*service.Service).ReplicateKey).withBody(policyBody),
	"RetireGrant":                         handle((*service.Service).RetireGrant),
	"RevokeGrant":                         handle((*service.Service).RevokeGrant),
	"RotateKeyOnDemand":                   handle((*service.Service).RotateKeyOnDemand),
	"ScheduleKeyDeletion":                 handle((*service.Service).ScheduleKeyDeletion),
	"Sign":                                handle((*service.Service).Sign),
	"TagResource":                         handle((*service.Service).TagResource),
	"UntagResource":                       handle((*service.Service).UntagResource),
	"UpdateAlias":                         handle((*service.Service).UpdateAlias),
	"UpdateCustomKeyStore":                handle((*service.Service).UpdateCustomKeyStore),
	"UpdateKeyDescription":                handle((*service.Service).UpdateKeyDescription),
	"UpdatePrimaryRegion":                 handle((*service.Service).UpdatePrimaryRegion),
	"Verify":                              handle((*service.Service).Verify),
	"VerifyMac":                           handle((*service.Service).VerifyMac),
}

// handle makes an operation of a service method: decode, validate, call.
func handle[Req, Resp any](method func(*service.Service, context.Context, *service.Caller, *Req) (*Resp, error)) operation {
	d := newDecoder(reflect.TypeFor[Req]())
	return operation{
		maxBody: usualBody,
		call: func(ctx context.Context, s *service.Service, c *service.Caller, body []byte) (any, error) {
			in := new(Req)
			err := d.decode(body, in)
			clear(body) // it may hold a plaintext
			if err != nil {
				return nil, err
			}
			out, err := method(s, ctx, c, in)
			if err != nil {
				return nil, err
			}
			return out, nil
		},
	}
}

func (o operation) withBody(n int64) operation {
	o.maxBody = n
	return o
}
