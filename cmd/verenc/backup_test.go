package main

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestBackupAndRestore is the drill: back up under a running server, lose the database, restore, and
// go on.
func TestBackupAndRestore(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("before")})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := client.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{
		KeyId: made.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(16),
	})
	if err != nil {
		t.Fatal(err)
	}
	backup := s.path("backup.db")
	missing := s.run(t, "restore", s.path("none.db"))
	refused(t, missing, "no such file", "name a file that verenc backup has made")
	if strings.Contains(missing.stderr, "init") {
		t.Error(missing)
	}
	if out := s.run(t, "backup", backup); out.code != 0 {
		t.Fatal(out)
	}
	refused(t, s.run(t, "backup", backup), "is there already")
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	later, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("after")})
	if err != nil {
		t.Fatal(err)
	}
	if code := r.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	refused(t, s.run(t, "restore", backup), "restore: ", "is there already") // the database is still there
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(s.path("kms.db" + suffix)); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	out := s.run(t, "restore", backup)
	if out.code != 0 || strings.Count(out.stdout, "no key: ") != 2 || strings.Contains(out.stdout, "no object:") ||
		!strings.Contains(out.stdout, *later.KeyMetadata.KeyId) {
		t.Error(out) // the two objects of the later key
	}
	again := s.serve(t)
	client = s.sdk(t, "http://"+again.api, http.DefaultClient)
	opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil || len(opened.Plaintext) != 16 {
		t.Errorf("%+v, %v", opened, err)
	}
	again.stop(t)
	for _, name := range []string{"Backup", "Restore"} {
		files, err := filepath.Glob(s.path("audit/records/*.jsonl"))
		hasName := func(file string) bool { return strings.Contains(read(t, file), `"eventName":"`+name+`"`) }
		if err != nil || !slices.ContainsFunc(files, hasName) {
			t.Errorf("%s is not in the audit log (%v)", name, err)
		}
	}
	out = s.run(t, "doctor", "--reconcile")
	if out.code != 0 || !strings.Contains(out.stdout, "1 keys in the database") ||
		strings.Count(out.stdout, "no key: ") != 2 {
		t.Error(out)
	}
	// Another token has none of the objects.
	other := initialised(t)
	lost := s.with("VERENC_TOKEN_LABEL="+other.soft.Label, "VERENC_TOKEN_PIN_FILE="+other.soft.PINFile,
		"VERENC_AUDIT_DIR=none").run(t, "doctor", "--reconcile")
	if lost.code == 0 || !strings.Contains(lost.stdout, "no object: seal of key "+*made.KeyMetadata.KeyId) ||
		!strings.Contains(lost.stderr, "restore the HSM's backup") {
		t.Error(lost)
	}
	junk := s.write(t, "junk.backup", strings.Repeat("not a database ", 100), 0o600)
	refused(t, s.with("VERENC_DATABASE="+s.path("new.db")).run(t, "restore", junk), "not a database")
}
