package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/certtest"
	"github.com/verenc/kms/service/store/postgrestest"
)

func TestCheckURL(t *testing.T) {
	for address, want := range map[string]string{
		"postgres://verenc@db.example.com/verenc":                        "",
		"postgresql://verenc@a:5432,b:5433/verenc?sslmode=disable":       "",
		"postgres:///verenc?host=/run/postgresql":                        "",
		"postgres://verenc:hunter2@db.example.com/verenc":                "holds a password",
		"postgres://verenc@db.example.com/verenc?password=hunter2":       "holds a password",
		"postgres://verenc:hunter2@db.example.com:port/verenc":           "not a URL",
		"postgres://verenc@db.example.com":                               "names no database",
		"postgre://verenc:hunter2@db.example.com/verenc":                 `its scheme is "postgre": a PostgreSQL database is`,
		"sqlite:///var/lib/verenc/kms.db":                                "a file of SQLite has a path without ://",
		"postgres://verenc@db.example.com/verenc?sslmode=certainly":      "sslmode",
		"postgres://verenc@db.example.com/verenc?sslrootcert=/none/here": "/none/here",
	} {
		err := CheckURL(address)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", address, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error shows the password: %v", address, err)
		}
	}
}

// TestTLSByDefault: who says nothing of TLS gets a verified server, but for one on the same host.
func TestTLSByDefault(t *testing.T) {
	dir := t.TempDir()
	for address, verified := range map[string]bool{
		"postgres://u@db.example.com/d":            true,
		"postgres://u@localhost,db.example.com/d":  true,
		"postgres://u@/d?host=db.example.com":      true,
		"postgres://u@127.0.0.1/d":                 false,
		"postgres://u@[::1]:1/d":                   false,
		"postgres:///d?host=" + dir:                false,
		"postgres://u@192.0.2.1/d?sslmode=disable": false,
	} {
		u, err := url.Parse(address)
		must(t, err)
		if got := strings.Contains(withTLS(u), "sslmode=verify-full"); got != verified {
			t.Errorf("%s: verified is %v", address, got)
		}
	}
}

