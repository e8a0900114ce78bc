package service

import (
	"context"
	"reflect"
	"sync"

	"github.com/verenc/kms/service/arn"
)

// ARN returns the key's ARN in a form.
func (k *Key) ARN(f arn.Form) string { return f.Of(k.Account, k.Region, "key/"+k.ID) }

// ARN returns the alias's ARN in a form.
func (a *Alias) ARN(f arn.Form) string { return f.Of(a.Account, a.Region, a.Name) }

type arnFormKey struct{}

// withARNForm adds the form of ARN in which a request names its key to the context. The answer uses
// that form too, since clients compare ARNs. A request that names keys in both forms is answered in
// AWS's form.
func withARNForm(ctx context.Context, in any) context.Context {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return ctx
	}
	var form *arn.Form
	for _, i := range keyMembers(v.Type()) {
		if a, ok := arn.Parse(v.Field(i).String()); ok && (form == nil || !form.IsAWS()) {
			form = &a.Form
		}
	}
	if form == nil {
		return ctx
	}
	return context.WithValue(ctx, arnFormKey{}, *form)
}

var keyMembersOfTypes sync.Map // reflect.Type to []int

// keyMembers are the indexes of the members that name keys.
func keyMembers(t reflect.Type) []int {
	if known, ok := keyMembersOfTypes.Load(t); ok {
		return known.([]int)
	}
	var members []int
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("shape") == "KeyIdType" {
			members = append(members, i)
		}
	}
	keyMembersOfTypes.Store(t, members)
	return members
}

// arns is the form of the ARNs in the answer to a request, errors included.
func (s *Service) arns(ctx context.Context) arn.Form {
	if f, named := ctx.Value(arnFormKey{}).(arn.Form); named {
		return f
	}
	return s.canonical
}
