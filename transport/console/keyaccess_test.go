package console_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/chromedp/chromedp"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
)

// TestWhoCanUseAKey reads why in the grid of principals and operations, with the keyboard too.
func TestWhoCanUseAKey(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	s.user(t, "admin", `{"Statement":{"Sid":"All","Effect":"Allow","Action":"kms:*","Resource":"*"}}`)
	s.user(t, "blue", `{"Statement":{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*",
		"Condition":{"StringEquals":{"kms:EncryptionContext:tenant":"blue"}}}}`)
	for i := range 20 { // more than a page
		s.user(t, fmt.Sprintf("user-%02d", i))
	}
	b := newBrowser(t, s.URL)
	b.open("/console/keys/" + key)
	b.signIn(s.Root)
	b.says("table.access th", "user/admin")
	b.loaded()
	field := func(principal, operation string) string {
		t.Helper()
		return eval[string](b, fmt.Sprintf(`(() => {
			const table = document.querySelector("table.access");
			const row = [...table.tBodies[0].rows].find((r) => r.cells[0].textContent === %q);
			const td = row.cells[[...table.tHead.rows[0].cells].findIndex((c) => c.textContent === %q)];
			td.focus();
			return td.textContent + " " + document.querySelector(".reason").textContent;
		})()`, principal, operation))
	}
	for _, want := range [][3]string{
		{"user/admin", "Decrypt", "✓ user/admin, Decrypt. Allowed by identity-based policy policy-1 statement 1 All."},
		{"user/blue", "Decrypt", "? user/blue, Decrypt. Depends on the request: identity-based " +
			"policy policy-1 statement 1 allows it under the condition StringEquals on kms:encryptioncontext:tenant."},
		{"user/blue", "PutKeyPolicy", "– user/blue, PutKeyPolicy. Not allowed: no identity-based policy allows it."},
	} {
		if got := field(want[0], want[1]); got != want[2] {
			t.Errorf("%s: %s\nnot %s", want[:2], got, want[2])
		}
	}
	first := eval[string](b, "document.querySelector('table.access thead tr').cells[1].textContent")
	if first != "Decrypt" {
		t.Errorf("the first operation is %s", first)
	}
	eval[any](b, "document.querySelector('.part:has(table.access)').scrollIntoView()")
	b.show("who can use it", 1280, 1000, "light")
	field("user/admin", "Decrypt")
	b.do(chromedp.KeyEvent("\u0303")) // arrow right
	b.says(".reason", "user/admin, Encrypt. Allowed by")
	if n := eval[float64](b, "document.querySelectorAll('table.access [tabindex=\"0\"]').length"); n != 1 {
		t.Errorf("%v fields can be reached with the tab key", n)
	}
	rows := "document.querySelectorAll('table.access tbody tr').length"
	if n := eval[float64](b, rows); n != 20 {
		t.Errorf("%v principals are shown first", n)
	}
	b.press(".part:has(table.access)", "Load more")
	b.wait(rows + " === 23")
}

// TestButtonsThatAreNotAllowed: they are there, say why, and call nothing.
func TestButtonsThatAreNotAllowed(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	may := s.user(t, "operator", `{"Statement":{"Effect":"Allow","Action":["kms:Describe*","kms:Get*","kms:List*",
		"kms:DisableKey","kms:EnableKey"],"Resource":"*"}}`)
	b := newBrowser(t, s.URL)
	b.open("/console/keys/" + key)
	b.signIn(may)
	b.says("#state-actions button[aria-disabled]", "Schedule deletion")
	b.loaded()
	disabled := eval[[]string](b, "[...document.querySelectorAll('[aria-disabled=true]')].map((e) => e.textContent)")
	if got := strings.Join(disabled, ", "); got != "Schedule deletion, Add alias, Set tag, Save policy …, Enable rotation, Rotate now" {
		t.Errorf("not allowed are %s", got)
	}
	described := eval[string](b, "document.getElementById(document.querySelector('#state-actions [aria-disabled]')"+
		".getAttribute('aria-describedby')).textContent")
	const why = "is not authorized to perform: kms:ScheduleKeyDeletion on resource: "
	if !strings.Contains(described, why) {
		t.Errorf("the button is described by %q", described)
	}
	before := strings.Count(s.Received(), "TrentService.")
	b.press("#state-actions", "Schedule deletion")
	b.says(".why-not", why)
	b.fill(b.control("Name of the tag"), "team")
	b.do(chromedp.KeyEvent("\r"))
	b.says(".why-not", "kms:TagResource")
	if eval[bool](b, "document.querySelector('dialog.ask') !== null") {
		t.Error("the dialog is shown")
	}
	if n := strings.Count(s.Received(), "TrentService."); n != before {
		t.Errorf("%d requests were sent", n-before)
	}
	b.press("#state-actions", "Disable")
	b.says("#console .done", "The key is disabled.")
	b.says("#state-actions button:not([aria-disabled])", "Enable")
	b.says("#state-actions button[aria-disabled]", "Schedule deletion") // also when it is made again
	b.says(".part .warning", "verenc:ListKeyAccess")
}

// TestAttestation: the browser verifies the attestation of a key, against the key that the server
// gives or one that the reader has.
func TestAttestation(t *testing.T) {
	s := newServer(t)
	key := createKey(t, s, kms.CreateKeyInput{})
	_, err := s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: &key})
	must(t, err)
	b := newBrowser(t, s.URL)
	b.open("/console/keys/alias%2Fa")
	b.signIn(s.Root)
	b.press(".part", "Get the attestation")
	b.says(".verified", "Verified. This browser has checked the signature (ECDSA on P-256 with SHA-256)")
	b.says("#console p", "Made in the token, and never outside.")
	b.says("#console td", "never could")
	b.show("attestation", 1280, 1000, "light")

	signed := eval[string](b, "[...document.querySelectorAll('details pre')].at(-1).textContent")
	field := b.control("Public key of the audit log")
	served := eval[string](b, fmt.Sprintf("document.querySelector(%q).value", field))
	a, err := evidence.VerifyAttestation([]byte(signed), served)
	must(t, err)
	if a.Key.ID != key {
		t.Errorf("it is of the key %s", a.Key.ID)
	}
	other, err := audit.VerifierKey(origin, signers(t)["ECDSA"].Public())
	must(t, err)
	b.fill(field, other+"\r")
	b.says("#console [role=alert]", "Not verified. This key has not signed it.")
	if b.text(".verified") != "" {
		t.Error("it is still called verified")
	}
	b.fill(field, " "+served+"\r")
	b.says(".verified", "you still have to compare")

	const verdict = `await Promise.all(a.map(async ([text, key]) => {
		try { return m.bornInToken((await m.verifyAttestation(text, key)).statement) ? "born" : "not born"; }
		catch (e) { return e.message; }
	}))`
	good := [2]string{signed, served}
	forged := [2]string{strings.Replace(signed, `"NeverExtractable": true`, `"NeverExtractable": true `, 1), served}
	none := [2]string{signed[:strings.LastIndex(signed, "\n\n")], served}
	got := call[[]string](b, "console/attestation.js", verdict, [][2]string{good, forged, none})
	if strings.Join(got, "; ") !=
		"born; The signature is wrong: what is signed is not this text.; This is not a signed note." {
		t.Errorf("the verdicts are %q", got)
	}
}
