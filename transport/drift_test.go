package transport

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/verenc/kms/service"
)

// notServed are members of answers that this service never has: those of AWS Nitro Enclaves, of external key stores,
// and the one for rotations that are in progress (here they are done when the answer comes).
var notServed = map[string]bool{
	"CiphertextForRecipient": true, "XksKeyConfiguration": true, "XksProxyConfiguration": true, "OnDemandRotationStartDate": true,
}

// TestOperationsAreThoseOfTheSDK compares operations, members and their kinds with the AWS SDK for Go v2, so that drift
// shows: a newer SDK with an operation or a member that is not here makes this fail.
func TestOperationsAreThoseOfTheSDK(t *testing.T) {
	client := reflect.TypeFor[*kms.Client]()
	theirs := map[string]reflect.Method{}
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() == 4 && m.Type.In(1) == reflect.TypeFor[context.Context]() && strings.HasSuffix(m.Type.In(2).String(), "Input") {
			theirs[m.Name] = m
		}
	}
	if got, want := slices.Sorted(maps.Keys(operations)), slices.Sorted(maps.Keys(theirs)); !slices.Equal(got, want) {
		t.Errorf("operations\n got %v\nwant %v", got, want)
	}
	ours := reflect.TypeFor[*service.Service]()
	for name, m := range theirs {
		method, ok := ours.MethodByName(name)
		if !ok {
			t.Errorf("service has no %s", name)
			continue
		}
		compare(t, name+"Request", method.Type.In(3).Elem(), m.Type.In(2).Elem(), nil)
		compare(t, name+"Response", method.Type.Out(0).Elem(), m.Type.Out(0).Elem(), notServed)
	}
}

// compare compares the members of two structures, and those below.
func compare(t *testing.T, path string, ours, theirs reflect.Type, except map[string]bool) {
	t.Helper()
	members := func(s reflect.Type) []string {
		var names []string
		for i := range s.NumField() {
			if f := s.Field(i); f.IsExported() && f.Type != reflect.TypeFor[middleware.Metadata]() && !except[f.Name] {
				names = append(names, f.Name)
			}
		}
		slices.Sort(names)
		return names
	}
	got, want := members(ours), members(theirs)
	if !slices.Equal(got, want) {
		t.Errorf("%s has members\n %v\nthe SDK's has\n %v", path, got, want)
		return
	}
	for _, name := range got {
		a, _ := ours.FieldByName(name)
		b, _ := theirs.FieldByName(name)
		if x, y := kind(a.Type), kind(b.Type); x != y {
			t.Errorf("%s.%s is a %s, the SDK's is a %s", path, name, x, y)
			continue
		}
		if x, y := structure(a.Type), structure(b.Type); x != nil && y != nil {
			compare(t, path+"."+name, x, y, except)
		}
	}
}

// structure is the one that a member is, points to, or is a list of; nil for the others and for times.
func structure(t reflect.Type) reflect.Type {
	t = plain(t)
	if t.Kind() == reflect.Slice {
		t = plain(t.Elem())
	}
	if t.Kind() != reflect.Struct || kind(t) == "timestamp" {
		return nil
	}
	return t
}

func plain(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// kind names what a member is on the wire.
func kind(t reflect.Type) string {
	t = plain(t)
	switch {
	case t == reflect.TypeFor[time.Time](), t == reflect.TypeFor[service.Timestamp]():
		return "timestamp"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		return "blob"
	case t.Kind() == reflect.Slice:
		return "list of " + kind(t.Elem())
	}
	return t.Kind().String()
}

// TestEnumsAreThoseOfTheSDK compares the values of every enumeration in requests.
func TestEnumsAreThoseOfTheSDK(t *testing.T) {
	theirs := map[string][]string{
		"AlgorithmSpec":              text(types.AlgorithmSpec("").Values()),
		"CustomKeyStoreType":         text(types.CustomKeyStoreType("").Values()),
		"CustomerMasterKeySpec":      text(types.CustomerMasterKeySpec("").Values()),
		"DataKeyPairSpec":            text(types.DataKeyPairSpec("").Values()),
		"DataKeySpec":                text(types.DataKeySpec("").Values()),
		"DryRunModifierType":         text(types.DryRunModifierType("").Values()),
		"EncapsulationAlgorithmSpec": text(types.EncapsulationAlgorithmSpec("").Values()),
		"EncryptionAlgorithmSpec":    text(types.EncryptionAlgorithmSpec("").Values()),
		"ExpirationModelType":        text(types.ExpirationModelType("").Values()),
		"GrantOperation":             text(types.GrantOperation("").Values()),
		"ImportType":                 text(types.ImportType("").Values()),
		"IncludeKeyMaterial":         text(types.IncludeKeyMaterial("").Values()),
		"KeyAgreementAlgorithmSpec":  text(types.KeyAgreementAlgorithmSpec("").Values()),
		"KeyEncryptionMechanism":     text(types.KeyEncryptionMechanism("").Values()),
		"KeySpec":                    text(types.KeySpec("").Values()),
		"KeyUsageType":               text(types.KeyUsageType("").Values()),
		"MacAlgorithmSpec":           text(types.MacAlgorithmSpec("").Values()),
		"MessageType":                text(types.MessageType("").Values()),
		"OriginType":                 text(types.OriginType("").Values()),
		"SigningAlgorithmSpec":       text(types.SigningAlgorithmSpec("").Values()),
		"WrappingKeySpec":            text(types.WrappingKeySpec("").Values()),
		"XksProxyConnectivityType":   text(types.XksProxyConnectivityType("").Values()),
	}
	for name, s := range shapes {
		if len(s.values) == 0 {
			continue
		}
		if got, want := slices.Sorted(slices.Values(s.values)), slices.Sorted(slices.Values(theirs[name])); !slices.Equal(got, want) {
			t.Errorf("%s\n got %v\nwant %v", name, got, want)
		}
	}
}

func text[T ~string](values []T) (all []string) {
	for _, v := range values {
		all = append(all, string(v))
	}
	return all
}
