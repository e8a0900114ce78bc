package main

import (
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// tokenlessly is the site without its token: neither module nor PIN are known.
func (s *site) tokenlessly() *site {
	return s.with("VERENC_TOKEN_MODULE=", "VERENC_TOKEN_LABEL=", "VERENC_TOKEN_PIN_FILE=", "SOFTHSM2_CONF=/nowhere")
}

// does runs a command that must succeed, and gives its output.
func (s *site) does(t *testing.T, args ...string) string {
	t.Helper()
	r := s.run(t, args...)
	if r.code != 0 {
		t.Fatalf("%v: %v", args, r)
	}
	return r.stdout
}

// copyTestdata puts files of testdata beside the site's own.
func (s *site) copyTestdata(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		s.write(t, name, read(t, filepath.Join("testdata", name)), 0o600)
	}
}

const (
	allowListJSON = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`
	trustJSON     = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},` +
		`"Action":"sts:AssumeRole"}}`
	userARN = "arn:aws:iam::111122223333:user/"
	roleARN = "arn:aws:iam::111122223333:role/"
)

func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

func TestUsersAndRoles(t *testing.T) {
	s := initialised(t).tokenlessly()
	s.write(t, "list.json", allowListJSON, 0o600)
	s.write(t, "trust.json", trustJSON, 0o600)
	if got := s.does(t, "user", "create", "app", "--path", "/team/", "--tag", "team=blue/green", "--policy",
		"list=list.json", "--boundary", "list.json"); got != userARN+"team/app\n" {
		t.Errorf("created %q", got)
	}
	got := s.does(t, "role", "create", "auditor", "--trust", "trust.json", "--max-session", "2h")
	if got != roleARN+"auditor\n" {
		t.Errorf("created %q", got)
	}
	s.does(t, "user", "create", "partner", "--account", "444455556666")

	users := s.does(t, "user", "list")
	contains(t, users, userARN+"team/app", "arn:aws:iam::444455556666:user/partner", "AIDA")
	if strings.Contains(users, "auditor") {
		t.Errorf("a role among the users:\n%s", users)
	}
	contains(t, s.does(t, "role", "list"), roleARN+"auditor", "AROA")
	contains(t, s.does(t, "user", "show", "app"), "arn: "+userARN+"team/app\n", "id: AIDA", "team: blue/green",
		"policies:\n  list:\n    Version: \"2012-10-17\"\n", "boundary:\n")
	contains(t, s.does(t, "role", "show", "auditor"), "max_session: 7200\n", "trust:\n")

	refused(t, s.run(t, "user", "create", "APP"), "user APP exists already, as "+userARN+"team/app")
	refused(t, s.run(t, "user", "create", "b", "--policy", "list"), "--policy list: give NAME=VALUE")
	refused(t, s.run(t, "user", "create", "b", "--policy", "list=none.json"), "open none.json")
	refused(t, s.run(t, "user", "create", "b", "--policy", "list=trust.json"), "user b: policies.list: Statement 1")
	refused(t, s.run(t, "role", "create", "b"), "role b: trust: a role needs a trust policy")
	refused(t, s.run(t, "user", "create"), "accepts 1 arg")
	refused(t, s.run(t, "user"), "name a subcommand")
	refused(t, s.run(t, "user", "show", "partner"), "there is no user partner in account 111122223333", "--account")
	contains(t, s.does(t, "user", "show", "partner", "--account", "444455556666"), "user/partner")

	s.does(t, "user", "delete", "app")
	refused(t, s.run(t, "user", "delete", "app"), "there is no user app")
	s.does(t, "role", "delete", "auditor")
	refused(t, s.with("VERENC_DATABASE=none.db").run(t, "user", "list"), "verenc init creates it")
}

