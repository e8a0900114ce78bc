package transport_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/iam"
)

const otherAccount = "444455556666"

// person is a principal and its access key.
type person struct {
	*kms.Client
	ARN    string
	Secret aws.Credentials
}

func iamARN(account, resource string) string { return "arn:aws:iam::" + account + ":" + resource }

// user makes, or changes, a user of an account and gives it an access key.
func (s *server) user(t testing.TB, account, name string, policies ...string) *person {
	t.Helper()
	return s.principal(t, account, name, iam.PrincipalDetails{Policies: named(policies)})
}

func (s *server) principal(t testing.TB, account, name string, d iam.PrincipalDetails) *person {
	t.Helper()
	d.Name, d.UniqueID = name, "AIDA"+strings.ToUpper(name)
	arn := iamARN(account, "user/"+name)
	if err := s.Store.PutPrincipal(t.Context(),
		&iam.Principal{ARN: arn, Account: account, Kind: iam.KindUser, CreatedAt: s.Now(),
			PrincipalDetails: d}); err != nil {
		t.Fatal(err)
	}
	old, err := s.Store.AccessKeys(t.Context(), arn)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range old { // a user has two at most
		if err := s.Store.RemoveAccessKey(t.Context(), k.ID); err != nil {
			t.Fatal(err)
		}
	}
	return s.signing(t, account, arn)
}

// root is the root user of an account.
func (s *server) root(t testing.TB, account string) *person {
	t.Helper()
	return s.signing(t, account, iamARN(account, "root"))
}

func (s *server) signing(t testing.TB, account, arn string) *person {
	t.Helper()
	c, err := s.Service.IAM().CreateAccessKey(t.Context(), account, arn)
	if err != nil {
		t.Fatal(err)
	}
	p := &person{ARN: arn, Secret: aws.Credentials{AccessKeyID: c.AccessKeyID,
		SecretAccessKey: string(c.SecretAccessKey)}}
	p.Client = s.client(p.Secret, region)
	return p
}

// role makes, or changes, a role.
func (s *server) role(t testing.TB, account, name string, d iam.PrincipalDetails) string {
	t.Helper()
	d.Name, d.UniqueID = name, "AROA"+strings.ToUpper(name)
	arn := iamARN(account, "role/"+name)
	if err := s.Store.PutPrincipal(t.Context(),
		&iam.Principal{ARN: arn, Account: account, Kind: iam.KindRole, CreatedAt: s.Now(),
			PrincipalDetails: d}); err != nil {
		t.Fatal(err)
	}
	return arn
}

func named(policies []string) map[string]string {
	all := map[string]string{}
	for i, text := range policies {
		all[string(rune('a'+i))] = text
	}
	return all
}

// statement is one statement of a policy.
type statement struct {
	Sid       string         `json:",omitempty"`
	Effect    string         // Allow, unless it is given
	Principal any            `json:",omitempty"`
	Action    any            // kms:*, unless it is given
	Resource  string         `json:",omitempty"`
	Condition map[string]any `json:",omitempty"`
}

func document(statements ...statement) string {
	for i := range statements {
		if statements[i].Effect == "" {
			statements[i].Effect = "Allow"
		}
		if statements[i].Action == nil {
			statements[i].Action = "kms:*"
		}
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// identityPolicy allows actions on every resource.
func identityPolicy(actions ...string) string {
	return document(statement{Action: actions, Resource: "*"})
}

// principals is a Principal element.
func principals(arns ...string) any { return map[string]any{"AWS": arns} }

// keyPolicy returns a key policy with these statements that also allows the root user everything.
func keyPolicy(statements ...statement) string {
	for i := range statements {
		statements[i].Resource = "*"
	}
	return document(append(statements, statement{Sid: "root", Principal: principals(iamARN(account, "root")),
		Resource: "*"})...)
}

// keyWith makes a key with a policy, and returns its ARN.
func (s *server) keyWith(t testing.TB, policy string) string {
	t.Helper()
	out, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &policy})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

func (s *server) putPolicy(t testing.TB, arn, policy string) {
	t.Helper()
	if _, err := s.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: &arn, Policy: &policy}); err != nil {
		t.Fatal(err)
	}
}

// denial is the message of an AccessDeniedException.
func denial(who, action, resource, why string) string {
	return "User: " + who + " is not authorized to perform: kms:" + action + " on resource: " + resource + " " + why
}

func noPolicy(kind, action string) string {
	return "because no " + kind + " policy allows the kms:" + action + " action"
}
