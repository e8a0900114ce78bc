package main

import (
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/audit"
)

// sql changes the database without verenc.
func (s *site) sql(t *testing.T, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite3", "file:"+s.path("kms.db"))
	if err == nil {
		_, err = db.ExecContext(t.Context(), statement)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

// commandRecords reads the records of commands in the log, as "event name, resources, parameters".
func (s *site) commandRecords(t *testing.T) (all []string) {
	t.Helper()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	err = audit.Read(os.DirFS(s.path("audit")), func(_ int64, text []byte) error {
		var r audit.Record
		if err := json.Unmarshal(text, &r); err != nil || r.EventSource != "verenc" {
			return err
		}
		if u := r.UserIdentity; u.Type != "OperatingSystemUser" || u.UserName != me.Username ||
			u.PrincipalID != me.Uid || r.EventType != "VerencCommand" || r.ReadOnly || ids[r.EventID] {
			t.Errorf("%s", text)
		}
		ids[r.EventID] = true
		line := r.EventName
		for _, about := range r.Resources {
			line += " " + about.ARN
		}
		if r.RequestParameters != nil {
			parameters, err := json.Marshal(r.RequestParameters)
			if err != nil {
				return err
			}
			line += " " + string(parameters)
		}
		if r.ErrorCode != "" {
			line += " failed: " + r.ErrorMessage
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCommandsLeaveRecords: what commands change is in the audit log, in order, whether a server
// runs at the time or starts later.
func TestCommandsLeaveRecords(t *testing.T) {
	s := initialised(t)
	s.write(t, "list.json", allowListJSON, 0o600)
	s.write(t, "trust.json", trustJSON, 0o600)
	fingerprint := strings.Repeat("ab", 32)
	s.does(t, "user", "create", "app", "--path", "/team/", "--policy", "list=list.json")
	s.does(t, "role", "create", "auditor", "--trust", "trust.json")
	r := s.with("VERENC_TOKEN_RESIDENCY=wrapped").serve(t)
	made, err := s.sdk(t, "http://"+r.api, http.DefaultClient).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	accessKey := credentials.FindStringSubmatch(s.does(t, "access-key", "create", "--user", "app"))[1]
	s.does(t, "access-key", "disable", accessKey)
	s.does(t, "access-key", "enable", accessKey)
	s.does(t, "access-key", "delete", accessKey)
	s.does(t, "certificate", "map", fingerprint, "--user", "app")
	s.does(t, "certificate", "unmap", fingerprint)
	s.write(t, "declared.yaml",
		"accounts:\n  \"111122223333\":\n    users:\n      app: {path: /team/, tags: {team: blue}}\n", 0o600)
	s.does(t, "apply", "-f", "declared.yaml")
	s.does(t, "apply", "-f", "declared.yaml") // changes nothing
	s.does(t, "key", "migrate", *made.KeyMetadata.KeyId, "--to", "token")
	s.does(t, "backup", "saved")
	s.does(t, "user", "list")
	s.does(t, "user", "delete", "app")
	refused(t, s.run(t, "access-key", "delete", accessKey), "there is no access key")
	if code := r.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	s.does(t, "role", "delete", "auditor")
	s.serve(t).stop(t)

	app, auditor := userARN+"team/app", roleARN+"auditor"
	want := []string{
		"CreateAccessKey arn:aws:iam::111122223333:root",
		"CreateUser " + app + ` {"path":"/team/","policies":{"list":`,
		"CreateRole " + auditor + ` {"path":"/","assumeRolePolicyDocument":`,
		"CreateAccessKey " + app + ` {"accessKeyId":"` + accessKey + `"}`,
		`UpdateAccessKey {"accessKeyId":"` + accessKey + `","status":"Inactive"}`,
		`UpdateAccessKey {"accessKeyId":"` + accessKey + `","status":"Active"}`,
		`DeleteAccessKey {"accessKeyId":"` + accessKey + `"}`,
		"MapCertificate " + app + ` {"fingerprint":"` + fingerprint + `"}`,
		`UnmapCertificate {"fingerprint":"` + fingerprint + `"}`,
		"UpdateUser " + app + ` {"path":"/team/","tags":{"team":"blue"}}`,
		"MigrateKey " + *made.KeyMetadata.Arn + ` {"residency":"token"}`,
		`Backup {"file":"saved"}`,
		"DeleteUser " + app,
		`DeleteAccessKey {"accessKeyId":"` + accessKey + `"}`,
		`DeleteAccessKey {"accessKeyId":"` + accessKey + `"} failed: `,
		"DeleteRole " + auditor,
	}
	got := s.commandRecords(t)
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	s.succeeds(t, "audit", "verify", s.path("audit"), "--key", s.auditKey(t))
}

// TestNoRecordNoCommand: a command whose record can't be kept changes nothing.
func TestNoRecordNoCommand(t *testing.T) {
	s := initialised(t)
	s.sql(t, "DROP TABLE pending_records")
	refused(t, s.run(t, "user", "create", "app"), "keep an audit record")
	refused(t, s.run(t, "backup", "saved"), "keep an audit record")
	if users := s.does(t, "user", "list"); strings.Contains(users, "app") {
		t.Error(users)
	}
	s.with("VERENC_AUDIT_DIR=none").does(t, "user", "create", "app") // without a log no record is needed
}