func TestAccessKeyCommands(t *testing.T) {
	s := initialised(t)
	database := s.tokenlessly()
	database.does(t, "user", "create", "app")
	refused(t, s.run(t, "access-key", "rotate", "--user", "app"), "has no access key to rotate")
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	var complaint strings.Builder
	lost := s.command(t, "access-key", "create", "--user", "app")
	lost.Stdout, lost.Stderr = full, &complaint
	if err := lost.Run(); err == nil || !strings.Contains(complaint.String(), "the access key is deleted again") ||
		strings.Contains(database.does(t, "access-key", "list", "--user", "app"), "AKIA") {
		t.Errorf("an access key that could not be shown: %v, %s", err, complaint.String())
	}
	first := credentials.FindStringSubmatch(s.does(t, "access-key", "create", "--user", "app"))
	if first == nil {
		t.Fatal("no access key")
	}
	refused(t, s.run(t, "access-key", "rotate", "--user", "app", "--keep", "--delete"), "keep", "delete")
	refused(t, s.run(t, "access-key", "create", "--user", "none", "--credentials", s.path("none")),
		"there is no user none")
	refused(t, s.run(t, "access-key", "create", "--user", "app", "--credentials", s.path("none/file")),
		"create the credentials file")
	refused(t, s.run(t, "access-key", "create"), `"user"`)
	refused(t, database.run(t, "access-key", "create", "--user", "app"), "token.module")

	rotated := s.run(t, "access-key", "rotate", "--user", "app", "--credentials", s.path("second"))
	if rotated.code != 0 || rotated.stdout != "" {
		t.Fatal(rotated)
	}
	contains(t, rotated.stderr, "verenc access-key delete "+first[1])
	second := credentials.FindStringSubmatch(read(t, s.path("second")))
	if second == nil || modeOf(t, s.path("second")) != 0o600 || strings.Contains(rotated.stderr, second[2]) {
		t.Fatalf("the second: %v", rotated)
	}
	status := func(id string) string {
		t.Helper()
		line := regexp.MustCompile(`(?m)^` + id + ` +(\w+) +\S+ +(never|\S+Z) .*$`)
		m := line.FindStringSubmatch(database.does(t, "access-key", "list", "--user", "app"))
		if m == nil {
			return "none"
		}
		return m[1]
	}
	if status(first[1]) != "disabled" || status(second[1]) != "enabled" {
		t.Error(database.does(t, "access-key", "list"))
	}
	refused(t, s.run(t, "access-key", "create", "--user", "app", "--credentials", s.path("third")),
		"has 2 access keys already")
	refused(t, s.run(t, "access-key", "rotate", "--user", "app"), "has 2 access keys already")
	if _, err := os.Stat(s.path("third")); !os.IsNotExist(err) {
		t.Errorf("a file without an access key is left: %v", err)
	}
	database.does(t, "access-key", "enable", first[1])
	if status(first[1]) != "enabled" {
		t.Error("it is not enabled")
	}
	database.does(t, "access-key", "disable", first[1])
	database.does(t, "access-key", "delete", first[1])
	refused(t, database.run(t, "access-key", "delete", first[1]), "there is no access key "+first[1])
	refused(t, database.run(t, "access-key", "disable", "AKIA"),
		"there is no access key AKIA (verenc access-key list shows all)")
	third := credentials.FindStringSubmatch(s.does(t, "access-key", "rotate", "--user", "app", "--delete"))
	if third == nil || status(second[1]) != "none" || status(third[1]) != "enabled" {
		t.Error(database.does(t, "access-key", "list"))
	}
	contains(t, database.does(t, "access-key", "list"), s.accessKey(t).AccessKeyID, ":root\n")
	contains(t, database.does(t, "user", "show", "app"), third[1]+": enabled, last used never")
	refused(t, s.run(t, "access-key", "create", "--user", "app", "--expires", "soon"), `--expires: "soon" is neither`)
	refused(t, s.run(t, "access-key", "create", "--user", "app", "--expires", "2020-01-31"), "which is over")
	s.does(t, "access-key", "create", "--user", "app", "--expires", "2199-12-31", "--credentials", s.path("ending"))
	contains(t, database.does(t, "access-key", "list", "--user", "app"), " 2199-12-31 00:00Z ")
	contains(t, database.does(t, "user", "show", "app"), "expires never", "expires 2199-12-31 00:00Z")
	if all := read(t, s.path("kms.db")); strings.Contains(all, third[2]) {
		t.Error("the secret is in the database in clear")
	}
}

func TestCertificateCommands(t *testing.T) {
	s := initialised(t).tokenlessly()
	certificate, key, _ := selfSigned(t, s)
	block, _ := pem.Decode([]byte(read(t, certificate)))
	fingerprint := fmt.Sprintf("%x", sha256.Sum256(block.Bytes))
	s.does(t, "user", "create", "app")
	s.does(t, "user", "create", "other")
	s.does(t, "certificate", "map", certificate, "--user", "app")
	contains(t, s.does(t, "certificate", "list"), fingerprint, userARN+"app\n")
	refused(t, s.run(t, "certificate", "map", fingerprint, "--user", "other"), "is already mapped to "+userARN+"app")
	refused(t, s.run(t, "certificate", "map", certificate), `"user"`)
	refused(t, s.run(t, "certificate", "map", certificate, "--user", "none"), "there is no user none")
	refused(t, s.run(t, "certificate", "map", "none.pem", "--user", "app"), "open none.pem")
	refused(t, s.run(t, "certificate", "map", key, "--user", "app"), key+" does not begin with a certificate in PEM")
	s.write(t, "large.pem", strings.Repeat("x", 1<<20+1), 0o600)
	refused(t, s.run(t, "certificate", "map", "large.pem", "--user", "app"), "large.pem has more than")
	s.does(t, "certificate", "unmap", strings.ToUpper(fingerprint))
	refused(t, s.run(t, "certificate", "unmap", certificate), "no principal has the certificate "+fingerprint)

	const id = "spiffe://example.org/ns/shop/sa/orders"
	for _, name := range []string{id, "dns:orders.example.org", "subject:CN=orders,O=Example"} {
		s.does(t, "certificate", "map", name, "--user", "app")
		contains(t, s.does(t, "certificate", "list"), name+" ", userARN+"app\n")
	}
	contains(t, s.does(t, "export"), "- spiffe_id: "+id+"\n", "- dns: orders.example.org\n",
		"- subject: CN=orders,O=Example\n")
	contains(t, s.does(t, "apply", "-f", s.write(t, "same.yaml", s.does(t, "export"), 0o600)), "nothing to change")
	refused(t, s.run(t, "certificate", "map", "spiffe://example.org", "--user", "app"), "is not a SPIFFE ID")
	s.does(t, "certificate", "unmap", id)
	refused(t, s.run(t, "certificate", "unmap", id), "no principal has the certificate "+id)
	contains(t, s.does(t, "certificate", "names", certificate), fingerprint+"\n")
}

