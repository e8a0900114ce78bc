package main

import (
	"errors"
	"fmt"
	"net"
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
	fails(s, "for a further server, verenc audit init", "init")
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
	out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: box.CiphertextBlob})
	if err != nil || string(out.Plaintext) != "plaintext" {
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

// TestExposedDatabase: the server and the doctor warn of an sslmode that doesn't protect the way to another host.
func TestExposedDatabase(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	server := postgrestest.Start(t, "listen_addresses=127.0.0.1", "port="+port)
	server.Configure(t, nil, "host all all 127.0.0.1/32 trust")
	server.Exec(t, "postgres", "CREATE DATABASE verenc")
	s := newSite(t)
	at := func(host string) *site {
		return s.with("VERENC_DATABASE=postgres://postgres@" + host + ":" + port + "/verenc?sslmode=prefer")
	}
	// Connections to 0.0.0.0 are to this host, but it is no address of it.
	local, exposed := at("127.0.0.1"), at("0.0.0.0")
	if r := local.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Fatal(r)
	}
	const warning = "whoever is on the network to the PostgreSQL server 0.0.0.0 can read and change what goes there"
	contains(t, exposed.does(t, "doctor"), "warn", warning, "sslmode=verify-full")
	r := exposed.serve(t)
	contains(t, r.text(t), "the database is exposed", warning, "sslmode=verify-full")
	r.stop(t)
	if out := local.does(t, "doctor"); strings.Contains(out, "whoever is on the network") {
		t.Error(out)
	}
}

// TestDatabaseMove: after the move to PostgreSQL, everything that was there is there, and the log tells of it.
func TestDatabaseMove(t *testing.T) {
	s := initialised(t)
	moved := s.with("VERENC_DATABASE=" + postgrestest.NewDatabase(t))
	to := strings.TrimPrefix(moved.env[len(moved.env)-1], "VERENC_DATABASE=")
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	key, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	in := &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("plaintext")}
	box, err := client.Encrypt(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	fails := func(want string, args ...string) {
		t.Helper()
		if r := s.run(t, args...); r.code == 0 || !strings.Contains(r.stderr, want) {
			t.Errorf("%v: got %v, want %q", args, r, want)
		}
	}
	fails("stop the server that has it open", "database", "move", "--to", to)
	fails("give the URL", "database", "move", "--to", s.path("other.db"))
	fails("database_password_file", "database", "move", "--to", "postgres://verenc:hunter2@db.example.com/verenc")
	r.stop(t)
	contains(t, s.does(t, "database", "move", "--to", to), "1 keys", "every row was compared", to)
	fails("name an empty database", "database", "move", "--to", to)

	r = moved.serve(t)
	client = s.sdk(t, "http://"+r.api, http.DefaultClient)
	out, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: box.CiphertextBlob})
	if err != nil || string(out.Plaintext) != "plaintext" {
		t.Errorf("got %v, %v", out, err)
	}
	r.stop(t)
	found := false
	for _, record := range s.recorded(t) {
		found = found || strings.Contains(fmt.Sprint(record), "MoveDatabase")
	}
	if !found {
		t.Error("the log has no record of the move")
	}
}
