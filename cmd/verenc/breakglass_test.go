package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	credentialsprovider "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/creack/pty"

	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/transport/sdktest"
)

// atTerminal runs verenc at a terminal. Each time that the prompt is seen, the next line is entered; after the last one
// it is Ctrl-D. It returns all that the terminal has shown, and what verenc has written to a redirected standard
// output.
func (s *site) atTerminal(t *testing.T, prompt string, lines []string, args ...string) (shown, out string, code int) {
	t.Helper()
	cmd := s.command(t, args...)
	var stdout strings.Builder
	cmd.Stdout = &stdout
	tty, err := pty.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	var seen bytes.Buffer
	buffer := make([]byte, 4096)
	for prompted := 0; ; {
		n, err := tty.Read(buffer) // an error once verenc has ended
		seen.Write(buffer[:n])
		for ; prompted < strings.Count(seen.String(), prompt); prompted++ {
			line := "\x04"
			if prompted < len(lines) {
				line = lines[prompted] + "\r"
			}
			if _, err := io.WriteString(tty, line); err != nil {
				t.Fatal(err)
			}
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return seen.String(), stdout.String(), cmd.ProcessState.ExitCode()
}

const (
	initPrompt = "when it is written down: "
	openPrompt = "(not shown): "
)

var shareText = regexp.MustCompile(`(?:[A-Z2-7]{4}-){16}[A-Z2-7]{4}`)

// sealed makes a credential, and returns its shares.
func (s *site) sealed(t *testing.T, args ...string) []string {
	t.Helper()
	shown, out, code := s.atTerminal(t, initPrompt, []string{"", "", ""},
		append([]string{"break-glass", "init", "--shares", "3", "--threshold", "2"}, args...)...)
	shares := shareText.FindAllString(shown, -1)
	if code != 0 || len(shares) != 3 || shareText.MatchString(out) || !strings.Contains(out, "is in force") {
		t.Fatalf("%d: %q, %q", code, shown, out)
	}
	return shares
}

var credentialLine = regexp.MustCompile(`(?m)^aws_(access_key_id|secret_access_key|session_token) = (.+)$`)

// opened opens break-glass, and returns its credentials.
func (s *site) opened(t *testing.T, shares []string, args ...string) aws.Credentials {
	t.Helper()
	shown, out, code := s.atTerminal(t, openPrompt, shares, append([]string{"break-glass", "open", "--reason",
		"the administrators are gone"}, args...)...)
	lines := credentialLine.FindAllStringSubmatch(out, -1)
	if code != 0 || len(lines) != 3 || shareText.MatchString(shown) {
		t.Fatalf("%d: %q, %q", code, shown, out)
	}
	return aws.Credentials{AccessKeyID: lines[0][2], SecretAccessKey: lines[1][2], SessionToken: lines[2][2]}
}

// as is a client with credentials.
func as(c aws.Credentials, url string) *kms.Client {
	return kms.New(kms.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1,
		HTTPClient: sdktest.Of(http.DefaultClient), Credentials: credentialsprovider.NewStaticCredentialsProvider(
			c.AccessKeyID, c.SecretAccessKey, c.SessionToken)})
}

// TestBreakGlassCeremony: shares are shown once, two of three open everything for a time, with alarms, and no longer
// than until it is closed.
func TestBreakGlassCeremony(t *testing.T) {
	s := initialised(t)
	if out := s.succeeds(t, "break-glass", "status"); !strings.Contains(out, "there is no sealed credential") {
		t.Error(out)
	}
	refused(t, s.run(t, "break-glass", "open", "--reason", "x"), "there is no sealed credential")
	shares := s.sealed(t)
	if out := s.succeeds(t, "break-glass", "status"); !strings.Contains(out, "2 of 3 shares") ||
		!strings.Contains(out, "now: closed") {
		t.Error(out)
	}
	r := s.serve(t)
	root := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := root.CreateKey(t.Context(), &kms.CreateKeyInput{BypassPolicyLockoutSafetyCheck: true,
		Policy: aws.String(`{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	in := &kms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: []byte("x")}
	denied := (*types.NotFoundException)(nil)
	if _, err := root.Encrypt(t.Context(), in); err == nil || errors.As(err, &denied) {
		t.Fatalf("the key policy does not deny: %v", err)
	}
	client := as(s.opened(t, []string{shares[2], strings.ToLower(shares[0])}, "--for", "1h"), "http://"+r.api)
	if !strings.Contains(metricsOf(t, r), "\nverenc_break_glass_open 1\n") {
		t.Error("the metric does not say that it is open")
	}
	for range 3 {
		if _, err := client.Encrypt(t.Context(), in); err != nil {
			t.Error(err)
		}
	}
	repaired := `{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},` +
		`"Action":"kms:*","Resource":"*"}}`
	_, err = client.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: in.KeyId, Policy: &repaired})
	if err != nil {
		t.Error(err)
	}
	if _, err := root.Encrypt(t.Context(), in); err != nil {
		t.Errorf("the repaired key policy: %v", err)
	}
	metrics := metricsOf(t, r)
	if !strings.Contains(metrics, "\nverenc_break_glass_requests_total 4\n") {
		t.Error("requests are not counted")
	}
	report := s.succeeds(t, "report")
	for _, words := range []string{"break-glass is open until", `"the administrators are gone"`, "was first used at"} {
		if !strings.Contains(report, words) {
			t.Errorf("%q is not in\n%s", words, report)
		}
	}
	s.succeeds(t, "report", "--format", "html")
	if out := s.succeeds(t, "break-glass", "status"); !strings.Contains(out, "OPEN until") {
		t.Error(out)
	}

	if r := s.run(t, "break-glass", "close"); r.code != 0 || !strings.Contains(r.stderr, "is closed") {
		t.Error(r)
	}
	if _, err := client.Encrypt(t.Context(), in); err == nil || !strings.Contains(err.Error(), "UnrecognizedClient") {
		t.Errorf("after it was closed: %v", err)
	}
	if out := s.succeeds(t, "break-glass", "status"); !strings.Contains(out, "now: closed") {
		t.Error(out)
	}
	if !strings.Contains(metricsOf(t, r), "\nverenc_break_glass_open 0\n") {
		t.Error("the metric does not say that it is closed")
	}

	// A credential that replaces it ends what is open.
	client = as(s.opened(t, shares[:2]), "http://"+r.api)
	if _, err := client.Encrypt(t.Context(), in); err != nil {
		t.Error(err)
	}
	refused(t, s.run(t, "break-glass", "init", "--shares", "3", "--threshold", "2"), "--replace")
	next := s.sealed(t, "--replace")
	if _, err := client.Encrypt(t.Context(), in); err == nil {
		t.Error("an opening by the credential that was replaced")
	}
	if shown, out, code := s.atTerminal(t, openPrompt, shares, "break-glass", "open", "--reason", "x"); code != 1 ||
		!strings.Contains(shown, "is not one of the credential in force") || out != "" {
		t.Errorf("%d: %q, %q", code, shown, out)
	}
	client = as(s.opened(t, next[1:]), "http://"+r.api)
	if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
		t.Error(err)
	}

	if code := r.stop(t); code != 0 {
		t.Error(code)
	}
	log := logText(t, s)
	for event, times := range map[string]int{"InitBreakGlass": 2, "OpenBreakGlass": 3, "BreakGlassUsed": 3,
		"CloseBreakGlass": 1, "RefuseBreakGlass": 1} {
		if n := strings.Count(log, `"eventName":"`+event+`"`); n != times {
			t.Errorf("%d records of %s, want %d", n, event, times)
		}
	}
	if !strings.Contains(log, `"type":"VerencBreakGlass"`) {
		t.Error("records do not say who called")
	}
	for _, secret := range append(shares, next...) {
		if strings.Contains(log, secret[:9]) {
			t.Error("a share is in the audit log")
		}
		if db := read(t, s.path("kms.db")); strings.Contains(db, secret[:9]) {
			t.Error("a share is in the database")
		}
	}
}

func metricsOf(t *testing.T, r *running) string {
	t.Helper()
	_, text := get(t, http.DefaultClient, "http://"+r.private+"/metrics")
	return text
}

// TestBreakGlassRefused: wrong, mistyped and too few shares open nothing, and are recorded.
func TestBreakGlassRefused(t *testing.T) {
	s := initialised(t)
	shares := s.sealed(t)
	mistyped := strings.Replace(shares[0], shares[0][10:14], "AAAA", 1)
	for _, test := range []struct {
		lines []string
		words string
	}{
		{shares[:1], "1 of 2 shares were given"},
		{nil, "0 of 2 shares were given"},
		{[]string{shares[0], shares[0]}, "was given already"},
		{[]string{mistyped, mistyped, mistyped, mistyped, mistyped}, "5 times something was entered"},
	} {
		shown, out, code := s.atTerminal(t, openPrompt, test.lines, "break-glass", "open", "--reason", "x")
		if code != 1 || !strings.Contains(shown, test.words) || out != "" {
			t.Errorf("%s: %d: %q, %q", test.words, code, shown, out)
		}
	}
	s.opened(t, []string{mistyped, shares[0], shares[1]}) // who mistypes may try again

	// Without a terminal nothing is shown or asked.
	refused(t, s.run(t, "break-glass", "init", "--replace", "--shares", "3", "--threshold", "2"), "terminal only")
	refused(t, s.run(t, "break-glass", "open", "--reason", "x"), "terminal only")
	for _, args := range [][]string{{"init", "--replace", "--shares", "3", "--threshold", "1"},
		{"init", "--replace", "--shares", "17", "--threshold", "2"}, {"init", "--replace", "--shares", "3"},
		{"open", "--reason", " "}, {"open"}, {"open", "--reason", "x", "--for", "25h"},
		{"open", "--reason", "x", "--for", "-1s"}} {
		refused(t, s.run(t, append([]string{"break-glass"}, args...)...))
	}
	// A ceremony that is broken off leaves the credential in force.
	if _, _, code := s.atTerminal(t, initPrompt, []string{""}, "break-glass", "init", "--replace", "--shares", "3",
		"--threshold", "2"); code != 1 {
		t.Errorf("exit code %d", code)
	}
	s.opened(t, shares[1:])
	r := s.serve(t) // which puts the records of commands into the log
	if code := r.stop(t); code != 0 {
		t.Error(code)
	}
	if n := strings.Count(logText(t, s), `"eventName":"RefuseBreakGlass"`); n < 4 {
		t.Errorf("%d records of refusals", n)
	}
}

// TestRolledBackDatabase: in a database of before, an opening that was closed is open again, but not beyond the end
// that the credential has signed.
func TestRolledBackDatabase(t *testing.T) {
	s := initialised(t)
	credentials := s.opened(t, s.sealed(t), "--for", "1h")
	db, err := store.Open(t.Context(), store.Config{Path: s.path("kms.db")})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Backup(t.Context(), s.path("backup.db")); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s.succeeds(t, "break-glass", "close")
	call := func() error {
		r := s.serve(t)
		_, err := as(credentials, "http://"+r.api).ListKeys(t.Context(), &kms.ListKeysInput{})
		if code := r.stop(t); code != 0 {
			t.Error(code)
		}
		return err
	}
	if err := call(); err == nil {
		t.Error("it was closed")
	}
	for _, name := range []string{"kms.db-wal", "kms.db-shm"} {
		if err := os.Remove(s.path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.Rename(s.path("backup.db"), s.path("kms.db")); err != nil {
		t.Fatal(err)
	}
	if r := s.run(t, "break-glass", "status"); r.code != 0 || !strings.Contains(r.stdout, "OPEN until") {
		t.Error(r)
	}
}