func TestApply(t *testing.T) {
	s := initialised(t).tokenlessly()
	s.copyTestdata(t, "principals.yaml", "list.json")
	created := []string{"create " + userARN + "service/app", "create " + userARN + "bystander",
		"create " + roleARN + "auditor", "create arn:aws:iam::444455556666:user/partner",
		"map certificate 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20: to " + userARN + "service/app"}
	apply := func(want []string, end string, args ...string) {
		t.Helper()
		output := s.does(t, append([]string{"apply", "-f", "principals.yaml"}, args...)...)
		got := strings.Split(strings.TrimSuffix(output, "\n"), "\n")
		if n := len(got) - 1; !slices.Equal(got[:n], want) || got[n] != end {
			t.Errorf("got  %q\nwant %q %q", got, want, end)
		}
	}
	apply(created, "5 to change; nothing was changed", "--dry-run")
	apply(created, "5 changed")
	apply(nil, "nothing to change")
	apply(nil, "nothing to change", "--prune")

	exported := s.does(t, "export")
	if want := read(t, "testdata/exported.yaml"); exported != want {
		t.Errorf("exported:\n%s", exported)
	}
	text := read(t, s.path("principals.yaml"))
	s.write(t, "principals.yaml", exported, 0o600)
	apply(nil, "nothing to change", "--prune")

	// One less of each thing, and one more.
	text = strings.NewReplacer("team: blue, ", "", "list: {file: list.json}\n        cert",
		"more: {file: list.json}\n        cert",
		"      bystander: {}\n", "      newcomer: {}\n", "7200", "3600", "0102030405", "ff02030405").Replace(text)
	s.write(t, "principals.yaml", text, 0o600)
	s.does(t, "user", "create", "manual")
	changed := []string{"change " + userARN + "service/app: tags, policies.list, policies.more",
		"create " + userARN + "newcomer", "change " + roleARN + "auditor: max_session",
		"map certificate ff02030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20: to " + userARN + "service/app",
		"unmap certificate 0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20: from " + userARN + "service/app"}
	apply(changed, "5 changed")
	apply(nil, "nothing to change")
	removed := []string{"remove " + userARN + "bystander", "remove " + userARN + "manual"}
	apply(removed, "2 to change; nothing was changed", "--prune", "--dry-run")
	apply(removed, "2 changed", "--prune")
	apply(nil, "nothing to change", "--prune")

	cmd := s.command(t, "apply", "-f", "-")
	cmd.Stdin = strings.NewReader("accounts: {111122223333: {users: {piped: }}}")
	if r := runCommand(t, cmd); r.code != 0 || r.stdout != "create "+userARN+"piped\n1 changed\n" {
		t.Error(r)
	}
}

// TestApplyRefuses: what is wrong anywhere changes nothing.
func TestApplyRefuses(t *testing.T) {
	s := initialised(t).tokenlessly()
	s.copyTestdata(t, "principals.yaml") // and not list.json
	r := s.run(t, "apply", "-f", "principals.yaml")
	refused(t, r, "nothing was changed", "principals.yaml:20:17: policies.list: open list.json",
		"principals.yaml:31:19: boundary: open list.json", "principals.yaml:37:17: policies.list")
	if strings.Contains(s.does(t, "user", "list"), "arn:") {
		t.Error("something was changed")
	}
	s.does(t, "user", "create", "app")
	s.copyTestdata(t, "list.json")
	refused(t, s.run(t, "apply", "-f", "principals.yaml"), "nothing was changed",
		"principals.yaml:5:7: user app exists as "+userARN+"app, and an ARN can't be changed")
	refused(t, s.run(t, "apply", "-f", "none.yaml"), "open none.yaml")
	refused(t, s.run(t, "apply"), `"file"`)
	if users := s.does(t, "user", "list"); strings.Count(users, "arn:") != 1 {
		t.Errorf("something was changed:\n%s", users)
	}
}
