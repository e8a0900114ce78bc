package transport_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// own calls one of Verenc's own operations, for which AWS's clients have no method. It decodes an
// answer of status 200, and returns the code and the message of an error.
func (s *server) own(t testing.TB, c aws.Credentials, name, body string, answer any) (code, message string) {
	t.Helper()
	r := post(t, s.URL, jsonType, "Verenc."+name, body)
	signRequest(t, r, c, "kms", body, time.Now())
	resp, text := send(t, s.http, r)
	var failure struct {
		Type    string `json:"__type"`
		Message string
	}
	into := any(&failure)
	if resp.StatusCode == http.StatusOK {
		into = answer
	}
	if into != nil {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s answers %d %s: %v", name, resp.StatusCode, text, err)
		}
	}
	return failure.Type, failure.Message
}

type listedPrincipals struct {
	Principals []struct{ Arn, Kind, Name string }
	NextMarker string
	Truncated  bool
}

func TestVerencsOwnOperationsAreAllowedByIdentityPolicies(t *testing.T) {
	s := newServer(t, options{})
	auditor := s.user(t, account, "auditor", identityPolicy("verenc:List*"))
	denied := s.user(t, account, "app", identityPolicy("kms:*"))
	forbidden := s.user(t, account, "former", document(statement{Action: "*", Resource: "*"},
		statement{Effect: "Deny", Action: "verenc:*", Resource: "*"}))
	for _, who := range []aws.Credentials{s.Secret, auditor.Secret} {
		var all listedPrincipals
		if code, message := s.own(t, who, "ListPrincipals", "{}", &all); code != "" {
			t.Fatalf("%s: %s", code, message)
		}
		if len(all.Principals) != len(grantees)+4 || all.Truncated {
			t.Errorf("%d principals: %+v", len(all.Principals), all)
		}
	}
	for who, why := range map[*person]string{
		denied:    "because no identity-based policy allows the verenc:ListPrincipals action",
		forbidden: "with an explicit deny in an identity-based policy",
	} {
		code, message := s.own(t, who.Secret, "ListPrincipals", "{}", nil)
		want := "User: " + who.ARN + " is not authorized to perform: verenc:ListPrincipals on resource: * " + why
		if code != "AccessDeniedException" || message != want {
			t.Errorf("%s: %q, not %q", code, message, want)
		}
	}
	// Another account has principals of its own.
	other := s.root(t, otherAccount)
	s.user(t, otherAccount, "eve")
	var all listedPrincipals
	if code, _ := s.own(t, other.Secret, "ListPrincipals", "{}", &all); code != "" || len(all.Principals) != 2 ||
		all.Principals[1].Name != "eve" {
		t.Errorf("the other account sees %+v (%s)", all, code)
	}
}

func TestOwnOperationsAreDecodedLikeAWSs(t *testing.T) {
	s := newServer(t, options{})
	for _, bad := range []struct{ name, body, code string }{
		{"ListPrincipals", `{"Limit":0}`, "ValidationException"},
		{"ListPrincipals", `{"Limit":101}`, "ValidationException"},
		{"ListPrincipals", `{"Marker":"x"}`, "InvalidMarkerException"},
		{"ListPrincipals", `{"Limit":"x"}`, "SerializationException"},
		{"ListPrincipals", strings.Repeat(" ", 64<<10) + "{}", "RequestEntityTooLargeException"},
		{"ListUsers", "{}", "UnknownOperationException"},
		{"Encrypt", "{}", "UnknownOperationException"},
		{"", "{}", "UnknownOperationException"},
	} {
		if code, message := s.own(t, s.Secret, bad.name, bad.body, nil); code != bad.code {
			t.Errorf("%s %.40s: %s %q, not %s", bad.name, bad.body, code, message, bad.code)
		}
	}
	if status, answer := s.post(t, s.Secret, "ListPrincipals", "{}"); status != http.StatusBadRequest ||
		!strings.Contains(answer, "UnknownOperationException") {
		t.Errorf("ListPrincipals of AWS KMS: %d %s", status, answer)
	}
	unsigned, text := send(t, s.http, post(t, s.URL, jsonType, "Verenc.ListPrincipals", "{}"))
	if unsigned.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "MissingAuthentication") {
		t.Errorf("without a signature: %d %s", unsigned.StatusCode, text)
	}
}

func TestPrincipalsArePaged(t *testing.T) {
	s := newServer(t, options{})
	var names []string
	for marker, more := any(nil), true; more; {
		var page listedPrincipals
		body, err := json.Marshal(map[string]any{"Limit": 3, "Marker": marker})
		if err != nil {
			t.Fatal(err)
		}
		if code, message := s.own(t, s.Secret, "ListPrincipals", string(body), &page); code != "" {
			t.Fatalf("%s: %s", code, message)
		}
		if len(page.Principals) > 3 || page.Truncated != (page.NextMarker != "") {
			t.Errorf("the page is %+v", page)
		}
		for _, p := range page.Principals {
			names = append(names, p.Arn)
		}
		marker, more = page.NextMarker, page.Truncated
	}
	if len(names) != len(grantees)+1 || !slices.IsSorted(names) {
		t.Errorf("all pages have %q", names)
	}
}

func TestOwnOperationsAreRecorded(t *testing.T) {
	a := newAudited(t)
	denied := a.user(t, account, "app")
	for who, code := range map[aws.Credentials]string{a.server.Secret: "", denied.Secret: "AccessDeniedException"} {
		e, _ := a.one(t, "ListPrincipals", func() error {
			a.own(t, who, "ListPrincipals", `{"Limit":2}`, nil)
			return nil
		})
		if e.EventSource != "verenc" || e.EventName != "ListPrincipals" || !e.ReadOnly || e.ErrorCode != code ||
			e.UserIdentity.AccountID != account || string(e.RequestParameters["limit"]) != "2" {
			t.Errorf("the record is %+v", e)
		}
	}
}
