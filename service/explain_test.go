package service_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

const (
	explainedKey = "01234567-89ab-4def-8123-456789abcdef"
	delegating   = `{"Statement":[
		{"Sid":"Account","Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:role/auditor"},
			"Action":"kms:DescribeKey","Resource":"*"},
		{"Sid":"Foreign","Effect":"Allow","Principal":{"AWS":"444455556666"},"Action":"kms:Decrypt","Resource":"*"}]}`
	onlyBlue = `{"Version":"2012-10-17","Statement":[
		{"Sid":"OnlyBlue","Effect":"Allow","Action":["kms:Decrypt","kms:ReEncryptFrom","kms:ListKeys"],"Resource":"*",
			"Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"blue"}}},
		{"Sid":"NoTest","Effect":"Deny","Action":"*","Resource":"*",
			"Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}]}`
)

// noToken is the token of a service that must not need one.
type noToken struct{ service.Token }

// explaining is a service with a key, its alias, a grant, two users and a role.
func explaining(t *testing.T) (*service.Service, string) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db"), Create: true})
	if err != nil {
		t.Fatal(err)
	}
	closeAtEnd(t, db)
	s, err := service.New(service.Config{Audit: record.NoAudit, Store: db, Token: noToken{}, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1, 0)
	k := &service.Key{ID: explainedKey, Account: account, Region: region, Spec: "SYMMETRIC_DEFAULT",
		Usage: "ENCRYPT_DECRYPT", Origin: "AWS_KMS",
		State: service.StateEnabled, Policy: delegating, CreatedAt: now}
	app, idle, role := newPrincipal(account, iam.KindUser, "app"), newPrincipal(account, iam.KindUser, "idle"),
		newPrincipal(account, iam.KindRole, "auditor")
	app.Policies = map[string]string{"z-list": `{"Statement":{"Effect":"Allow","Action":"kms:List*","Resource":"*"}}`,
		"blue": onlyBlue}
	role.Boundary = `{"Statement":{"Effect":"Allow","Action":"kms:List*","Resource":"*"}}`
	role.Trust = `{"Statement":{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}}`
	foreign := newPrincipal("444455556666", iam.KindUser, "partner")
	for _, p := range []*iam.Principal{app, idle, role, foreign} {
		if _, err := s.IAM().CreatePrincipal(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.InsertKey(t.Context(), k); err != nil {
		t.Fatal(err)
	}
	if err := db.InsertAlias(t.Context(), &service.Alias{Account: account, Region: region, Name: "alias/orders",
		KeyID: explainedKey, CreatedAt: now, UpdatedAt: now}, 50); err != nil {
		t.Fatal(err)
	}
	made, err := s.CreateGrant(t.Context(), root, &service.CreateGrantRequest{KeyId: explainedKey,
		GranteePrincipal: idle.ARN, Operations: []string{"Encrypt"},
		Constraints: &service.GrantConstraints{EncryptionContextSubset: map[string]string{"a": "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	return s, made.GrantToken
}

func newPrincipal(account string, kind iam.PrincipalKind, name string) *iam.Principal {
	return &iam.Principal{ARN: iam.PrincipalARN(account, kind, "/", name), Account: account, Kind: kind,
		PrincipalDetails: iam.PrincipalDetails{Name: name}}
}

func TestExplain(t *testing.T) {
	s, token := explaining(t)
	arn := func(rest string) string { return "arn:aws:iam::" + account + ":" + rest }
	blue := map[string]string{"tenant": "blue"}
	for _, test := range []struct {
		name    string
		in      service.ExplainRequest
		allowed bool
		by      string // the beginning
		steps   []string
	}{
		{"allowed", service.ExplainRequest{Principal: arn("user/app"), Action: "kms:Decrypt", KeyID: explainedKey,
			EncryptionContext: blue}, true,
			"identity-based policy blue statement 1 OnlyBlue", []string{
				"resource-based policy statement 1 Account: names the caller's account",
				"resource-based policy statement 2: does not have the action",
				"*identity-based policy blue statement 1 OnlyBlue: applies",
				"identity-based policy blue statement 2 NoTest: the condition IpAddress on aws:sourceip does not hold",
				"identity-based policy z-list statement 1: does not have the action"}},
		{"by alias", service.ExplainRequest{Principal: arn("user/app"), Action: "Decrypt", KeyID: "alias/orders",
			EncryptionContext: blue}, true, "identity-based policy blue", nil},
		{"by alias ARN", service.ExplainRequest{Principal: arn("user/app"), Action: "kms:Decrypt",
			KeyID: "arn:aws:kms:us-east-1:" + account + ":alias/orders", EncryptionContext: blue}, true,
			"identity", nil},
		{"by ARN", service.ExplainRequest{Principal: arn("user/app"), Action: "kms:ReEncryptFrom",
			KeyID: "arn:verenc:" + account + ":key/" + explainedKey, EncryptionContext: blue}, true, "identity", nil},
		{"other context", service.ExplainRequest{Principal: arn("user/app"), Action: "kms:Decrypt", KeyID: explainedKey,
			EncryptionContext: map[string]string{"tenant": "red"}}, false,
			"no identity-based policy allows it",
			[]string{"OnlyBlue: the condition StringEquals on kms:encryptioncontext:tenant does not hold"}},
		{"denied", service.ExplainRequest{Principal: arn("user/app"), Action: "kms:Decrypt", KeyID: explainedKey,
			EncryptionContext: blue, SourceIP: "192.0.2.7"}, false,
			"identity-based policy blue statement 2 NoTest",
			[]string{"*identity-based policy blue statement 2 NoTest: applies"}},
		{"no policy", service.ExplainRequest{Principal: arn("user/idle"), Action: "kms:Decrypt",
			KeyID: explainedKey}, false,
			"no identity-based policy allows it", nil},
		{"grant", service.ExplainRequest{Principal: arn("user/idle"), Action: "kms:Encrypt", KeyID: explainedKey,
			EncryptionContext: map[string]string{"a": "b"}, GrantTokens: []string{token}}, true,
			"grant ", []string{"*grant "}},
		{"grant's constraint", service.ExplainRequest{Principal: arn("user/idle"), Action: "kms:Encrypt",
			KeyID: explainedKey}, false, "no identity-based policy", nil},
		{"role within its boundary", service.ExplainRequest{Principal: arn("role/auditor"), Action: "kms:DescribeKey",
			KeyID: explainedKey}, false,
			"no permissions boundary allows it",
			[]string{"resource-based policy statement 2: names the role or user behind the session",
				"permissions boundary statement 1: does not have the action"}},
		{"role session", service.ExplainRequest{Principal: "arn:aws:sts::" + account + ":assumed-role/auditor/me",
			Action: "kms:DescribeKey", KeyID: explainedKey}, false, "no permissions boundary", nil},
		{"root", service.ExplainRequest{Principal: arn("root"), Action: "kms:Decrypt", KeyID: explainedKey}, true,
			"resource-based policy statement 1 Account", nil},
		{"root, no key", service.ExplainRequest{Principal: arn("root"), Action: "kms:CreateKey"}, true,
			"account root user, who needs no identity-based policy", nil},
		{"no key", service.ExplainRequest{Principal: arn("user/app"), Action: "kms:ListKeys"}, true,
			"identity-based policy z-list statement 1", nil},
		{"key policy of another account", service.ExplainRequest{Principal: "arn:aws:iam::444455556666:user/partner",
			Action: "kms:Decrypt", KeyID: "arn:verenc:" + account + ":key/" + explainedKey}, false,
			"no identity-based policy allows it",
			[]string{"resource-based policy statement 3 Foreign: names the caller's account"}},
		{"not across accounts", service.ExplainRequest{Principal: "arn:aws:iam::444455556666:user/partner",
			Action: "kms:DisableKey", KeyID: "arn:verenc:" + account + ":key/" + explainedKey}, false,
			"resource-based policy rule",
			[]string{"*resource-based policy rule: the operation is not for callers of other accounts"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Region = region
			e, err := s.Explain(t.Context(), &test.in)
			if err != nil {
				t.Fatal(err)
			}
			if e.Allowed != test.allowed || !strings.HasPrefix(e.By, test.by) {
				t.Errorf("%v by %s", e.Allowed, e.By)
			}
			denial := strings.Contains(e.Message, " is not authorized to perform: kms:")
			if e.Allowed != (e.Message == "") || !e.Allowed && !denial {
				t.Errorf("message %q", e.Message)
			}
			var text strings.Builder
			for _, x := range e.Steps {
				if x.Decides {
					text.WriteByte('*')
				}
				text.WriteString(strings.TrimSpace(x.Source+" "+x.Part) + ": " + x.Reason + "\n")
			}
			for _, step := range test.steps {
				if !strings.Contains(text.String(), step) {
					t.Errorf("%q is not in\n%s", step, text.String())
				}
			}
		})
	}
}

func TestExplainRefuses(t *testing.T) {
	s, token := explaining(t)
	app := "arn:aws:iam::" + account + ":user/app"
	for _, test := range []struct {
		in    service.ExplainRequest
		words string
	}{
		{service.ExplainRequest{Principal: "app", Action: "kms:Decrypt", KeyID: explainedKey},
			"is not the ARN of a principal, such as arn:aws:iam::"},
		{service.ExplainRequest{Principal: app + "x", Action: "kms:Decrypt", KeyID: explainedKey},
			"there is no " + app + "x (verenc user list"},
		{service.ExplainRequest{Principal: "arn:aws:sts::" + account + ":assumed-role/none/me", Action: "kms:Decrypt",
			KeyID: explainedKey}, "there is no role none"},
		{service.ExplainRequest{Principal: app, Action: "kms:Decypt", KeyID: explainedKey},
			`"kms:Decypt" is not an action`},
		{service.ExplainRequest{Principal: app, Action: "kms:ReEncrypt", KeyID: explainedKey}, "kms:ReEncryptFrom"},
		{service.ExplainRequest{Principal: app, Action: "kms:RetireGrant", KeyID: explainedKey},
			"decided by each grant"},
		{service.ExplainRequest{Principal: app, Action: "kms:Decrypt"}, "name one"},
		{service.ExplainRequest{Principal: app, Action: "kms:ListKeys", KeyID: explainedKey}, "leave the key out"},
		{service.ExplainRequest{Principal: app, Action: "kms:ListAliases", KeyID: explainedKey}, "leave the key out"},
		{service.ExplainRequest{Principal: app, Action: "kms:Decrypt", KeyID: "alias/none"},
			"Alias arn:verenc:" + account + ":alias/none is not found."},
		{service.ExplainRequest{Principal: app, Action: "kms:Decrypt",
			KeyID: "arn:verenc:444455556666:key/" + explainedKey},
			"does not exist"},
		{service.ExplainRequest{Principal: app, Action: "kms:Decrypt", KeyID: "x"}, "Invalid keyId 'x'"},
		{service.ExplainRequest{Principal: app, Action: "kms:Decrypt", KeyID: explainedKey,
			GrantTokens: []string{token[1:]}},
			"grant token: InvalidGrantTokenException"},
	} {
		test.in.Region = region
		e, err := s.Explain(t.Context(), &test.in)
		if err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%+v: got %v, want %q; %+v", test.in, err, test.words, e)
		}
	}
}
