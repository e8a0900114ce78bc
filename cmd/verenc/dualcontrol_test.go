package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service/audit"
)

// namedBlock returns the fenced block of a page with these words behind its fence.
func namedBlock(t *testing.T, page, name string) string {
	t.Helper()
	m := regexp.MustCompile("(?ms)^```" + regexp.QuoteMeta(name) + "\n(.*?)^```").FindStringSubmatch(
		read(t, filepath.Join(root, "docs", page)))
	if m == nil {
		t.Fatalf("%s has no block %q", page, name)
	}
	return m[1]
}

// shell runs the lines of a page in the site's folder, against its server.
func (s *site) shell(t *testing.T, url, text string, env ...string) result {
	t.Helper()
	installBinary(t, s.path("data"))
	cmd := exec.Command("bash", "-c", "set -e\n"+strings.ReplaceAll(text, "https://kms.example.com", url))
	cmd.Dir = s.dir
	cmd.Env = append(slices.Clone(s.environ()), "PATH="+s.path("data/bin")+":/usr/bin:/bin", "HOME="+s.dir,
		"LANG=C.UTF-8", "AWS_CONFIG_FILE=/dev/null", "AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=")
	cmd.Env = append(cmd.Env, env...)
	return runCommand(t, cmd)
}

// TestDualControl: what docs/dual-control.md says, as a new user does it: two people destroy a key which one alone
// can't, by the AWS CLI; and commands need the approvals of two.
func TestDualControl(t *testing.T) {
	const page = "dual-control.md"
	s := initialised(t)
	r := s.serve(t)
	url := "http://" + r.api
	for _, name := range []string{"people.yaml", "guard.yaml"} {
		s.write(t, name, namedBlock(t, page, "yaml "+name), 0o600)
	}
	as := func(name, text string, env ...string) result {
		t.Helper()
		return s.shell(t, url, text, append(env, "AWS_SHARED_CREDENTIALS_FILE="+s.path(name+".credentials"))...)
	}
	if got := s.shell(t, url, namedBlock(t, page, "sh operator")); got.code != 0 {
		t.Fatal(got)
	}
	made := as("alice", "aws --endpoint-url "+url+" kms create-key --description payroll --query KeyMetadata.KeyId --output text")
	if made.code != 0 {
		t.Fatal(made)
	}
	id := strings.TrimSpace(made.stdout)
	key := "KEY=" + id
	destroy := namedBlock(t, page, "sh alice")
	denied := regexp.MustCompile(`AccessDeniedException.*Approval request 1: the same call is allowed, once, when ` +
		`1 principal who has verenc:Approve on the key has approved, until \S+ \(0 so far\)\.`)
	for range 2 {
		if got := as("alice", destroy, key); got.code != 254 || !denied.MatchString(got.stderr) {
			t.Fatal(got)
		}
	}

	approve := func(who, number string) result {
		t.Helper()
		text := strings.ReplaceAll(namedBlock(t, page, "sh bob"), " 1", " "+number)
		text = strings.ReplaceAll(text, "bob.credentials", who+".credentials")
		shown := as(who, strings.ReplaceAll(text, "verenc approval approve", "true"))
		const last = `to approve of exactly this: (verenc approval approve \d+ --digest [0-9a-f]{64})\n`
		command := regexp.MustCompile(last).FindStringSubmatch(shown.stdout)
		if shown.code != 0 || command == nil {
			return shown
		}
		_, digest, _ := strings.Cut(command[1], "--digest ")
		return as(who, strings.ReplaceAll(text, "DIGEST", digest))
	}
	if got := approve("alice", "1"); got.code != 0 || !strings.Contains(got.stdout, "it is your own call") {
		t.Error(got)
	}
	mine := "verenc approval --endpoint " + url + " approve 1 --digest " + strings.Repeat("0", 64)
	if got := as("alice", mine); got.code != 1 || !strings.Contains(got.stderr, "is behind the call") {
		t.Error(got)
	}
	if got := as("alice", mine, "AWS_PROFILE=other"); got.code != 1 || !strings.Contains(got.stderr, "your own access key") {
		t.Error(got)
	}
	got := approve("bob", "1")
	if got.code != 0 {
		t.Fatal(got)
	}
	contains(t, got.stdout, "ScheduleKeyDeletion (kms.amazonaws.com)", `"PendingWindowInDays": 7`, userARN+"alice", "payroll",
		"request 1 is APPROVED, with 1 of 1 approvals")
	if got := as("alice", destroy, key); got.code != 0 || !strings.Contains(got.stdout, "PendingDeletion") {
		t.Fatal(got)
	}

	contains(t, s.does(t, "report"), "guard of the account", `Deny "KeysNeedOneMore"`,
		`, if {"NumericLessThan":{"verenc:Approvals":"1"}}`, "but key policies and the account's guard",
		"ScheduleKeyDeletion", "USED",
		userARN+"bob")
	contains(t, s.does(t, "report", "--format", "html"), "<h2>Guard and approvals</h2>", "<th>Deny KeysNeedOneMore</th>",
		"<td>USED</td><td>ScheduleKeyDeletion</td>")
	contains(t, s.does(t, "attest", id), `"GuardSHA256": "`)
	contains(t, s.does(t, "policy", "explain", "--principal", userARN+"alice", "--action", "kms:PutKeyPolicy", "--key",
		id), "denied: guard statement 1 KeysNeedOneMore", "with an explicit deny in a guard")
	contains(t, s.does(t, "export"), "guard:", "Sid: KeysNeedOneMore")

	// A guard with a typing error would be without effect.
	good := namedBlock(t, page, "yaml guard.yaml")
	for wrong, want := range map[string]string{
		strings.Replace(good, "verenc:Approvals", "verenc:Aprovals", 1):           "the nearest is verenc:Approvals",
		strings.Replace(good, "kms:ScheduleKeyDeletion", "kms:SheduleKeyDel*", 1): "no action is named kms:shedulekeydel*",
		strings.Replace(good, "verenc:PutGuard", "verenc:PutGuards", 1):           "the nearest is verenc:PutGuard",
	} {
		s.write(t, "wrong.yaml", wrong, 0o600)
		refused(t, s.run(t, "apply", "-f", "wrong.yaml"), "nothing was changed", want)
		refused(t, s.run(t, "apply", "--dry-run", "-f", "wrong.yaml"), want)
	}

	// The guard guards itself, and the principals.
	weaker := "accounts:\n  \"111122223333\":\n    guard: {}\n    users:\n      mallory: {}\n"
	s.write(t, "weaker.yaml", weaker, 0o600)
	refused(t, s.run(t, "apply", "-f", "weaker.yaml"), "create "+userARN+"mallory", "remove guard of account 111122223333",
		"Approval request 2:", "Approval request 3:")
	refused(t, s.run(t, "user", "delete", "alice"), "Approval request 4:")
	refused(t, s.run(t, "access-key", "create", "--user", "bob"), "Approval request 5:")
	s.does(t, "backup", "copy") // which the sample leaves to the operator
	got = approve("bob", "3")
	contains(t, got.stdout, "change of the guard:", `-      "Sid": "KeysNeedOneMore",`, "PENDING, with 1 of 2")
	refused(t, s.run(t, "apply", "-f", "weaker.yaml"), "Approval request 3: the same call is allowed, once,",
		"when 2 principals", "(1 so far)")
	// An approval that somebody writes into the database has no signature that is valid.
	s.sql(t, `INSERT INTO approvals SELECT request, replace(approver, 'bob', 'carol'), at,
		replace(evidence, 'user/bob', 'user/carol') FROM approvals WHERE request = 3`)
	refused(t, s.run(t, "apply", "-f", "weaker.yaml"), "Approval request 3: the same call is allowed, once,",
		"when 2 principals", "(1 so far)")
	s.sql(t, `DELETE FROM approvals WHERE approver LIKE '%carol'`)
	for number, who := range map[string][]string{"3": {"carol"}, "5": {"bob", "carol"}} {
		for _, name := range who {
			if got := approve(name, number); got.code != 0 {
				t.Fatal(got)
			}
		}
	}
	contains(t, s.does(t, "access-key", "create", "--user", "bob"), "AKIA")
	refused(t, s.run(t, "access-key", "create", "--user", "bob"), "Approval request 6:")
	refused(t, s.run(t, "apply", "-f", "weaker.yaml"), "Approval request 2:") // but the guard is gone
	s.does(t, "apply", "-f", "weaker.yaml")
	if exported := s.does(t, "export"); strings.Contains(exported, "guard") || !strings.Contains(exported, "mallory") {
		t.Error(exported)
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, name := range []string{"alice", "bob", "carol"} {
		secret := credentials.FindStringSubmatch(read(t, s.path(name+".credentials")))
		checkServerLog(t, r, secret[2])
	}
	s.succeeds(t, "audit", "verify", s.path("audit"), "--key", s.auditKey(t))
	var used bool
	err := audit.Read(os.DirFS(s.path("audit")), func(_ int64, text []byte) error {
		used = used || strings.Contains(string(text), `"eventName":"ScheduleKeyDeletion"`) &&
			strings.Contains(string(text), `"approvalRequests":[1],"approvedBy":["`+userARN+`bob"]`)
		return nil
	})
	if err != nil || !used {
		t.Errorf("no record names the request and its approver, %v", err)
	}
}
