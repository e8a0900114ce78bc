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
	"CancelKeyDeletion":               handle((*service.Service).CancelKeyDeletion),
	"CreateAlias":                     handle((*service.Service).CreateAlias),
	"CreateKey":                       handle((*service.Service).CreateKey).withBody(policyBody),
	"Decrypt":                         handle((*service.Service).Decrypt),
	"DeleteAlias":                     handle((*service.Service).DeleteAlias),
	"DescribeKey":                     handle((*service.Service).DescribeKey),
	"DisableKey":                      handle((*service.Service).DisableKey),
	"EnableKey":                       handle((*service.Service).EnableKey),
	"Encrypt":                         handle((*service.Service).Encrypt),
	"GenerateDataKey":                 handle((*service.Service).GenerateDataKey),
	"GenerateDataKeyWithoutPlaintext": handle((*service.Service).GenerateDataKeyWithoutPlaintext),
	"GenerateRandom":                  handle((*service.Service).GenerateRandom),
	"ListAliases":                     handle((*service.Service).ListAliases),
	"ListKeys":                        handle((*service.Service).ListKeys),
	"ReEncrypt":                       handle((*service.Service).ReEncrypt),
	"ScheduleKeyDeletion":             handle((*service.Service).ScheduleKeyDeletion),
	"UpdateAlias":                     handle((*service.Service).UpdateAlias),
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
