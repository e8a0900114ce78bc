package transport

import (
	"context"
	"fmt"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
)

// targetPrefix begins X-Amz-Target; the operation's name follows.
const targetPrefix = "TrentService."

// usualBody is the size of the largest request of AWS STS, in bytes.
const usualBody = service.UsualBody

// operation is an entry of the service's table with the decoder of its requests.
type operation struct {
	*service.Operation
	decoder *decoder
}

// operations are those of the service, by the name behind targetPrefix.
var operations = func() map[string]*operation {
	all := map[string]*operation{}
	for _, name := range service.OperationNames() {
		o := service.OperationNamed(name)
		all[name] = &operation{o, newDecoder(o.Request)}
	}
	return all
}()

// do decodes and validates a request, and has the service answer it. It clears the body, which may
// hold a plaintext.
func (o *operation) do(ctx context.Context, s *service.Service, c *iam.Caller, body []byte) (any, error) {
	request := o.NewRequest()
	err := o.decoder.decode(body, request)
	clear(body)
	if err != nil {
		return nil, o.Reject(ctx, s, c, err)
	}
	return o.Call(ctx, s, c, request)
}

// Decode returns the request of an operation that a JSON text has, checked as a client's request is.
func Decode(operation string, body []byte) (any, error) {
	o := operations[operation]
	if o == nil {
		return nil, fmt.Errorf("there is no operation %s", operation)
	}
	request := o.NewRequest()
	return request, o.decoder.decode(body, request)
}
