package service

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/apierror"
)

// TestTableLeavesNothingOpen: every entry of the table says everything that it must.
func TestTableLeavesNothingOpen(t *testing.T) {
	methods := reflect.TypeFor[*Service]()
	for _, name := range operationNames {
		o := operations[name]
		method, found := methods.MethodByName(name)
		if !found || method.Type.In(3).Elem() != o.Request || method.Type.Out(0).Elem() != o.Response {
			t.Errorf("%s does not have the method of its name", name)
		}
		for what, missing := range map[string]bool{
			"family":      o.Family == "",
			"permissions": len(o.Permissions) == 0,
			"resource":    o.Resource == 0,
			"callers":     o.Callers == 0,
			"effect":      o.Effect == 0,
			"errors":      o.Errors == nil,
			"key rule":    o.Key == nil && (o.Resource != OnAccount || len(o.KeyMembers()) > 0),
			"page size":   (o.Page.Default == 0 || o.Page.Max < o.Page.Default) == hasMember(o.Request, "Marker"),
			"grant":       o.GrantOperations == nil && hasMember(o.Request, "GrantTokens"),
			"conditions":  slices.Contains(o.Conditions, ""),
		} {
			if missing {
				t.Errorf("%s has no %s", name, what)
			}
		}
		if o.Key != nil && o.Key.States == nil {
			t.Errorf("%s does not say in which states of its key it works", name)
		}
		if len(operations) != len(operationNames) {
			t.Error("two entries have one name")
		}
		for _, list := range [][]string{o.Permissions, o.GrantOperations, o.Conditions, o.RecordData} {
			if unique := slices.Compact(slices.Sorted(slices.Values(list))); len(unique) != len(list) {
				t.Errorf("%s has a name twice: %v", name, list)
			}
		}
		if codes := o.ErrorCodes(); len(slices.Compact(slices.Clone(codes))) != len(codes) {
			t.Errorf("%s has an error twice: %v", name, codes)
		}
	}
}

// TestErrorsFollowFromTheEntry: what an entry says of keys and requests has its errors.
func TestErrorsFollowFromTheEntry(t *testing.T) {
	for name, o := range operations {
		needs := map[apierror.Code]bool{
			apierror.DryRun:            hasMember(o.Request, "DryRun"),
			apierror.InvalidGrantToken: hasMember(o.Request, "GrantTokens"),
			apierror.InvalidMarker:     hasMember(o.Request, "Marker"),
		}
		if o.Key != nil {
			needs[apierror.NotFound] = true
			needs[apierror.InvalidKeyUsage] = o.Key.Usages != nil
			for _, note := range o.Key.States {
				needs[apierror.Disabled] = needs[apierror.Disabled] || note == disabled
				needs[apierror.InvalidState] = needs[apierror.InvalidState] || note != disabled
			}
		}
		ofOneKind := o.Key != nil && o.Key.Kind != anyKind
		needs[apierror.UnsupportedOperation] = ofOneKind || hasMember(o.Request, "Recipient")
		for code, needed := range needs {
			if needed && !slices.Contains(o.Errors, code) {
				t.Errorf("%s lacks the error %s", name, code)
			}
		}
	}
}

func hasMember(request reflect.Type, name string) bool {
	_, found := request.FieldByName(name)
	return found
}

// TestSymmetricOnlyHasAUsage: only for keys of usage ENCRYPT_DECRYPT the spec makes a difference.
func TestSymmetricOnlyHasAUsage(t *testing.T) {
	for name, o := range operations {
		if o.Key != nil && o.Key.SymmetricOnly && !slices.Equal(o.Key.Usages, encryptDecrypt) {
			t.Errorf("%s is for keys of usage %v", name, o.Key.Usages)
		}
	}
}

// TestGrantOperationsAreOfTheAPI: each element of a grant's Operations is some operation's, with
// the permission's name.
func TestGrantOperationsAreOfTheAPI(t *testing.T) {
	for g, o := range grantedBy {
		if permissionOwners["kms:"+g] != o {
			t.Errorf("the grant operation %s is of %s, the permission is not", g, o.Name)
		}
	}
}

