package console_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/iam"
)

// TestPrincipals finds a user in the table and looks at its page, and at those of a role and of the
// root user.
func TestPrincipals(t *testing.T) {
	s := newServer(t)
	const use = `{"Statement":{"Sid":"Use","Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}}`
	alice := s.user(t, "alice")
	s.session(t) // and a role that alice may assume
	b := newBrowser(t, s.URL)
	b.open("/console")
	b.click(".console-areas a[href='/console/principals']")
	b.says("#console .panel", "Sign in")
	b.signIn(s.Root)
	b.says("#console .hint", "3 of 3 users and roles.")
	b.says("#console .note", "verenc apply")
	for _, want := range []string{"user/alice", "role/operator", "root", alice.AccessKeyID} {
		b.says("#console tbody tr", want)
	}
	b.fill(b.control("Filter"), "role operator")
	b.says("#console .hint", "1 of 3 users and roles.")
	b.show("principals", 1280, 900, "light")
	b.click("#console tbody a")
	b.says("h1", "role/operator")
	b.says("#console pre", "sts:AssumeRole")
	b.says("#console pre", `"kms:*"`)
	b.says("#console dd", "3600 seconds")
	b.show("principal", 1280, 900, "light")
	s.user(t, "bob", use)
	b.open("/console/principals/arn%3Aaws%3Aiam%3A%3A" + account + "%3Auser%2Fbob")
	b.signIn(s.Root)
	b.says("#console pre", "kms:Decrypt")
	b.says("#console h3", "policy-1")
	b.says("#console li", "active, never used")
	b.click(".console-areas a[href='/console/principals']")
	b.says("#console .hint", "users and roles.")
	b.click("#console tbody a[href$=root]")
	b.says("#console", "The root user of the account may do everything")
	b.says("#console li", s.Root.AccessKeyID)
}

// TestPrincipalsNotAllowed: who may not see them sees why, and no empty table.
func TestPrincipalsNotAllowed(t *testing.T) {
	s := newServer(t)
	carol := s.user(t, "carol", `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)
	b := newBrowser(t, s.URL)
	for page, action := range map[string]string{"/console/principals": "verenc:ListPrincipals",
		"/console/principals/arn:aws:iam::" + account + ":user%2Fcarol": "verenc:DescribePrincipal"} {
		b.open(page)
		b.signIn(carol)
		b.says("#console .warning", "Not allowed. ")
		b.says("#console .warning", action)
		if eval[bool](b, "document.querySelector('#console table, #console input') !== null") {
			t.Errorf("%s has a table", page)
		}
	}
}

// TestHostilePrincipal: names and documents that would be code elsewhere are text.
func TestHostilePrincipal(t *testing.T) {
	s := newServer(t)
	condition := map[string]any{"StringEquals": map[string]string{"a": hostile}}
	document, err := json.Marshal(map[string]any{"Statement": map[string]any{"Sid": "a", "Effect": "Allow",
		"Action": "kms:*", "Resource": "*", "Condition": condition}})
	must(t, err)
	p := &iam.Principal{ARN: "arn:aws:iam::" + account + ":user/" + hostile, Account: account, Kind: iam.KindUser,
		CreatedAt: time.Now(), PrincipalDetails: iam.PrincipalDetails{Name: hostile, UniqueID: hostile,
			Policies: map[string]string{hostile: string(document)}, Boundary: string(document),
			Tags: map[string]string{"<b>a</b>": hostile}}}
	must(t, s.Store.PutPrincipal(t.Context(), p))
	b := newBrowser(t, s.URL)
	b.open("/console/principals")
	b.signIn(s.Root)
	b.says("#console tbody", "<img src=x onerror=")
	b.click("#console tbody tr:last-child a")
	b.says("#console h2", "Permissions boundary")
	b.says("#console td", "<img src=x onerror=")
	shown := b.text("#main") + eval[string](b, "document.title")
	if n := strings.Count(shown, "<img src=x onerror="); n < 7 || strings.ContainsAny(shown, "\u202E\u202C\u2067") {
		t.Errorf("the texts are there %d times: %s", n, shown)
	}
	const made = "document.querySelectorAll('#main img, #main b, #console script').length + (window.hurt ?? 0)"
	if n := eval[float64](b, made); n != 0 {
		t.Errorf("a text became %v elements", n)
	}
}
