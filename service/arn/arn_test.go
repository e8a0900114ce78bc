package arn

import (
	"strings"
	"testing"
)

// FuzzParse: what parses can be put together again.
func FuzzParse(f *testing.F) {
	f.Add("arn:aws:kms:us-east-1:111122223333:key/01234567-89ab-4def-8123-456789abcdef")
	f.Add("arn:verenc:111122223333:alias/a:b")
	f.Add("arn:aws-cn:kms:cn-north-1:111122223333:alias/x")
	f.Fuzz(func(t *testing.T, s string) {
		a, ok := Parse(s)
		if !ok {
			return
		}
		if again, ok := Parse(a.Of(a.Account, a.Region, a.Resource)); !ok || again != a {
			t.Errorf("%q parses to %+v, which does not come back", s, a)
		}
		if appended := a.Append([]byte("x"), a.Account, a.Region, a.Resource); string(appended) !=
			"x"+a.Of(a.Account, a.Region, a.Resource) {
			t.Errorf("%q is appended as %q", s, appended)
		}
	})
}

// TestFormsOfNames compares with the patterns of the API Reference.
func TestFormsOfNames(t *testing.T) {
	const uuid, digits = "0123abcd-4567-89ab-cdef-0123456789ab", "0123456789abcdef0123456789abcdef"
	for id, is := range map[string]bool{
		uuid: true, "mrk-" + digits: true,
		"": false, "mrk-": false, digits: false, "mrk-" + uuid: false, uuid + "0": false, uuid[1:]: false,
		strings.ToUpper(uuid): false, strings.Replace(uuid, "-", "0", 1): false, uuid[:35] + "g": false,
		uuid[:35] + "-": false, "mrk-" + digits[1:]: false, "MRK-" + digits: false, uuid[:35] + "é": false,
	} {
		if got := IsKeyID(id); got != is {
			t.Errorf("%q: %v", id, got)
		}
	}
	for account, is := range map[string]bool{
		"111122223333": true, "": false, "11112222333": false, "1111222233334": false,
		"11112222333a": false, "1111 2222333": false, "11112222333٣": false,
	} {
		if got := IsAccount(account); got != is {
			t.Errorf("%q: %v", account, got)
		}
	}
}
