package service

import (
	"context"
	"reflect"

	"github.com/verenc/kms/service/arn"
)

// ARN returns the key's ARN in a form.
func (k *Key) ARN(f arn.Form) string { return f.OfKey(k.Account, k.Region, k.ID) }

// ARN returns the alias's ARN in a form.
func (a *Alias) ARN(f arn.Form) string { return f.Of(a.Account, a.Region, a.Name) }

type arnFormKey struct{}

// withARNForm adds the form of ARN in which a request names its key to the context. The answer uses
// that form too, since clients compare ARNs. A request that names keys in both forms is answered in
// AWS's form.
func (o *Operation) withARNForm(ctx context.Context, request any) context.Context {
	if len(o.keyMembers) == 0 {
		return ctx
	}
	var form arn.Form
	named := false
	for _, i := range o.keyMembers {
		id := reflect.ValueOf(request).Elem().Field(i).String()
		if a, ok := arn.Parse(id); ok && !(named && form.IsAWS()) {
			form, named = a.Form, true
		}
	}
	if !named {
		return ctx
	}
	return context.WithValue(ctx, arnFormKey{}, form)
}

// keyMembersOf are the indexes of the members of a request that name keys.
func keyMembersOf(request reflect.Type) (members []int) {
	for i := range request.NumField() {
		if request.Field(i).Tag.Get("shape") == "KeyIdType" {
			members = append(members, i)
		}
	}
	return members
}

// arns is the form of the ARNs in the answer to a request, errors included.
func (s *Service) arns(ctx context.Context) arn.Form {
	if f, named := ctx.Value(arnFormKey{}).(arn.Form); named {
		return f
	}
	return s.canonical
}
