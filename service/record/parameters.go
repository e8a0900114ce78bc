package record

import (
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/verenc/kms/service/audit"
)

// secretShapes are the shapes of members that must not be in a record.
var secretShapes = []string{"PlaintextType", "CiphertextType", "KeyStorePasswordType", "GrantTokenType",
	"GrantTokenList", "RecipientInfo", "XksProxyAuthenticationCredentialType"}

// IsSecret tells whether a member of a request is a secret, a plaintext or a ciphertext.
func IsSecret(f reflect.StructField) bool { return slices.Contains(secretShapes, f.Tag.Get("shape")) }

// Parameters returns the members of a request that may be in a record: those that are set and whose
// tag shape is not that of a secret, a plaintext or a ciphertext.
func Parameters(in any) audit.Object { return appendParameters(nil, in) }

// appendParameters appends the parameters to o. Without any the result is nil.
func appendParameters(o audit.Object, in any) audit.Object {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	for _, m := range recordedMembers(v.Type()) {
		if f := v.Field(m.index); !f.IsZero() {
			o = append(o, audit.Member{Name: m.name, Value: parameter(f)})
		}
	}
	if len(o) == 0 {
		return nil
	}
	return o
}

// recordedMember is a member of a request that may be in a record.
type recordedMember struct {
	index int
	name  string // in CloudTrail's spelling
}

var membersOfTypes sync.Map // reflect.Type to []recordedMember

func recordedMembers(t reflect.Type) []recordedMember {
	if known, ok := membersOfTypes.Load(t); ok {
		return known.([]recordedMember)
	}
	var members []recordedMember
	for i := range t.NumField() {
		if f := t.Field(i); !IsSecret(f) {
			members = append(members, recordedMember{i, strings.ToLower(f.Name[:1]) + f.Name[1:]})
		}
	}
	membersOfTypes.Store(t, members)
	return members
}

var timeType = reflect.TypeFor[time.Time]()

// parameter returns what a record has of a member: structures without their secrets, times in
// CloudTrail's format, and everything else as it is.
func parameter(v reflect.Value) any {
	switch t := v.Type(); {
	case t.Kind() == reflect.Struct && t.ConvertibleTo(timeType):
		return v.Convert(timeType).Interface().(time.Time).UTC().Format(time.RFC3339)
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return Parameters(v.Interface())
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		all := make([]audit.Object, v.Len())
		for i := range all {
			all[i] = Parameters(v.Index(i).Interface())
		}
		return all
	}
	return v.Interface()
}
