package policy

import "testing"

// TestTrustPolicies: AWS pages "Update a role trust policy", "IAM tutorial: Delegate access across
// AWS accounts using IAM roles" and "Cross-account policy evaluation logic".
func TestTrustPolicies(t *testing.T) {
	const role = "arn:aws:iam::111122223333:role/app"
	user := func(account string) *Principal {
		return &Principal{Type: User, ARN: "arn:aws:iam::" + account + ":user/alice", Account: account,
			UserName: "alice"}
	}
	trust := func(principal, more string) *Document {
		return must(t, TrustPolicy, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+
			principal+`"},"Action":"sts:AssumeRole"`+more+`}}`)
	}
	assume := must(t, IdentityPolicy,
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"`+role+`"}}`)
	for _, test := range []struct {
		name     string
		trust    *Document
		caller   *Principal
		identity []*Document
		want     bool
	}{
		{"named in the same account", trust("arn:aws:iam::111122223333:user/alice", ""),
			user("111122223333"), nil, true},
		{"another is named", trust("arn:aws:iam::111122223333:user/bob", ""), user("111122223333"),
			[]*Document{assume}, false},
		{"the account is named", trust("arn:aws:iam::111122223333:root", ""), user("111122223333"), nil, false},
		{"the account is named, identity policy allows", trust("111122223333", ""), user("111122223333"),
			[]*Document{assume}, true},
		{"named from another account", trust("arn:aws:iam::444455556666:user/alice", ""),
			user("444455556666"), nil, false},
		{"named from another account, identity policy allows", trust("arn:aws:iam::444455556666:user/alice", ""),
			user("444455556666"), []*Document{assume}, true},
		{"a condition does not hold", trust("arn:aws:iam::111122223333:user/alice",
			`,"Condition":{"StringEquals":{"aws:username":"bob"}}`), user("111122223333"), nil, false},
	} {
		d := Evaluate(&Policies{Key: test.trust, Identity: test.identity},
			&Request{Action: "sts:AssumeRole", CrossAccount: true, Resources: []string{role}, ResourceAccount: "111122223333",
				Principal: test.caller})
		if d.Allowed != test.want {
			t.Errorf("%s: %+v", test.name, d)
		}
	}
	for name, text := range map[string]string{
		"a resource":   `{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}}`,
		"no principal": `{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}`,
	} {
		if _, err := Parse(TrustPolicy, text); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

// TestFederatedTrust: a web identity may assume a role whose trust policy names its issuer, and no other (AWS page
// "Create a role for OpenID Connect federation").
func TestFederatedTrust(t *testing.T) {
	const account, role = "111122223333", "arn:aws:iam::111122223333:role/app"
	const provider = "arn:aws:iam::" + account + ":oidc-provider/issuer.example/tenant"
	trust := func(effect, principal, action, condition string) *Document {
		return must(t, TrustPolicy, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"`+
			provider+`"},"Action":"sts:TagSession"},{"Effect":"`+effect+`",`+principal+`,"Action":"`+action+
			`","Condition":{`+condition+`}}]}`)
	}
	federated := func(names string) string { return `"Principal":{"Federated":` + names + `}` }
	const action = "sts:AssumeRoleWithWebIdentity"
	const ours = `"StringEquals":{"issuer.example/tenant:sub":"job-1","Issuer.Example/Tenant:aud":"verenc"}`
	for _, test := range []struct {
		name  string
		trust *Document
		want  bool
	}{
		{"ARN", trust("Allow", federated(`"`+provider+`"`), action, ours), true},
		{"URL", trust("Allow", federated(`"https://issuer.example/tenant"`), action, ours), true},
		{"host and path", trust("Allow", federated(`["x","issuer.example/tenant"]`), action, ours), true},
		{"another account's", trust("Allow", federated(`"arn:aws:iam::444455556666:oidc-provider/issuer.example/tenant"`),
			action, ours), false},
		{"another issuer", trust("Allow", federated(`"https://issuer.example"`), action, ours), false},
		{"another action", trust("Allow", federated(`"`+provider+`"`), "sts:AssumeRole", ours), false},
		{"all of STS", trust("Allow", federated(`"`+provider+`"`), "sts:*", ours), true},
		{"another subject", trust("Allow", federated(`"`+provider+`"`), action,
			`"StringEquals":{"issuer.example/tenant:sub":"job-2"}`), false},
		{"a subject's pattern", trust("Allow", federated(`"`+provider+`"`), action,
			`"StringLike":{"issuer.example/tenant:sub":"job-*"}`), true},
		{"another issuer's subject", trust("Allow", federated(`"`+provider+`"`), action,
			`"StringEquals":{"issuer.example:sub":"job-1"}`), false},
		{"one of two audiences", trust("Allow", federated(`"`+provider+`"`), action,
			`"StringEquals":{"issuer.example/tenant:oaud":"verenc"}`), false},
		{"any of two audiences", trust("Allow", federated(`"`+provider+`"`), action,
			`"ForAnyValue:StringEquals":{"issuer.example/tenant:oaud":"verenc"}`), true},
		{"everyone", trust("Allow", `"Principal":"*"`, action, ours), false},
		{"everyone of AWS", trust("Allow", `"Principal":{"AWS":"*"}`, action, ours), false},
		{"the account", trust("Allow", `"Principal":{"AWS":"`+account+`"}`, action, ours), false},
		{"all but another", trust("Allow", `"NotPrincipal":{"Federated":"x"}`, action, ours), false},
	} {
		caller := &Principal{Type: WebIdentity, ARN: provider, Account: account}
		request := &Request{Action: action, Resources: []string{role}, ResourceAccount: account, Principal: caller,
			Lookup: func(values []string, key string) []string {
				return append(values, map[string][]string{"issuer.example/tenant:sub": {"job-1"},
					"issuer.example/tenant:aud": {"verenc"}, "issuer.example/tenant:oaud": {"vault", "verenc"}}[key]...)
			}}
		if d := Evaluate(&Policies{Key: test.trust}, request); d.Allowed != test.want {
			t.Errorf("%s: %+v", test.name, d)
		}
	}
	caller := &Principal{Type: WebIdentity, ARN: provider, Account: account}
	for principal, want := range map[string]bool{
		federated(`"` + provider + `"`):                   false,
		`"Principal":"*"`:                                 false,
		`"Principal":{"AWS":"*"}`:                         false,
		federated(`"x"`):                                  true,
		`"NotPrincipal":{"Federated":"` + provider + `"}`: true,
		`"NotPrincipal":{"Federated":"x"}`:                false,
	} {
		d := Evaluate(&Policies{Key: trust("Deny", principal, "*", "")}, &Request{Action: "sts:TagSession",
			Resources: []string{role}, ResourceAccount: account, Principal: caller})
		if d.Allowed != want {
			t.Errorf("Deny with %s: %+v", principal, d)
		}
	}
}

func must(t *testing.T, kind Kind, text string) *Document {
	t.Helper()
	d, err := Parse(kind, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
