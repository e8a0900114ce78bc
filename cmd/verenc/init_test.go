package main

import (
	"bytes"
	"database/sql"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/store/postgrestest"
)

// credentials is the form of an AWS credentials file.
var credentials = regexp.MustCompile(
	`^\[default\]\naws_access_key_id = (AKIA[A-Z2-7]{16})\naws_secret_access_key = ([A-Za-z0-9+/]{40})\n$`)

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// refused checks that a command failed, and that its error contains the words.
func refused(t *testing.T, r result, words ...string) {
	t.Helper()
	code := 1
	if strings.Contains(r.stderr, "token refused the PIN") {
		code = exitPIN
	}
	if r.code != code || !strings.HasPrefix(r.stderr[max(strings.LastIndex(r.stderr, "verenc: "), 0):], "verenc: ") {
		t.Errorf("no failure that is told: %v", r)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("%q is not in: %v", w, r)
		}
	}
}

// TestInitOnUsedToken: of two databases that use one token each takes the other's objects for left over.
func TestInitOnUsedToken(t *testing.T) {
	s := newSite(t)
	if first := s.run(t, "init"); first.code != 0 || strings.Contains(first.stderr, "note:") {
		t.Error(first)
	}
	other := s.with("VERENC_DATABASE="+s.path("other.db"), "VERENC_AUDIT_DIR="+s.path("other-audit"))
	second := other.run(t, "init")
	if second.code != 0 || !strings.Contains(second.stderr, "objects of another database of Verenc") {
		t.Error(second)
	}
	out := other.run(t, "doctor", "--reconcile")
	if !strings.Contains(out.stdout, "of another database of Verenc that uses this token") {
		t.Error(out)
	}
}

func TestInit(t *testing.T) {
	s := newSite(t)
	first := s.run(t, "init")
	key := credentials.FindStringSubmatch(first.stdout)
	if first.code != 0 || key == nil {
		t.Fatal(first)
	}
	if strings.Contains(first.stderr, key[2]) {
		t.Error("the secret is in the log")
	}
	if mode := modeOf(t, s.path("kms.db")); mode != 0o600 {
		t.Errorf("the database has mode %o", mode)
	}
	if bytes.Contains([]byte(read(t, s.path("kms.db"))), []byte(key[2])) {
		t.Error("the secret is in the database in clear")
	}

	database := read(t, s.path("kms.db"))
	refused(t, s.run(t, "init"), s.path("kms.db")+" is there already", "--add-access-key")
	if read(t, s.path("kms.db")) != database {
		t.Error("a refused init has changed the database")
	}

	second := s.run(t, "init", "--add-access-key", "--credentials", s.path("second"))
	if second.code != 0 || second.stdout != "" {
		t.Errorf("with a file to write to: %v", second)
	}
	if mode := modeOf(t, s.path("second")); mode != 0o600 {
		t.Errorf("the credentials have mode %o", mode)
	}
	other := credentials.FindStringSubmatch(read(t, s.path("second")))
	if other == nil || other[1] == key[1] || other[2] == key[2] {
		t.Errorf("the second access key is %q", other)
	}
	if other != nil && strings.Contains(second.stderr, other[2]) {
		t.Error("the secret is in the log")
	}

	written := read(t, s.path("second"))
	refused(t, s.run(t, "init", "--add-access-key", "--credentials", s.path("second")),
		s.path("second")+" is there already")
	if read(t, s.path("second")) != written {
		t.Error("a refused init has changed the credentials")
	}
}

