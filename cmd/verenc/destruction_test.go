package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/store"
)

// TestDestructionCommand: an auditor gets the certificate of a deleted key, and checks it without anything else.
func TestDestructionCommand(t *testing.T) {
	s := initialised(t)
	if out := s.succeeds(t, "destruction", "list"); strings.Count(out, "\n") != 1 {
		t.Error(out)
	}
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	id := *made.KeyMetadata.KeyId
	if _, err := client.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	if code := r.stop(t); code != 0 {
		t.Fatal(code)
	}
	db, err := store.Open(t.Context(), store.Config{Path: s.path("kms.db")})
	if err != nil {
		t.Fatal(err)
	}
	err = db.UpdateKey(t.Context(), "us-east-1", id, func(k *service.Key) error {
		k.DeletionAt = time.Now().Add(-time.Hour)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r = s.serve(t)
	r.await(t, "destruction certified", "key", id)
	if code := r.stop(t); code != 0 {
		t.Fatal(code)
	}

	lines := strings.Split(strings.TrimSpace(s.succeeds(t, "destruction", "list")), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(lines) != 2 || len(fields) != 5 || fields[4] != id { // the time has two words
		t.Fatal(lines)
	}
	file := s.write(t, "certificate", s.succeeds(t, "destruction", "show", fields[0]), 0o600)
	auditor := &site{dir: t.TempDir()} // who has neither token nor database
	out := auditor.succeeds(t, "destruction", "verify", file, "--key", s.auditKey(t))
	for _, words := range []string{"the signature is good", "the key and all of its material was destroyed", id,
		`"arn:aws:iam::111122223333:root", ScheduleKeyDeletion`, "nobody: no approval was asked for",
		"made in the token, could never leave it: destroyed, and a search finds it no more", s.soft.Serial} {
		if !strings.Contains(out, words) {
			t.Errorf("%q is not in\n%s", words, out)
		}
	}
	forged := strings.Replace(read(t, file), "ScheduleKeyDeletion", "ScheduleKeyDeletioN", 1)
	forged = s.write(t, "forged", forged, 0o600)
	refused(t, auditor.run(t, "destruction", "verify", forged, "--key", s.auditKey(t)), "verify destruction certificate")
	refused(t, auditor.run(t, "destruction", "verify", file), "key")
	refused(t, auditor.run(t, "destruction", "verify", "/nowhere", "--key", "k"), "read the statement")
	refused(t, s.run(t, "destruction", "show", "none"), "there is no certificate none")

	if log := logText(t, s); !strings.Contains(log, "CertifyDestruction") || !strings.Contains(log, fields[0]) {
		t.Error("the audit log has no record of the certificate")
	}
}

// logText is the text of the audit log's files.
func logText(t *testing.T, s *site) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(s.path("audit"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			all.WriteString(read(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}
