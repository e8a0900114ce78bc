package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/audit"
)

// TestAuditQuarantine: a server does not start with a damaged log, and names the command that helps.
// After that the server starts, the old log is kept as evidence, and the new one begins with what is
// known of the old one.
func TestAuditQuarantine(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"wrong byte": func(t *testing.T, dir string) {
			path := filepath.Join(dir, "records", "00000000000000000000.jsonl")
			text := []byte(read(t, path))
			text[bytes.Index(text, []byte("ListKeys"))] = 'l'
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"missing records": func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, "records")); err != nil {
				t.Fatal(err)
			}
		},
		"torn checkpoint": func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, "checkpoint"), 20); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := initialised(t)
			r := s.serve(t)
			client := s.sdk(t, "http://"+r.api, http.DefaultClient)
			for range 3 {
				if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
					t.Fatal(err)
				}
			}
			refused(t, s.run(t, "audit", "quarantine"), "as it was written")
			if code := r.stop(t); code != 0 {
				t.Fatal(code)
			}
			oldKey, checkpoint := s.auditKey(t), read(t, s.path("audit/checkpoint"))
			damage(t, s.path("audit"))
			refused(t, s.run(t, "serve"), "verenc audit verify says where")
			got := s.succeeds(t, "audit", "quarantine")
			aside := regexp.MustCompile(`the damaged log is in (\S+), as it was`).FindStringSubmatch(got)
			if aside == nil {
				t.Fatal(got)
			}
			if name != "torn checkpoint" && !strings.Contains(got, checkpoint) {
				t.Errorf("the last checkpoint is not in: %s", got)
			}
			for _, words := range map[string][]string{
				"wrong byte":      {"covers records 0 to 3", "record 1"},
				"missing records": {"records 0 to 3 are missing"},
				"torn checkpoint": {"no checkpoint can be verified"},
			}[name] {
				if !strings.Contains(got, words) {
					t.Errorf("%q is not in: %s", words, got)
				}
			}
			if evidence := s.run(t, "audit", "verify", aside[1], "--key", oldKey); evidence.code == 0 {
				t.Errorf("the old log: %v", evidence)
			}
			newKey := s.auditKey(t)
			if newKey == oldKey || !strings.Contains(got, newKey) {
				t.Errorf("the new log's key %s is not in: %s", newKey, got)
			}
			after := s.serve(t)
			if code := after.stop(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			verified := s.succeeds(t, "audit", "verify", s.path("audit"), "--key", newKey)
			if !strings.Contains(verified, "the log is as it was written") {
				t.Error(verified)
			}
			var first *struct {
				EventName         string
				UserIdentity      struct{ Type string }
				RequestParameters struct {
					QuarantinedLog, LastCheckpoint string
					Unproven                       []string
				}
			}
			if err := audit.Read(os.DirFS(s.path("audit")), func(index int64, text []byte) error {
				if index > 0 {
					return nil
				}
				return json.Unmarshal(text, &first)
			}); err != nil {
				t.Fatal(err)
			}
			p := first.RequestParameters
			if first.EventName != "QuarantineAuditLog" || first.UserIdentity.Type != "OperatingSystemUser" ||
				p.QuarantinedLog != aside[1] ||
				p.LastCheckpoint != checkpoint && name != "torn checkpoint" || len(p.Unproven) < 2 {
				t.Errorf("%+v", first)
			}
		})
	}
}
