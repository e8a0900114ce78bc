package policy

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func identityStatement(element string) string {
	return `{"Version":"2012-10-17","Statement":[{"Sid":"only","Effect":"Allow","Action":"kms:*","Resource":"*"` +
		element + `}]}`
}

const identityDeny = `{"Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}`

func decrypt(caller string) *Request {
	return &Request{Action: "kms:Decrypt", CrossAccount: true, Resources: []string{keyARN, verencARN},
		ResourceAccount: account,
		Principal:       callers[caller]}
}

// IAM User Guide, "Troubleshoot access denied error messages".
func TestMessage(t *testing.T) {
	allow := parse(t, KeyPolicy, keyStatement(``))
	root := parse(t, KeyPolicy, keyPrincipal(`{"AWS":"`+account+`"}`))
	denyAll := parse(t, KeyPolicy, `{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}}`)
	identity := parse(t, IdentityPolicy, identityStatement(``))
	nothing := parse(t, IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`)
	deny := parse(t, IdentityPolicy, identityDeny)
	const alice = "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:Decrypt on resource: " +
		keyARN
	const session = "User: arn:aws:sts::111122223333:assumed-role/Dev/s1 is not authorized to perform: kms:Decrypt on resource: " +
		keyARN
	for _, test := range []struct {
		caller   string
		policies Policies
		want     string
	}{
		{"alice", Policies{Key: &Document{}},
			alice + " because no resource-based policy allows the kms:Decrypt action"},
		{"alice", Policies{Key: root}, alice + " because no identity-based policy allows the kms:Decrypt action"},
		{"alice", Policies{Key: root, Identity: []*Document{identity}, Boundary: []*Document{nothing}},
			alice + " because no permissions boundary allows the kms:Decrypt action"},
		{"dev/s1", Policies{Key: root, Identity: []*Document{identity}, Session: []*Document{nothing}},
			session + " because no session policy allows the kms:Decrypt action"},
		{"alice", Policies{Key: denyAll}, alice + " with an explicit deny in a resource-based policy"},
		{"alice", Policies{Key: allow, Identity: []*Document{identity, deny}},
			alice + " with an explicit deny in an identity-based policy"},
		{"alice", Policies{Key: allow, Boundary: []*Document{deny}},
			alice + " with an explicit deny in a permissions boundary"},
		{"dev/s1", Policies{Key: allow, Session: []*Document{deny}},
			session + " with an explicit deny in a session policy"},
	} {
		r := decrypt(test.caller)
		d := Evaluate(&test.policies, r)
		if got := d.Message(r); d.Allowed || got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
	r := &Request{Action: "kms:CreateKey", Principal: callers["alice"], ResourceAccount: account}
	d := Evaluate(&Policies{}, r)
	want := "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:CreateKey on resource: * because no identity-based policy allows the kms:CreateKey action"
	if got := d.Message(r); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDecisionNamesStatement(t *testing.T) {
	first := parse(t, IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}`)
	second := parse(t, IdentityPolicy, `{"Statement":[{"Effect":"Deny","Action":"kms:Sign","Resource":"*"},{"Sid":"decrypts","Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}`)
	root := parse(t, KeyPolicy, keyPrincipal(`{"AWS":"`+account+`"}`))
	p := &Policies{Key: root, Identity: []*Document{first, nil, second}}
	got := Evaluate(p, decrypt("alice"))
	if want := (Decision{Allowed: true, By: FromIdentityPolicy, Document: 2, Statement: 1,
		Sid: "decrypts"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestExplain(t *testing.T) {
	key := parse(t, KeyPolicy, `{"Version":"2012-10-17","Statement":[
		{"Sid":"account","Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},
		{"Sid":"action","Effect":"Allow","Principal":"*","Action":"kms:Encrypt","Resource":"*"},
		{"Sid":"principal","Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"kms:*","Resource":"*"},
		{"Sid":"resource","Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:*:key/*"},
		{"Sid":"condition","Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"BoolIfExists":{"aws:SecureTransport":"true"},"StringEquals":{"aws:PrincipalTag/Team":"x"}}},
		{"Sid":"variable","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringNotEquals":{"aws:userid":"${k:none}"}}}]}`)
	identity := parse(t, IdentityPolicy, identityStatement(``))
	p := &Policies{Key: key, Identity: []*Document{nil, identity}, Grants: []Grant{
		{ID: "g1", Grantee: callers["bob"].ARN, Operations: []string{"Decrypt"}},
		{ID: "g2", Grantee: callers["alice"].ARN, Operations: []string{"Encrypt"}},
		{ID: "g3", Grantee: callers["alice"].ARN, Operations: []string{"Decrypt"},
			EncryptionContextEquals: map[string]string{"a": "b"}}}}
	d, steps := Explain(p, decrypt("alice"))
	if want := (Decision{Allowed: true, By: FromIdentityPolicy, Document: 1, Statement: 0, Sid: "only"}); d != want {
		t.Errorf("got %+v, want %+v", d, want)
	}
	want := []Step{
		{By: FromKeyPolicy, Statement: 0, Sid: "account", Applies: true, Reason: "names the caller's account"},
		{By: FromKeyPolicy, Statement: 1, Sid: "action", Reason: "does not have the action"},
		{By: FromKeyPolicy, Statement: 2, Sid: "principal", Reason: "does not have the principal"},
		{By: FromKeyPolicy, Statement: 3, Sid: "resource", Deny: true, Reason: "does not have the resource"},
		{By: FromKeyPolicy, Statement: 4, Sid: "condition", Deny: true,
			Reason: "the condition StringEquals on aws:principaltag/team does not hold"},
		{By: FromKeyPolicy, Statement: 5, Sid: "variable", Reason: "has a variable without a value"},
		{By: FromIdentityPolicy, Document: 1, Sid: "only", Applies: true, Reason: "applies"},
		{By: FromGrant, Statement: 0, GrantID: "g1", Reason: "does not name the caller"},
		{By: FromGrant, Statement: 1, GrantID: "g2", Reason: "does not have the operation"},
		{By: FromGrant, Statement: 2, GrantID: "g3", Reason: "its constraints do not hold"},
	}
	if !slices.Equal(steps, want) {
		t.Errorf("got  %+v\nwant %+v", steps, want)
	}
}

func TestExplainNamesWhatIsOpen(t *testing.T) {
	identity := parse(t, IdentityPolicy, identityStatement(
		`,"Condition":{"StringEquals":{"kms:ViaService":"x","aws:PrincipalAccount":"111122223333"},"Bool":{"aws:SecureTransport":"true"}}`))
	other := parse(t, IdentityPolicy, identityStatement(
		`,"Condition":{"StringEquals":{"kms:ViaService":"x","aws:PrincipalAccount":"444455556666"}}`))
	p := &Policies{Identity: []*Document{identity, other}, Key: parse(t, KeyPolicy, keyPrincipal(`{"AWS":"`+account+`"}`)),
		Grants: []Grant{{ID: "g", Grantee: callers["alice"].ARN, Operations: []string{"Decrypt"}, SourceARN: "arn:x"}}}
	for assumption, allowed := range map[Assumption]bool{AbsentIsAbsent: false, Favourable: true, Unfavourable: false} {
		r := decrypt("alice")
		r.Assume = assumption
		d, steps := Explain(p, r)
		if d.Allowed != allowed {
			t.Errorf("%d: %+v", assumption, d)
		}
		const open = "the condition StringEquals on kms:viaservice and the condition Bool on aws:securetransport"
		var got []string
		for _, s := range steps {
			got = append(got, s.Open)
		}
		want := map[Assumption][]string{AbsentIsAbsent: {"", "", "", ""},
			Favourable:   {"", open, "", "its constraints"},
			Unfavourable: {"", open, "", ""}}[assumption]
		if !slices.Equal(got, want) {
			t.Errorf("%d: %q", assumption, got)
		}
	}
}

func TestExplainRules(t *testing.T) {
	p := &Policies{Key: parse(t, KeyPolicy, keyStatement(``)),
		Identity: []*Document{parse(t, IdentityPolicy, identityStatement(``))}}
	for _, test := range []struct{ caller, action, want string }{
		{"carol", "kms:PutKeyPolicy", "the operation is not for callers of other accounts"},
		{"alice", "kms:RetireGrant", "key policies cannot allow the operation"},
		{"carol", "kms:Decrypt", "applies"},
	} {
		r := decrypt(test.caller)
		r.Action, r.CrossAccount = test.action, test.action != "kms:PutKeyPolicy"
		if _, steps := Explain(p, r); steps[len(steps)-1].Reason != test.want {
			t.Errorf("%s, %s: %+v", test.caller, test.action, steps)
		}
	}
}

// KMS Developer Guide, "Default key policy", and API Reference, PutKeyPolicy.
func TestLeavesControl(t *testing.T) {
	for _, test := range []struct {
		caller, statements string
		want               bool
	}{
		{"alice", `{"Effect":"Allow","Principal":{"AWS":"@root"},"Action":"kms:*","Resource":"*"}`, true},
		{"alice", `{"Effect":"Allow","Principal":{"AWS":"@alice"},"Action":"kms:Put*","Resource":"*"}`, true},
		{"dev/s1", `{"Effect":"Allow","Principal":{"AWS":"@dev"},"Action":"kms:PutKeyPolicy","Resource":"@key"}`, true},
		{"alice", `{"Effect":"Allow","Principal":{"AWS":"@bob"},"Action":"kms:*","Resource":"*"}`, false},
		{"root", `{"Effect":"Allow","Principal":{"AWS":"@bob"},"Action":"kms:*","Resource":"*"}`, false},
		{"alice", `{"Effect":"Allow","Principal":{"AWS":"@alice"},"Action":"kms:Get*","Resource":"*"}`, false},
		{"alice",
			`{"Effect":"Allow","Principal":{"AWS":"@alice"},"Action":"kms:*","Resource":"arn:aws:kms:us-west-2:111122223333:key/other"}`,
			false},
		{"alice",
			`{"Effect":"Allow","Principal":{"AWS":"@root"},"Action":"kms:*","Resource":"*"},{"Effect":"Deny","Principal":"*","Action":"kms:PutKeyPolicy","Resource":"*"}`,
			false},
		{"alice",
			`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/a":"b"}}}`,
			false},
		{"carol", `{"Effect":"Allow","Principal":{"AWS":"@carol"},"Action":"kms:*","Resource":"*"}`, false},
	} {
		d := parse(t, KeyPolicy, `{"Statement":[`+shorthand.Replace(test.statements)+`]}`)
		r := decrypt(test.caller)
		if got := d.LeavesControl(r); got != test.want || r.Action != "kms:Decrypt" {
			t.Errorf("%s, %s: got %v", test.caller, test.statements, got)
		}
	}
}

// KMS Developer Guide, "Creating grants", granting CreateGrant permission.
func TestGrantCovers(t *testing.T) {
	it, alpha := map[string]string{"Department": "IT"}, map[string]string{"Department": "IT", "Project": "Alpha"}
	operations := []string{"GenerateDataKey", "Decrypt", "CreateGrant"}
	for _, test := range []struct {
		name          string
		parent, child Grant
		want          bool
	}{
		{"the same", Grant{EncryptionContextSubset: it},
			Grant{Operations: operations, EncryptionContextSubset: it}, true},
		{"fewer operations", Grant{}, Grant{Operations: operations[:1]}, true},
		{"another operation", Grant{}, Grant{Operations: []string{"Decrypt", "Encrypt"}}, false},
		{"a constraint added", Grant{}, Grant{EncryptionContextEquals: it}, true},
		{"a pair added to a subset", Grant{EncryptionContextSubset: it}, Grant{EncryptionContextSubset: alpha}, true},
		{"a pair removed from a subset", Grant{EncryptionContextSubset: alpha},
			Grant{EncryptionContextSubset: it}, false},
		{"subset becomes equals", Grant{EncryptionContextSubset: it}, Grant{EncryptionContextEquals: alpha}, true},
		{"subset becomes equals without its pair", Grant{EncryptionContextSubset: alpha},
			Grant{EncryptionContextEquals: it}, false},
		{"equals becomes subset", Grant{EncryptionContextEquals: it}, Grant{EncryptionContextSubset: it}, false},
		{"equals with a pair more", Grant{EncryptionContextEquals: it}, Grant{EncryptionContextEquals: alpha}, false},
		{"a constraint dropped", Grant{EncryptionContextSubset: it}, Grant{}, false},
		{"the source dropped", Grant{SourceARN: "arn:aws:s3:::b"}, Grant{}, false},
		{"the source kept", Grant{SourceARN: "arn:aws:s3:::b"}, Grant{SourceARN: "arn:aws:s3:::b"}, true},
	} {
		test.parent.Operations = operations
		if got := test.parent.Covers(&test.child); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// FuzzEvaluate holds that nothing panics, that a document without Allow allows nothing, and that a Deny for all in
// any policy denies whatever else is said.
func FuzzEvaluate(f *testing.F) {
	f.Add(keyStatement(``), identityStatement(``), "alice", "kms:Decrypt", "AppName", "ExampleApp")
	f.Add(keyCondition(`{"StringLike":{"kms:EncryptionContext:AppName":"${aws:username}*"}}`), identityDeny, "carol",
		"kms:Encrypt", "AppName", "alice1")
	f.Add(keyCondition(
		`{"ForAnyValue:StringNotEquals":{"kms:EncryptionContextKeys":["a"]},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`),
		identityStatement(`,"Condition":{"Null":{"aws:username":true}}`), "dev/s1", "kms:Sign", "", "")
	f.Add(keyCondition(
		`{"DateLessThan":{"aws:CurrentTime":"2030"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}}`),
		identityStatement(``), "root", "KMS:x", "\xff", "*")
	denyKey := parse(f, KeyPolicy, `{"Statement":{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}}`)
	denyIdentity := parse(f, IdentityPolicy, `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`)
	f.Fuzz(func(t *testing.T, keyText, identityText, caller, action, name, value string) {
		key, err := Parse(KeyPolicy, keyText)
		if err != nil {
			return
		}
		identity, err := Parse(IdentityPolicy, identityText)
		if err != nil {
			return
		}
		principal := callers[caller]
		if principal == nil {
			return
		}
		r := &Request{Action: action, CrossAccount: !ownAccountOnly[strings.TrimPrefix(action, "kms:")],
			Resources: []string{keyARN, verencARN}, ResourceAccount: account,
			Principal:         principal,
			EncryptionContext: map[string]string{name: value, strings.ToUpper(name): value},
			RequestTags:       map[string]string{name: value},
			Lookup: func(values []string, key string) []string {
				if strings.HasPrefix(key, "aws:") {
					return append(values, value, name)
				}
				return values
			}}
		p := &Policies{Key: key, Identity: []*Document{identity}}
		d := Evaluate(p, r)
		if explained, _ := Explain(p, r); explained != d {
			t.Errorf("Explain decides %+v, Evaluate %+v", explained, d)
		}
		checkAssumptions(t, p, r, d)
		if d.Allowed && len(key.allow) == 0 {
			t.Errorf("a key policy without Allow: %+v", d)
		}
		if d.Allowed && d.By == FromIdentityPolicy && len(identity.allow) == 0 {
			t.Errorf("an identity policy without Allow: %+v", d)
		}
		if keyless := Evaluate(&Policies{Identity: p.Identity}, r); keyless.Allowed && keyless.By != FromRootUser &&
			len(identity.allow) == 0 {
			t.Errorf("an identity policy without Allow, without a key: %+v", keyless)
		}
		grants := []Grant{{ID: "g", Grantee: principal.ARN, Operations: []string{strings.TrimPrefix(action, "kms:")}}}
		for _, denied := range []*Policies{
			{Key: denyKey, Identity: p.Identity, Grants: grants},
			{Key: key, Identity: []*Document{identity, denyIdentity}, Grants: grants},
			{Key: key, Identity: p.Identity, Boundary: []*Document{denyIdentity}, Grants: grants},
			{Key: key, Identity: p.Identity, Session: []*Document{denyIdentity}, Grants: grants},
		} {
			if d := Evaluate(denied, r); d.Allowed || !d.Explicit {
				t.Errorf("with a Deny for all: %+v", d)
			}
		}
		key.LeavesControl(r)
	})
}

// Documents are shared; the race detector watches.
func TestDocumentIsShared(t *testing.T) {
	p := &Policies{Key: parse(t, KeyPolicy, keyCondition(`{"StringLike":{"aws:userid":"AIDA*${aws:userid}"},"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"a"}}`))}
	var wait sync.WaitGroup
	for _, caller := range []string{"alice", "bob", "dev/s1"} {
		wait.Go(func() {
			for range 100 {
				r := decrypt(caller)
				r.EncryptionContext = map[string]string{"a": "b"}
				Evaluate(p, r)
				Explain(p, r)
			}
		})
	}
	wait.Wait()
}

// fiftyStatements is a key policy whose last statement allows alice, with a condition.
func fiftyStatements() string {
	statements := make([]string, 0, 50)
	for i := range 49 {
		statements = append(statements, fmt.Sprintf(`{"Sid":"s%d","Effect":%q,"Principal":{"AWS":["arn:aws:iam::111122223333:role/app%d","arn:aws:iam::111122223333:user/u%d"]},
			"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"],"Resource":"*",
			"Condition":{"StringEquals":{"kms:EncryptionContext:AppName":"app%d"},"IpAddress":{"aws:SourceIp":"10.%d.0.0/16"}}}`,
			i, []string{"Allow", "Allow", "Deny"}[i%3], i, i, i, i))
	}
	statements = append(statements,
		`{"Sid":"alice","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"kms:Decrypt","Resource":"`+
			keyARN+`","Condition":{"StringEquals":{"kms:EncryptionContext:AppName":"a"},"IpAddress":{"aws:SourceIp":"10.9.0.0/16"},"Bool":{"aws:SecureTransport":"true"}}}`)
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func BenchmarkEvaluate(b *testing.B) {
	r := decrypt("alice")
	r.EncryptionContext = map[string]string{"AppName": "a", "Stage": "test"}
	r.Lookup = func(values []string, key string) []string {
		switch key {
		case "aws:sourceip":
			return append(values, "10.9.8.7")
		case "aws:securetransport":
			return append(values, "true")
		}
		return values
	}
	everyone := strings.NewReplacer(`"AWS":["arn:aws:iam::111122223333:role/app`,
		`"AWS":["*","arn:aws:iam::111122223333:role/app`)
	for _, bench := range []struct{ name, text string }{
		{"50Statements", fiftyStatements()},
		{"50StatementsWithConditions", everyone.Replace(fiftyStatements())},
		{"DefaultPolicy", keyPrincipal(`{"AWS":"` + account + `"}`)},
	} {
		p := &Policies{Key: parse(b, KeyPolicy, bench.text),
			Identity: []*Document{parse(b, IdentityPolicy, identityStatement(``))}}
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := Evaluate(p, r); !d.Allowed {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	text := fiftyStatements()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(KeyPolicy, text); err != nil {
			b.Fatal(err)
		}
	}
}