// TestCallersOfOtherAccounts compares the table with what AWS says of each operation
// ("Cross-account use: Yes"), as the comments of its SDK for Go have it.
func TestCallersOfOtherAccounts(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/aws/aws-sdk-go-v2/service/kms").Output()
	if err != nil {
		t.Fatal(err)
	}
	use := regexp.MustCompile(`Cross-account\s+(?://\s+)?use:?\s+(?://\s+)?(Yes|No)`)
	told := 0
	for name, o := range operations {
		text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "api_op_"+name+".go"))
		if err != nil {
			t.Fatal(err)
		}
		want := OwnAccount // for the few of which AWS says nothing
		if m := use.FindSubmatch(text); m != nil {
			told++
			if string(m[1]) == "Yes" {
				want = AnyAccount
			}
		}
		if o.Callers != want {
			t.Errorf("%s: Callers is %d, AWS says %d", name, o.Callers, want)
		}
	}
	if told < 45 {
		t.Errorf("AWS says of %d operations only whether they work across accounts", told)
	}
	for permission, want := range map[string]bool{"kms:TagResource": false, "kms:Nothing": false} {
		if got := allowsOtherAccounts(permission); got != want {
			t.Errorf("%s to other accounts: %v", permission, got)
		}
	}
}

// TestReadOnly: records of operations whose names say that they change something say so too.
func TestReadOnly(t *testing.T) {
	changes := regexp.MustCompile("^(Cancel|Connect|Create|Delete|Disable|Disconnect|Enable|GetParameters|Import|Put|" +
		"Replicate|Retire|Revoke|Rotate|Schedule|Tag|Untag|Update)")
	for name := range operations {
		if readOnly(name) == changes.MatchString(name) {
			t.Errorf("%s: readOnly is %v", name, readOnly(name))
		}
	}
}

// TestKeyPermissions: policies of keys can't allow what is the account's, and what a grant decides
// on.
func TestKeyPermissions(t *testing.T) {
	for _, p := range []string{"ReEncrypt", "RetireGrant", "ListAliases", "ListKeys", "CreateKey", "GenerateRandom"} {
		if slices.Contains(KeyPermissions(), p) {
			t.Errorf("%s is no permission on a key", p)
		}
	}
	for _, p := range []string{"ReEncryptFrom", "ReEncryptTo", "Decrypt", "CreateAlias", "TagResource"} {
		if !slices.Contains(KeyPermissions(), p) {
			t.Errorf("%s is a permission on a key", p)
		}
	}
	if n := len(KeyPermissions()); n != 45 {
		t.Errorf("there are %d permissions on keys (AWS page \"AWS KMS permissions\")", n)
	}
}

// TestConditionsHaveValues: a request that has every member has a value for each condition key of
// its operation, and for no other one.
func TestConditionsHaveValues(t *testing.T) {
	every := map[string]bool{}
	for _, o := range operations {
		for _, key := range o.Conditions {
			every[key] = true
		}
	}
	k := &Key{ID: "k", CreatedAt: time.Unix(0, 0)}
	grant := func(service bool) *Grant {
		terms := GrantTerms{Operations: []string{"Decrypt"}, Equals: map[string]string{"a": "b"}, SourceARN: "arn",
			GranteeIsService: service, RetiringIsService: service}
		return &Grant{Grantee: "one", Retiring: "another", GrantTerms: terms}
	}
	others := map[string][]conditionSource{
		"CreateGrant":         {grant(false), grant(true)},
		"RetireGrant":         {grant(false), grant(true)},
		"ScheduleKeyDeletion": {pendingWindow(7)},
		"ReEncrypt":           {&reEncryptSide{otherKey: "k"}},
	}
	for name, o := range operations {
		sources := others[name]
		if sources == nil {
			request := o.NewRequest()
			fill(reflect.ValueOf(request).Elem())
			if source, has := request.(conditionSource); has {
				sources = []conditionSource{source}
			}
		}
		for key := range every {
			var values []string
			for _, source := range sources {
				values = append(values, source.condition(strings.ToLower(key), k)...)
			}
			listed := slices.Contains(o.Conditions, key)
			ofAnother := name == "ReplicateKey" && slices.Contains(operations["CreateKey"].Conditions, key)
			switch {
			case len(values) > 0 && !listed && !ofAnother:
				t.Errorf("%s has the values %q of %s, which the table does not list", name, values, key)
			case len(values) == 0 && listed && !slices.Contains(notOfMembers, key):
				t.Errorf("%s has no value of %s", name, key)
			}
		}
	}
}

// notOfMembers are the condition keys whose values package policy or the Service finds.
var notOfMembers = []string{"aws:RequestTag/", "aws:TagKeys", "kms:EncryptionContext:", "kms:EncryptionContextKeys",
	"kms:GrantIsForAWSResource", "kms:TrailingDaysWithoutKeyUsage"}

// fill sets every member of a request.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int32:
			f.SetInt(1)
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		case reflect.Struct:
			if f.Type() == reflect.TypeFor[Timestamp]() {
				f.Set(reflect.ValueOf(Timestamp(time.Unix(1, 0))))
			}
		}
	}
}
