package console_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// finding is one of axe-core's.
type finding struct {
	ID, Help string
	Nodes    []struct {
		HTML           string
		FailureSummary string
	}
}

// TestAccessibility has axe-core look at pages of every kind in light and dark, on a wide screen
// and a phone: it finds nothing against WCAG 2.2 AA, nor against what it calls best practices.
func TestAccessibility(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "axe.js")
	script := exec.CommandContext(t.Context(), "../../scripts/browser/bundle.sh", bundle, "axe.js")
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("bundle axe-core: %v: %s", err, out)
	}
	axe, err := os.ReadFile(bundle)
	must(t, err)
	s := newServer(t)
	team := []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("blue")}}
	key := createKey(t, s, kms.CreateKeyInput{Tags: team})
	_, err = s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &key, Operations: []types.GrantOperation{"Decrypt"},
		GranteePrincipal: aws.String("arn:aws:iam::" + account + ":root")})
	must(t, err)
	carol := s.user(t, "carol")
	operator := s.user(t, "operator", `{"Statement":{"Effect":"Allow","Action":["kms:DescribeKey","verenc:*"],"Resource":"*"}}`)
	b := newBrowser(t, s.URL)
	for _, page := range []string{"/docs", "/docs/CreateKey", "/docs/manual", "/docs/manual/key-states",
		"/docs/errors", "/docs/condition-keys", "sign in", "an answer", "/console", "keys",
		"create a key", "a key", "an attestation", "a deletion", "a wrong policy", "policy changes", "not allowed",
		"users and roles", "a user", "not allowed of a key", "/console/report", "/console/audit", "a record"} {
		switch page {
		case "sign in":
			b.open("/docs/GenerateRandom")
			b.click("#open-sign-in")
		case "an answer":
			b.open("/docs/GenerateRandom")
			b.signIn(s.Root)
			if status := b.send(); status != "Status 200" {
				t.Fatal(status)
			}
			eval[any](b, "document.querySelectorAll('details').forEach((d) => (d.open = true))")
		case "keys":
			b.open("/console")
			b.signIn(s.Root)
			b.says(".keys td", "off")
		case "create a key":
			b.click("#console a[href='/console/create']")
			b.press("#console", "Add to Tags")
			b.click(b.check("new material"))
			b.click(b.check("Write a policy"))
		case "a key":
			b.open("/console/keys/" + key)
			b.signIn(s.Root)
			b.loaded()
		case "an attestation":
			b.press(".part", "Get the attestation")
			b.says(".verified", "Verified.")
			eval[any](b, "document.querySelectorAll('details').forEach((d) => (d.open = true))")
		case "users and roles":
			b.open("/console/principals")
			b.signIn(s.Root)
			b.says("#console tbody", "user/carol")
		case "a user":
			b.click("#console tbody a[href$=carol]")
			b.says("#console h2", "Client certificates")
		case "not allowed of a key":
			b.open("/console/keys/" + key)
			b.signIn(operator)
			b.press("#state-actions", "Schedule deletion")
			b.says(".why-not", "kms:ScheduleKeyDeletion")
		case "a deletion":
			b.press("#state-actions", "Schedule deletion")
			b.press("dialog.ask", "Schedule deletion")
		case "a wrong policy":
			b.press("dialog.ask", "Cancel")
			b.fill(b.control("Policy document"), "{\n\"Version\": \"2012-10-17\",\n\"Statement\" []}")
		case "/console/report", "/console/audit":
			b.open(page)
			b.signIn(s.Root)
			b.loaded()
			eval[any](b, "document.querySelectorAll('details').forEach((d) => (d.open = true))")
		case "a record":
			must(t, s.AuditLog.Checkpoint(t.Context()))
			b.click("[aria-label^='Show record']")
			b.press(".part", "Verify that it is in the log")
			b.says(".verified", "Verified")
		case "policy changes":
			b.edit(policyWith("Other"))
			b.press(".part", "Save policy …")
		case "not allowed":
			b.press("dialog.ask", "Cancel")
			b.press(".part", "Undo changes") // or the browser asks whether the page may be left
			b.open("/console")
			b.signIn(carol)
			b.says("#console .warning", "kms:ListKeys")
		default:
			b.open(page)
		}
		eval[any](b, string(axe)+"\n;0")
		for _, screen := range []struct {
			name          string
			width, height int64
			scheme        string
		}{{"light", 1440, 900, "light"}, {"dark", 1440, 900, "dark"}, {"phone", 390, 844, "light"}} {
			b.show(page+" "+screen.name, screen.width, screen.height, screen.scheme)
			findings := eval[[]finding](b, "axe.run().then((r) => r.violations)")
			for _, f := range findings {
				for _, n := range f.Nodes {
					t.Errorf("%s, %s: %s: %s\n%s", page, screen.name, f.Help, n.HTML, n.FailureSummary)
				}
			}
			if wide := eval[bool](b, "document.documentElement.scrollWidth > innerWidth"); wide {
				t.Errorf("%s, %s: it is wider than the screen", page, screen.name)
			}
		}
	}
}
