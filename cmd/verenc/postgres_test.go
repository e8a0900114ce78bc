package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/store/postgrestest"
)

// TestPostgres does what an operator does, with the metadata in PostgreSQL.
func TestPostgres(t *testing.T) {
	s := newSite(t)
	s = s.with("VERENC_DATABASE="+postgrestest.NewDatabase(t), "VERENC_DATABASE_PASSWORD=hunter2")
	fails := func(s *site, want string, args ...string) {
		t.Helper()
		if r := s.run(t, args...); r.code == 0 || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "hunter2") {
			t.Errorf("%v: got %v, want %q", args, r, want)
		}
	}
	fails(s, "verenc init makes the tables", "serve")
	fails(s, "verenc init makes the tables", "init", "--add-access-key")
	fails(s.with("VERENC_DATABASE=postgres://verenc:hunter2@127.0.0.1/verenc"), "database_password_file", "config")
	fails(s.with("VERENC_DATABASE_PASSWORD_FILE="+s.write(t, "password", "hunter2", 0o644)), "chmod 600", "init")
	if r := s.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Fatal(r)
	}
	fails(s, "--add-access-key", "init")
	contains(t, s.does(t, "init", "--add-access-key"), "aws_access_key_id")
	contains(t, s.does(t, "doctor"), "answers and can be written")
	s.does(t, "user", "create", "alice")
	contains(t, s.does(t, "user", "list"), "alice")
	fails(s, "pg_dump", "backup", s.path("copy"))
	fails(s, "pg_restore", "restore", s.path("copy"))

	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	key, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	box, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("plaintext")})
	if err != nil {
		t.Fatal(err)
	}
	if out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: box.CiphertextBlob}); err != nil || string(out.Plaintext) != "plaintext" {
		t.Errorf("got %v, %v", out, err)
	}
	if status, body := get(t, http.DefaultClient, "http://"+r.private+"/readyz"); status != http.StatusOK {
		t.Errorf("not ready: %d %s", status, body)
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	checkServerLog(t, r, s.accessKey(t).SecretAccessKey, s.soft.PIN, "hunter2")
}
