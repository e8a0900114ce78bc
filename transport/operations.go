package transport

import (
	"context"
	"fmt"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/inspect"
)

// What X-Amz-Target begins with: the operation's name follows.
const (
	targetPrefix = "TrentService." // AWS KMS
	ownPrefix    = "Verenc."       // of package inspect
)

// usualBody is the size of the largest request of AWS STS, in bytes.
const usualBody = service.UsualBody

// operation is an entry of a table of operations with the decoder of its requests.
type operation struct {
	*service.Operation
	decoder *decoder
	label   string // its name in logs and metrics
}

// operations are those that are served, by X-Amz-Target.
var operations = func() map[string]*operation {
	all := map[string]*operation{}
	for _, name := range service.OperationNames() {
		o := service.OperationNamed(name)
		all[targetPrefix+name] = &operation{o, newDecoder(o.Request), name}
	}
	for _, name := range inspect.OperationNames() {
		o := inspect.OperationNamed(name)
		all[ownPrefix+name] = &operation{o, newDecoder(o.Request), "verenc:" + name}
	}
	return all
}()

// host is what serves an operation; nil when this server does not.
func (h *handler) host(o *operation) service.Host {
	switch {
	case o.Family != inspect.Family:
		return h.cfg.Service
	case h.cfg.Inspector != nil:
		return h.cfg.Inspector
	}
	return nil
}

// do decodes and validates a request, and has the host answer it. It clears the body, which may hold
// a plaintext.
func (o *operation) do(ctx context.Context, host service.Host, c *iam.Caller, body []byte) (any, error) {
	request := o.NewRequest()
	err := o.decoder.decode(body, request)
	clear(body)
	if err != nil {
		return nil, o.Reject(ctx, host, c, err)
	}
	return o.Call(ctx, host, c, request)
}

// Decode returns the request of an operation of AWS KMS that a JSON text has, checked as a client's
// request is.
func Decode(operation string, body []byte) (any, error) {
	o := operations[targetPrefix+operation]
	if o == nil {
		return nil, fmt.Errorf("there is no operation %s", operation)
	}
	request := o.NewRequest()
	return request, o.decoder.decode(body, request)
}