// TestInitFails: an init that fails leaves nothing behind that makes the next one fail.
func TestInitFails(t *testing.T) {
	s := newSite(t)
	wrong := s.write(t, "wrong.pin", "00000000", 0o600)
	foreign := s.foreignDatabase(t)
	empty := func(t *testing.T) {
		t.Helper()
		for _, name := range []string{"kms.db", "credentials"} {
			if _, err := os.Stat(s.path(name)); !os.IsNotExist(err) {
				t.Errorf("%s was made: %v", name, err)
			}
		}
	}
	for _, test := range []struct {
		name, env string
		args      []string
		words     []string
	}{
		{"add to nothing", "", []string{"--add-access-key"}, []string{"--add-access-key", "no such file"}},
		{"wrong PIN", "VERENC_TOKEN_PIN_FILE=" + wrong, nil,
			[]string{"token refused the PIN", "correct the PIN in the file " + wrong + "; it is not tried again"}},
		{"wrong PIN in the environment", "VERENC_TOKEN_PIN_FILE=\nVERENC_TOKEN_PIN=00000000", nil,
			[]string{"token refused the PIN", "correct the PIN in VERENC_TOKEN_PIN; it is not tried again"}},
		{"no token", "VERENC_TOKEN_LABEL=nobody", nil, []string{`find token (label "nobody"`, "verenc doctor"}},
		{"no folder for the credentials", "", []string{"--credentials", s.path("none/credentials")},
			[]string{"create the credentials file"}},
		{"no folder for the database", "VERENC_DATABASE=" + s.path("none/kms.db"), nil,
			[]string{"create database", "(make the folder " + s.path("none") + ")"}},
		{"another program's database", "VERENC_DATABASE=" + foreign, nil,
			[]string{"is not one of Verenc's", "set database to a file of its own"}},
		{"a text for a database", "VERENC_DATABASE=" + wrong, nil,
			[]string{"file is not a database", "set database to a file of its own"}},
		{"a misspelt scheme", "VERENC_DATABASE=postgre://verenc@db.example.com/verenc", nil,
			[]string{`database: its scheme is "postgre"`}},
		{"account", "", []string{"--account", "1"}, []string{`account: "1" is not 12 digits`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append([]string{"init", "--credentials", s.path("credentials")}, test.args...)
			r := s.with(strings.Split(test.env, "\n")...).run(t, args...)
			refused(t, r, test.words...)
			if strings.Contains(r.stderr, "refused the PIN") && strings.Contains(r.stderr, "doctor") {
				t.Errorf("doctor would try the same PIN again: %v", r)
			}
			empty(t)
		})
	}
	if r := s.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Error(r)
	}
}

// foreignDatabase makes a database of another program, and returns its path.
func (s *site) foreignDatabase(t *testing.T) string {
	t.Helper()
	path := s.path("foreign.db")
	db, err := sql.Open("sqlite3", path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), "CREATE TABLE accounts (id INTEGER)")
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	s := newSite(t)
	refused(t, s.run(t, "sreve"), "unknown command", "sreve")
	refused(t, s.run(t, "serve", "--lisen=x"), "unknown flag", "--lisen")
	refused(t, s.run(t, "serve", "now"), "now")
	refused(t, s.run(t, "doctor", "--token-sessions=many"), "token-sessions")
	help := s.run(t, "--help")
	for _, name := range []string{"init", "serve", "doctor", "config", "user", "role", "access-key", "certificate",
		"apply", "export", "policy", "--token-pin-file", "VERENC_TOKEN_PIN_FILE"} {
		if help.code != 0 || !strings.Contains(help.stdout, name) {
			t.Errorf("%s is not in the help: %v", name, help)
		}
	}
	if strings.Contains(help.stdout, "--token-pin ") {
		t.Error("the PIN can be given where every process list shows it")
	}
}

