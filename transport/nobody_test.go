package transport_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service/evidence"
)

// TestPoliciesNameNobody: a policy or a grant that names a user or a role who is not there, of an
// account whose principals are kept here, is refused, whatever else it says. Others' accounts are
// not known.
func TestPoliciesNameNobody(t *testing.T) {
	s := newServer(t, options{})
	s.user(t, account, "app")
	s.user(t, otherAccount, "abroad") // whose account is kept here, too
	const strangers = "999988887777"  // and whose is not
	there, nobody := iamARN(account, "user/app"), iamARN(account, "user/ap")
	session := func(role string) string { return "arn:aws:sts::" + account + ":assumed-role/" + role + "/session" }
	const message = "Policy contains a statement with one or more invalid principals."
	primary := s.makeKey(t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
	root := `{"Effect":"Allow","Principal":{"AWS":"` + rootUser + `"},"Action":"kms:*","Resource":"*"}`
	for name, test := range map[string]struct {
		principal any // of the statement
		effect    string
		not       bool
		ok        bool
	}{
		"user":                          {there, "Allow", false, true},
		"role":                          {iamARN(account, "role/worker"), "Allow", false, true},
		"session":                       {session("worker"), "Allow", false, true},
		"federated user":                {"arn:aws:sts::" + account + ":federated-user/x", "Allow", false, true},
		"account":                       {otherAccount, "Allow", false, true},
		"account not here":              {strangers, "Allow", false, true},
		"user of an account not here":   {iamARN(strangers, "user/x"), "Allow", false, true},
		"other partition":               {"arn:aws-cn:iam::" + account + ":user/x", "Allow", false, true},
		"user of another account":       {iamARN(otherAccount, "user/abroad"), "Allow", false, true},
		"no user":                       {nobody, "Allow", false, false},
		"no role":                       {iamARN(account, "role/app"), "Allow", false, false},
		"no session":                    {session("app"), "Allow", false, false},
		"no user on this path":          {iamARN(account, "user/x/app"), "Allow", false, false},
		"no user, among others":         {[]string{there, nobody}, "Allow", false, false},
		"no user to deny":               {nobody, "Deny", false, false},
		"no user to spare":              {[]string{rootUser, nobody}, "Deny", true, false},
		"no user of another account":    {iamARN(otherAccount, "user/x"), "Allow", false, false},
		"what is no principal":          {"arn:aws:iam::" + account + ":group/x", "Allow", false, false},
		"wildcards, which AWS has none": {iamARN(account, "user/*"), "Allow", false, false},
	} {
		element := "Principal"
		if test.not {
			element = "NotPrincipal"
		}
		who := string(ok(json.Marshal(test.principal))(t))
		text := `{"Statement":[` + root + `,{"Effect":"` + test.effect + `","` + element + `":{"AWS":` + who +
			`},"Action":"kms:Decrypt","Resource":"*"}]}`
		for _, bypass := range []bool{false, true} {
			_, created := s.CreateKey(t.Context(),
				&kms.CreateKeyInput{Policy: &text, BypassPolicyLockoutSafetyCheck: bypass})
			_, put := s.PutKeyPolicy(t.Context(),
				&kms.PutKeyPolicyInput{KeyId: primary, Policy: &text, BypassPolicyLockoutSafetyCheck: bypass})
			errs := []error{created, put}
			if !test.ok { // or the replica would be there
				_, replicated := s.ReplicateKey(t.Context(),
					&kms.ReplicateKeyInput{KeyId: primary, ReplicaRegion: aws.String(otherRegion), Policy: &text,
						BypassPolicyLockoutSafetyCheck: bypass})
				errs = append(errs, replicated)
			}
			for i, err := range errs {
				if test.ok && err != nil {
					t.Errorf("%s: %d: %v", name, i, err)
				} else if !test.ok {
					t.Run(name, func(t *testing.T) { wantError(t, err, "MalformedPolicyDocumentException", message) })
				}
			}
		}
		who, single := test.principal.(string)
		if !single || strings.HasPrefix(name, "what") || strings.HasPrefix(name, "wildcards") {
			continue
		}
		for _, in := range []*kms.CreateGrantInput{{GranteePrincipal: &who},
			{GranteePrincipal: aws.String(rootUser), RetiringPrincipal: &who}} {
			in.KeyId, in.Operations = primary, []types.GrantOperation{"Decrypt"}
			_, err := s.CreateGrant(t.Context(), in)
			if test.ok && err != nil {
				t.Errorf("%s: %v", name, err)
			} else if !test.ok {
				t.Run(name, func(t *testing.T) {
					wantError(t, err, "InvalidArnException", "ARN does not refer to a valid principal: "+who)
				})
			}
		}
	}
	_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{
		Policy: aws.String(`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)})
	wantError(t, err, "MalformedPolicyDocumentException", "Policy contains a statement with no principal.")
}

// TestReportNamesWhoIsGone: the report says where policies and grants name a principal that was
// deleted.
func TestReportNamesWhoIsGone(t *testing.T) {
	s := newServer(t, options{})
	app := s.user(t, account, "app")
	key := s.keyWith(t, keyPolicy(statement{Principal: principals(app.ARN), Action: "kms:Decrypt"}))
	ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key, GranteePrincipal: &app.ARN,
		Operations: []types.GrantOperation{"Decrypt"}}))(t)
	examiner := evidence.Examiner{Service: s.Service, Store: s.Store, Now: time.Now}
	gone := func() (found int) {
		for _, f := range ok(examiner.Report(t.Context(), account, region))(t).Findings {
			if strings.Contains(f.Text, app.ARN+", who is not there") && strings.HasSuffix(key, f.About) {
				found++
			}
		}
		return found
	}
	if n := gone(); n != 0 {
		t.Errorf("%d findings while the user is there", n)
	}
	if err := s.Store.RemovePrincipal(t.Context(), app.ARN); err != nil {
		t.Fatal(err)
	}
	if n := gone(); n != 2 {
		t.Errorf("%d findings after the user is gone, want one of the policy and one of the grant", n)
	}
}
