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

func must(t *testing.T, kind Kind, text string) *Document {
	t.Helper()
	d, err := Parse(kind, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