// TestExposedHost: only verify-full keeps out whoever is on the network to another host.
func TestExposedHost(t *testing.T) {
	_, authority := newAuthority(t)
	for address, want := range map[string]string{
		"postgres://u@db.example.com/d":                                              "",
		"postgres://u@db.example.com/d?sslmode=verify-full&sslrootcert=" + authority: "",
		"postgres://u@db.example.com/d?sslmode=verify-ca&sslrootcert=" + authority:   "db.example.com",
		"postgres://u@db.example.com/d?sslmode=require":                              "db.example.com",
		"postgres://u@db.example.com/d?sslmode=require&sslrootcert=" + authority:     "db.example.com",
		"postgres://u@db.example.com/d?sslmode=prefer":                               "db.example.com",
		"postgres://u@db.example.com/d?sslmode=allow":                                "db.example.com",
		"postgres://u@db.example.com/d?sslmode=disable":                              "db.example.com",
		"postgres://u@localhost,db.example.com/d?sslmode=disable":                    "db.example.com",
		"postgres://u@localhost:1,127.0.0.1:2/d?sslmode=disable":                     "",
		"postgres://u@[::1]:1/d?sslmode=allow":                                       "",
		"postgres://u@/d?host=/run/postgresql&sslmode=disable":                       "",
		"postgres://u@10.0.0.1:1,10.0.0.2:1/d?sslmode=prefer":                        "10.0.0.1",
		"kms.db": "",
	} {
		if got := ExposedHost(address); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	t.Setenv("PGSSLMODE", "prefer")
	if got := ExposedHost("postgres://u@db.example.com/d"); got != "db.example.com" {
		t.Errorf("with PGSSLMODE: got %q", got)
	}
}

func TestPostgresRefuses(t *testing.T) {
	refused := func(cfg Config, want string) {
		t.Helper()
		d, err := Open(ctx, cfg)
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	empty, foreign, newer := postgrestest.NewDatabase(t), postgrestest.NewDatabase(t), postgrestest.NewDatabase(t)
	refused(Config{Path: empty}, "verenc init makes the tables")
	postgrestest.Exec(t, foreign, "CREATE TABLE accounts ()")
	refused(Config{Path: foreign}, "not Verenc's (give Verenc a database of its own)")
	refused(Config{Path: foreign, Create: true}, "not Verenc's")
	d := open(t, newer, true)
	refused(Config{Path: newer, Create: true}, "it has the tables of Verenc already (for a further server, verenc audit init makes its")
	must(t, d.exec("UPDATE verenc_schema SET version = 99, minimum = 98, made_by = 'verenc v9.9.9'"))
	refused(Config{Path: newer}, "its schema 99 was made by verenc v9.9.9, and only versions of verenc that "+
		"know schema 98 can use it")
	if _, err := Open(ctx, Config{Path: newer}); err == nil || strings.Contains(err.Error(), "does the server run") {
		t.Errorf("two cures: %v", err)
	}
	u, err := url.Parse(empty)
	must(t, err)
	name := strings.TrimPrefix(u.Path, "/")
	refused(Config{Path: strings.Replace(empty, name, "none", 1)}, `create it: CREATE DATABASE "none" OWNER "postgres"`)
	refused(Config{Path: "postgres://postgres@/d?host=" + t.TempDir()}, "does the server run")

	postgrestest.Exec(t, empty, "CREATE ROLE app LOGIN")
	refused(Config{Path: strings.Replace(empty, "postgres@", "app@", 1), Create: true}, `ALTER DATABASE "`+name+`" OWNER TO "app"`)
	d = open(t, empty, true) // whoever was refused has left nothing behind
	must(t, d.InsertKey(ctx, newKey("k1")))
}

// TestPostgresTLS: the server is verified, and the password is asked for.
func TestPostgresTLS(t *testing.T) {
	server, authority := newAuthority(t)
	port := freePort(t)
	s := postgrestest.Start(t, "listen_addresses=127.0.0.1", "port="+port)
	s.Configure(t, map[string]string{"server.crt": certtest.CertificatePEM(server.Leaf),
		"server.key": certtest.KeyPEM(t, server.Certificate)},
		"hostssl all all 127.0.0.1/32 scram-sha-256", "ssl = on")
	s.Exec(t, "postgres", "CREATE ROLE verenc LOGIN PASSWORD 'hunter2'")
	s.Exec(t, "postgres", "CREATE DATABASE verenc OWNER verenc")
	at := "postgres://verenc@127.0.0.1:" + port + "/verenc?sslmode="
	for _, test := range []struct{ options, password, want string }{
		{"verify-full", "hunter2", "sslrootcert=FILE"},
		{"verify-full&sslrootcert=" + authority, "wrong", "is the password of verenc right"},
		{"verify-full&sslrootcert=" + authority, "", "no password was given: if the server asks verenc for one, put it into " +
			"a file (database_password_file), VERENC_DATABASE_PASSWORD or the systemd credential"},
		{"disable", "hunter2", "is the password of verenc right, and does pg_hba.conf let it in"},
	} {
		d, err := Open(ctx, Config{Path: at + test.options, Password: test.password, Create: true})
		if err == nil {
			_ = d.Close()
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.options, err, test.want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "wrong")) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	d, err := Open(ctx, Config{Path: at + "verify-full&sslrootcert=" + authority, Password: "hunter2", Create: true})
	must(t, err)
	must(t, d.InsertKey(ctx, newKey("k1")))
	must(t, d.Close())
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err)
	return port
}

// newAuthority returns an authority, whose own certificate is that of 127.0.0.1, and the file with it.
func newAuthority(t *testing.T) (a *certtest.Authority, path string) {
	t.Helper()
	a, path = certtest.New(t, "test", "127.0.0.1"), filepath.Join(t.TempDir(), "authority")
	must(t, os.WriteFile(path, []byte(certtest.CertificatePEM(a.Leaf)), 0o600))
	return a, path
}

// TestSchemasAgree: both dialects have the same tables and columns.
func TestSchemasAgree(t *testing.T) {
	columns := func(d *DB, query string) map[string]bool {
		rows, err := d.read.Query(query)
		all, err := collect(rows, err, func(row scanner) (name string, err error) { return name, row.Scan(&name) })
		must(t, err)
		set := map[string]bool{}
		for _, name := range all {
			set[name] = true
		}
		return set
	}
	sqlite := columns(create(t), "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name <> 'sqlite_sequence'")
	postgres := columns(createPostgres(t), "SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'")
	for name := range postgres {
		if strings.HasPrefix(name, "verenc_") {
			delete(postgres, name)
		}
	}
	if !reflect.DeepEqual(sqlite, postgres) || len(sqlite) < 50 {
		t.Errorf("SQLite has %v\nPostgreSQL has %v", sqlite, postgres)
	}
}

// TestPostgresPlans: no query walks through a table, when it may choose.
func TestPostgresPlans(t *testing.T) {
	d := createPostgres(t)
	must(t, inTransaction(ctx, d.write, d.isolation, func(tx *sql.Tx) error {
		if _, err := tx.Exec("SET LOCAL enable_seqscan = off"); err != nil {
			return err
		}
		for query, args := range planned {
			rows, err := tx.Query("EXPLAIN "+query, ones(args)...)
			plan, err := collect(rows, err, func(row scanner) (line string, err error) { return line, row.Scan(&line) })
			if err != nil {
				return fmt.Errorf("%s: %w", query, err)
			}
			if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan") || !strings.Contains(text, "Index") {
				t.Errorf("%s: %s", query, text)
			}
		}
		return nil
	}))
}

