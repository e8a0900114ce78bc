package iam_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service/iam"
)

func TestProblems(t *testing.T) {
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = identityText
	}
	long := `{"Statement":{"Effect":"Allow","Action":"kms:` + strings.Repeat("x", 6144) + `","Resource":"*"}}`
	setARN := func(rest string) func(*iam.Principal) {
		return func(p *iam.Principal) { p.ARN = "arn:aws:iam::" + account + rest }
	}
	for _, test := range []struct {
		field, words string
		role         bool
		change       func(*iam.Principal)
	}{
		{"account", "12 digits", false, func(p *iam.Principal) { p.Account = "1" }},
		{"name", "1 to 64", false, func(p *iam.Principal) { p.Name = strings.Repeat("a", 65) }},
		{"name", "1 to 64", false, func(p *iam.Principal) { p.Name = "" }},
		{"name", "1 to 64", false, func(p *iam.Principal) { p.Name = "a*" }},
		{"name", "1 to 64", false, func(p *iam.Principal) { p.Name = "a/b" }},
		{"path", "must begin and end with /", false, setARN(":user/a:b/app")},
		{"path", "must begin and end with /", false, setARN(":user//app")},
		{"path", "must begin and end with /", false, setARN(":role/app")},
		{"path", "512 characters", false, setARN(":user/" + strings.Repeat("a", 511) + "/app")},
		{"tags", "51 are more than 50", false, func(p *iam.Principal) {
			p.Tags = map[string]string{}
			for k := range many {
				p.Tags[k] = ""
			}
		}},
		{"tags.", "the key is not 1 to 128", false, func(p *iam.Principal) { p.Tags = map[string]string{"": ""} }},
		{"tags.a!", "the key is not 1 to 128", false, func(p *iam.Principal) { p.Tags = map[string]string{"a!": ""} }},
		{"tags.AWS:a", "reserved", false, func(p *iam.Principal) { p.Tags = map[string]string{"AWS:a": ""} }},
		{"tags.a", "differs only in case from A", false,
			func(p *iam.Principal) { p.Tags = map[string]string{"a": "", "A": ""} }},
		{"tags.a", "the value is not up to 256", false,
			func(p *iam.Principal) { p.Tags = map[string]string{"a": strings.Repeat("ü", 257)} }},
		{"policies", "51 are more than 20", false, func(p *iam.Principal) { p.Policies = many }},
		{"policies.a b", "the name is not", false,
			func(p *iam.Principal) { p.Policies = map[string]string{"a b": identityText} }},
		{"policies.a", "Syntax errors", false, func(p *iam.Principal) { p.Policies = map[string]string{"a": ""} }},
		{"policies.a", "Principal", false, func(p *iam.Principal) { p.Policies = map[string]string{"a": trustText} }},
		{"policies.a", "at most 6144", false, func(p *iam.Principal) { p.Policies = map[string]string{"a": long} }},
		{"boundary", "Syntax errors", false, func(p *iam.Principal) { p.Boundary = "{" }},
		{"trust", "only roles", false, func(p *iam.Principal) { p.Trust = trustText }},
		{"trust", "needs a trust policy", true, func(p *iam.Principal) { p.Trust = "" }},
		{"trust", "no principal", true, func(p *iam.Principal) { p.Trust = identityText }},
		{"max_session", "only roles", false, func(p *iam.Principal) { p.MaxSession = 3600 }},
		{"max_session", "3600 to 43200", true, func(p *iam.Principal) { p.MaxSession = 3599 }},
		{"max_session", "3600 to 43200", true, func(p *iam.Principal) { p.MaxSession = 43201 }},
	} {
		kind := iam.KindUser
		if test.role {
			kind = iam.KindRole
		}
		p := plainPrincipal(kind, "/a/", "app")
		if all := p.Problems(); all != nil {
			t.Fatalf("before: %v", all)
		}
		test.change(p)
		all := p.Problems()
		wanted := func(x iam.Problem) bool { return x.Field == test.field && strings.Contains(x.Text, test.words) }
		if !slices.ContainsFunc(all, wanted) {
			t.Errorf("%s %q: %v", test.field, test.words, all)
		}
	}
	p := plainPrincipal(iam.KindUser, "/", "Zz0_+=,.@-")
	p.Tags = map[string]string{"Größe: a/b=c+d-@_.": strings.Repeat("ü", 256)}
	p.Policies = map[string]string{"spaces": strings.Repeat(" ", 20000) + identityText}
	if all := p.Problems(); all != nil {
		t.Errorf("a valid principal: %v", all)
	}
}