func TestDoctor(t *testing.T) {
	s := initialised(t)
	t.Run("healthy", func(t *testing.T) {
		r := s.run(t, "doctor")
		if r.code != 0 || strings.Contains(r.stdout, "BAD") || strings.Contains(r.stdout, "cure") {
			t.Error(r)
		}
		for _, check := range []string{"module", "tokens", "login", "latency", "objects", "self-test",
			"database", "keys", "audit log"} {
			if !regexp.MustCompile(`(?m)^ok +` + check).MatchString(r.stdout) {
				t.Errorf("%s is not ok: %v", check, r)
			}
		}
		if strings.Contains(r.stdout+r.stderr, s.soft.PIN) {
			t.Error("the PIN is shown")
		}
	})
	torn := t.TempDir()
	if err := os.CopyFS(torn, os.DirFS(s.path("audit"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(torn, "checkpoint"), 20); err != nil {
		t.Fatal(err)
	}
	junk := s.write(t, "junk.db", strings.Repeat("not a database ", 100), 0o600)
	tokenless := s.write(t, "softhsm2.conf", "directories.tokendir = "+t.TempDir()+
		"\nobjectstore.backend = file\n", 0o600)
	text := s.write(t, "module.so", "not a library", 0o600)
	for _, test := range []struct {
		name, env, check, cure string
		words                  string
	}{
		{"no module", "VERENC_TOKEN_MODULE=/nowhere/module.so", "module", "set token.module", "no such file"},
		{"a module that is none", "VERENC_TOKEN_MODULE=" + text, "module", "set token.module", text},
		{"no tokens", "SOFTHSM2_CONF=" + tokenless, "tokens", "initialise a token", "none"},
		{"no token of that label", "VERENC_TOKEN_LABEL=nobody", "login", "set token.label or token.serial", "nobody"},
		{"wrong PIN", "VERENC_TOKEN_PIN_FILE=" + s.write(t, "wrong.pin", "00000000", 0o600), "login", "",
			"correct the PIN in the file " + s.path("wrong.pin")},
		{"no PIN", "VERENC_TOKEN_PIN_FILE=", "PIN", "mode 600", "set token.pin_file"},
		{"a PIN for all to read", "VERENC_TOKEN_PIN_FILE=" + s.write(t, "open.pin", "1234", 0o644), "PIN", "mode 600",
			"others may read"},
		{"no database", "VERENC_DATABASE=" + filepath.Join(s.dir, "none.db"), "database", "run verenc init",
			"no such file"},
		{"a database that is none", "VERENC_DATABASE=" + junk, "database", "set database to a file of its own", junk},
		{"another program's database", "VERENC_DATABASE=" + s.foreignDatabase(t), "database",
			"set database to a file of its own", "is not one of Verenc's"},
		{"an empty PostgreSQL database", "VERENC_DATABASE=" + postgrestest.NewDatabase(t), "database",
			"verenc init makes the tables", "it is empty"},
		{"no PostgreSQL server", "VERENC_DATABASE=postgres://verenc@/verenc?host=" + t.TempDir(), "database",
			"does the server run, and can this host reach it?", "open database"},
		{"no audit log", "VERENC_AUDIT_DIR=" + s.path("nowhere"), "audit log", "verenc audit init makes a log",
			s.path("nowhere")},
		{"no audit log in the folder", "VERENC_AUDIT_DIR=" + t.TempDir(), "audit log", "verenc audit init makes a log",
			"no such file"},
		{"a damaged audit log", "VERENC_AUDIT_DIR=" + torn, "audit log", "verenc audit verify says where",
			"not a checkpoint"},
		{"another server's audit log", "VERENC_AUDIT_ORIGIN=other", "audit log", "correct audit.dir or audit.origin",
			"is of verenc-kms, not of other"},
		{"a password for all to read", "VERENC_DATABASE=postgres://verenc@/verenc?host=/\nVERENC_DATABASE_PASSWORD_FILE=" +
			s.write(t, "open.password", "hunter2", 0o644), "database", "mode 600", "others may read"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := s.with(strings.Split(test.env, "\n")...).run(t, "doctor")
			refused(t, r, "checks are bad")
			line := regexp.MustCompile(`(?m)^BAD +` + test.check + ` .*` + regexp.QuoteMeta(test.words) +
				`.*\n( +cure: )?.*` + regexp.QuoteMeta(test.cure))
			cures := 1
			if test.cure == "" { // the line says it
				cures = 0
			}
			if !line.MatchString(r.stdout) || strings.Count(r.stdout, "cure: ") != cures {
				t.Errorf("no line of %s with %q and the cure %q: %v", test.check, test.words, test.cure, r)
			}
			if n := strings.Count(r.stdout, "BAD"); n != 1 {
				t.Errorf("%d bad lines: %v", n, r)
			}
		})
	}
}

// TestInitIfMissing: what containers do before each start makes what is missing, once, on each of several servers; and
// it does not begin a log again that was lost.
func TestInitIfMissing(t *testing.T) {
	for name, s := range map[string]*site{
		"SQLite":     newSite(t),
		"PostgreSQL": newSite(t).with("VERENC_DATABASE=" + postgrestest.NewDatabase(t)),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := s.ofNode("a"), s.ofNode("b")
			for range 2 {
				if r := a.run(t, "init", "--if-missing"); r.code != 0 || r.stdout != "" {
					t.Fatal(r)
				}
			}
			r := a.serve(t)
			if name == "PostgreSQL" {
				if r := b.run(t, "init", "--if-missing"); r.code != 0 {
					t.Fatal(r)
				}
				ready(t, "http://"+b.serve(t).private+"/readyz")
			}
			// While the server runs, as with kubectl exec.
			if r := a.run(t, "init", "--add-access-key", "--credentials", s.path("credentials")); r.code != 0 {
				t.Fatal(r)
			}
			client := a.sdk(t, "http://"+r.api, http.DefaultClient)
			if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
				t.Error(err)
			}
			r.terminate(t)
			if code := r.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if err := os.RemoveAll(s.path("audit-a")); err != nil {
				t.Fatal(err)
			}
			refused(t, a.run(t, "init", "--if-missing"), "audit")
			refused(t, a.run(t, "init", "--if-missing", "--add-access-key"), "if-missing")
		})
	}
}