// TestPostgresLocked: a change that waits for another one ends with its caller's time, as a timeout,
// and can be retried.
func TestPostgresLocked(t *testing.T) {
	database := postgrestest.NewDatabase(t)
	ours, theirs := open(t, database, true), open(t, database, false)
	must(t, ours.InsertKey(ctx, newKey("k1")))
	same := func(k *service.Key) error { return nil }
	must(t, theirs.change(ctx, "hold", func(tx *sql.Tx) error {
		if _, err := tx.Exec("UPDATE keys SET state = state"); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		wantError(t, ours.UpdateKey(short, region, "k1", same), context.DeadlineExceeded)
		return nil
	}))
	must(t, ours.UpdateKey(ctx, region, "k1", same))
}

// TestPostgresDies: what was committed is there after a crash, and whoever asks meanwhile is told to try again.
func TestPostgresDies(t *testing.T) {
	s := postgrestest.Start(t, "fsync=on")
	d := open(t, s.NewDatabase(t), true)
	must(t, d.InsertKey(ctx, newKey("k1")))
	must(t, d.Ping(ctx))
	s.Signal(t, syscall.SIGKILL)
	wantError(t, d.InsertKey(ctx, newKey("k2")), context.DeadlineExceeded)
	_, err := d.Key(ctx, region, "k1")
	wantError(t, err, context.DeadlineExceeded)
	wantError(t, d.Ping(ctx), context.DeadlineExceeded)
	s.Restart(t)
	must(t, d.Ping(ctx))
	eventually(t, "the key is back", func() bool { _, err := d.Key(ctx, region, "k1"); return err == nil })
	must(t, d.InsertKey(ctx, newKey("k2")))
}

// TestPostgresStandby: of several servers, the one that can be written is found, also when another one
// becomes it.
func TestPostgresStandby(t *testing.T) {
	a, b := postgrestest.Start(t, "port=5433"), postgrestest.Start(t, "port=5434")
	for _, s := range []*postgrestest.Server{a, b} {
		s.Exec(t, "postgres", "CREATE DATABASE verenc TEMPLATE template0")
		d := open(t, s.URL("verenc"), true)
		must(t, d.InsertKey(ctx, newKey("k1")))
		must(t, d.Close())
	}
	b.Standby(t)
	d, err := Open(ctx, Config{Path: b.URL("verenc")})
	if err == nil {
		_ = d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "name all servers in the URL") {
		t.Errorf("got %v", err)
	}
	d = open(t, "postgres://postgres@/verenc?host="+b.Dir+","+a.Dir+"&port=5434,5433", false)
	must(t, d.InsertKey(ctx, newKey("k2")))
	a.Signal(t, syscall.SIGKILL)
	soon, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	wantError(t, d.InsertKey(soon, newKey("k3")), context.DeadlineExceeded)
	b.Exec(t, "postgres", "SELECT pg_promote()")
	eventually(t, "the other server is used", func() bool { return d.InsertKey(ctx, newKey("k3")) == nil })
	eventually(t, "what only the first one had is forgotten", func() bool {
		_, err := d.Key(ctx, region, "k2")
		return errors.Is(err, service.ErrNoRow)
	})
}

func FuzzEscape(f *testing.F) {
	for _, s := range []string{"", "a", "\x00", "\x1a", "\x1a1a", "\xff", "\x1a\xff00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		stored := escape(s)
		if strings.Contains(stored, "\x00") || strings.ToValidUTF8(stored, "") != stored {
			t.Errorf("%q is stored as %q", s, stored)
		}
		if got, err := unescape(stored); got != s || err != nil {
			t.Errorf("%q came back as %q, %v", s, got, err)
		}
	})
}
