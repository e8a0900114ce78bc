package transport

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go/middleware"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/inspect"
)

// notServed are members of answers that this service never has: those of AWS Nitro Enclaves, of
// external key stores, and the one for rotations that are in progress (here they are done when the
// answer comes).
var notServed = map[string]bool{
	"CiphertextForRecipient":    true,
	"OnDemandRotationStartDate": true,
	"XksKeyConfiguration":       true,
	"XksProxyConfiguration":     true,
}

// TestOperationsAreThoseOfTheSDK compares operations, members and their kinds with the AWS SDK for
// Go v2, so that drift shows: a newer SDK with an operation or a member that is not here makes this
// fail.
func TestOperationsAreThoseOfTheSDK(t *testing.T) {
	client := reflect.TypeFor[*kms.Client]()
	theirs := map[string]reflect.Method{}
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() == 4 && m.Type.In(1) == reflect.TypeFor[context.Context]() &&
			strings.HasSuffix(m.Type.In(2).String(), "Input") {
			theirs[m.Name] = m
		}
	}
	if got, want := service.OperationNames(), slices.Sorted(maps.Keys(theirs)); !slices.Equal(got, want) {
		t.Errorf("operations\n got %v\nwant %v", got, want)
	}
	for _, name := range service.OperationNames() {
		if m, known := theirs[name]; known {
			o := operations[targetPrefix+name]
			compare(t, name+"Request", o.Request, m.Type.In(2).Elem(), nil)
			compare(t, name+"Response", o.Response, m.Type.Out(0).Elem(), notServed)
		}
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

// structure is the one that a member is, points to, or is a list of; nil for the others and for
// times.
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

// answerEnums are the enumerations that only answers have.
var answerEnums = map[string]string{
	"ConnectionErrorCodeType": "INVALID_CREDENTIALS CLUSTER_NOT_FOUND NETWORK_ERRORS INTERNAL_ERROR " +
		"INSUFFICIENT_CLOUDHSM_HSMS INSUFFICIENT_FREE_ADDRESSES_IN_SUBNET USER_LOCKED_OUT USER_NOT_FOUND " +
		"USER_LOGGED_IN SUBNET_NOT_FOUND " +
		"XKS_PROXY_ACCESS_DENIED XKS_PROXY_INVALID_CONFIGURATION XKS_PROXY_INVALID_RESPONSE " +
		"XKS_PROXY_INVALID_TLS_CONFIGURATION XKS_PROXY_NOT_REACHABLE XKS_PROXY_TIMED_OUT " +
		"XKS_VPC_ENDPOINT_SERVICE_INVALID_CONFIGURATION XKS_VPC_ENDPOINT_SERVICE_NOT_FOUND",
	"ConnectionStateType": "CONNECTED CONNECTING FAILED DISCONNECTED DISCONNECTING",
	"ImportState":         "IMPORTED PENDING_IMPORT",
	"KeyLastUsageTrackingOperation": "Encrypt Decrypt ReEncrypt GenerateDataKey GenerateDataKeyWithoutPlaintext " +
		"GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext Sign Verify GenerateMac VerifyMac " +
		"DeriveSharedSecret Encapsulate Decapsulate",
	"KeyManagerType":   "AWS CUSTOMER",
	"KeyMaterialState": "NON_CURRENT CURRENT PENDING_ROTATION PENDING_MULTI_REGION_IMPORT_AND_ROTATION",
	"KeyState": "Creating Enabled Disabled PendingDeletion PendingImport " +
		"PendingReplicaDeletion Unavailable Updating",
	"MultiRegionKeyType": "PRIMARY REPLICA",
	"RotationType":       "AUTOMATIC ON_DEMAND",
}

// TestEnumsAreThoseOfTheSDK compares the values of every enumeration, in requests and in answers.
func TestEnumsAreThoseOfTheSDK(t *testing.T) {
	theirs := enumsOfTheSDK(t)
	ours := map[string]bool{} // shapes of operations that AWS does not have
	for _, name := range inspect.OperationNames() {
		for f := range inspect.OperationNamed(name).Request.Fields() {
			ours[f.Tag.Get("shape")] = true
		}
	}
	for name, s := range shapes {
		if len(s.values) == 0 || ours[name] && theirs[name] == nil {
			continue
		}
		if got, want := slices.Sorted(slices.Values(s.values)), theirs[name]; !slices.Equal(got, want) {
			t.Errorf("%s\n got %v\nwant %v", name, got, want)
		}
	}
	for name, values := range theirs {
		of, inAnswers := answerEnums[name]
		if shapes[name] == nil && !inAnswers {
			t.Errorf("the enumeration %s is not known: %v", name, values)
		}
		if got := slices.Sorted(slices.Values(strings.Fields(of))); inAnswers && !slices.Equal(got, values) {
			t.Errorf("%s\n got %v\nwant %v", name, got, values)
		}
	}
}

// enumsOfTheSDK reads the SDK's source: reflection does not see types that no member has.
func enumsOfTheSDK(t *testing.T) map[string][]string {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/kms").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(strings.TrimSpace(string(dir)), "types", "enums.go")
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	enums := map[string][]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, constant := n.(*ast.ValueSpec); constant {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			name := spec.Type.(*ast.Ident).Name
			enums[name] = append(enums[name], value)
		}
		return true
	})
	for _, values := range enums {
		slices.Sort(values)
	}
	if len(enums) < 30 {
		t.Errorf("only %d enumerations", len(enums))
	}
	return enums
}
