package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

const anyModule = "/usr/lib/some-pkcs11.so"

// load reads a configuration from a YAML text, an environment and a command line.
func load(t *testing.T, yaml string, env []string, args ...string) (*Config, error) {
	t.Helper()
	path := ""
	if yaml != "" {
		path = filepath.Join(t.TempDir(), "verenc.yaml")
		if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := pflag.NewFlagSet("verenc", pflag.ContinueOnError)
	addFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return loadConfig(path, flags, func() []string { return env })
}

func TestDefaults(t *testing.T) {
	c, err := load(t, "", []string{"VERENC_TOKEN_MODULE=" + anyModule})
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Listen: "127.0.0.1:8600", PrivateListen: "127.0.0.1:8601", Database: "verenc.db",
		DatabaseConnections: 16, DatabaseGrace: 30 * time.Second, DatabaseConnect: 2 * time.Second,
		Account: "111122223333", Regions: []string{"us-east-1"},
		ARNFormat: "verenc", TLSClientAuth: "optional", Reconcile: time.Minute, ShutdownTimeout: 15 * time.Second,
		Console: "on", LogLevel: "info", LogRequests: "all", Tracing: TracingConfig{Sample: 0.1},
		Approval: ApprovalConfig{ExpiresAfter: 24 * time.Hour}, OIDCSkew: time.Minute,
		Audit: AuditConfig{Dir: "audit", Origin: "verenc-kms", CheckpointEvery: 4096,
			CheckpointWithin: 10 * time.Second, SegmentBytes: 64 << 20, SyncWithin: 50 * time.Millisecond},
		Token: TokenConfig{Module: anyModule, Label: "verenc", Residency: "token", HeldKeys: 5_000, Sessions: 64,
			Connect: 10 * time.Second, CallTimeout: 5 * time.Second, GenerateTimeout: 30 * time.Second, MaxStuck: 16,
			RestartAfter: time.Minute}}
	for _, s := range settings(c) { // a new setting needs a default
		for _, w := range settings(&want) {
			if s.key == w.key && !reflect.DeepEqual(s.value.Interface(), w.value.Interface()) {
				t.Errorf("%s is %v, want %v", s.key, s.value, w.value)
			}
		}
		if s.doc == "" {
			t.Errorf("%s has no documentation", s.key)
		}
	}
}

// TestPrecedence: the file wins over defaults, the environment over the file, flags over all, for each type of setting.
func TestPrecedence(t *testing.T) {
	const yaml = `
database: file.db
account: 222233334444
regions: [eu-west-1, eu-west-2]
shutdown_timeout: 2s
token: {module: ` + anyModule + `, label: file, sessions: 2}
`
	env := []string{"VERENC_DATABASE=env.db", "VERENC_REGIONS=eu-west-3,eu-north-1", "VERENC_SHUTDOWN_TIMEOUT=3s",
		"VERENC_TOKEN_SESSIONS=3",
		"VERENC_TOKEN_LABEL=env", "VERENC_TOKEN_PIN=1234", "OTHER=x"}
	args := []string{"--database=flag.db", "--regions=us-west-1,us-west-2", "--shutdown-timeout=4s",
		"--token-sessions=4", "--token-label=flag"}
	type values struct {
		database, label string
		regions         string
		timeout         time.Duration
		sessions        int
	}
	for _, test := range []struct {
		name string
		env  []string
		args []string
		want values
	}{
		{"file", nil, nil, values{"file.db", "file", "eu-west-1 eu-west-2", 2 * time.Second, 2}},
		{"environment", env, nil, values{"env.db", "env", "eu-west-3 eu-north-1", 3 * time.Second, 3}},
		{"flags", env, args, values{"flag.db", "flag", "us-west-1 us-west-2", 4 * time.Second, 4}},
		{"flags without environment", nil, args, values{"flag.db", "flag", "us-west-1 us-west-2", 4 * time.Second, 4}},
		{"some of each", env[:1], args[2:3], values{"env.db", "file", "eu-west-1 eu-west-2", 4 * time.Second, 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := load(t, yaml, test.env, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			got := values{c.Database, c.Token.Label, strings.Join(c.Regions, " "), c.ShutdownTimeout, c.Token.Sessions}
			if got != test.want {
				t.Errorf("%+v, want %+v", got, test.want)
			}
			if c.Account != "222233334444" || c.Listen != defaults().Listen {
				t.Errorf("account %s, listen %s", c.Account, c.Listen)
			}
		})
	}
}

func TestConfigComplaints(t *testing.T) {
	good := "token: {module: " + anyModule + "}\n"
	for _, test := range []struct{ name, yaml, want string }{
		{"no module", "listen: x\n", "token.module: give the absolute path of the PKCS#11 module, not \"\""},
		{"relative module", "token: {module: softhsm.so}\n", "token.module: give the absolute path"},
		{"no token", "token: {module: " + anyModule + ", label: ''}\n",
			"token.label: give the token's label or token.serial"},
		{"certificate only", good + "tls_cert: x\n", "tls_cert and tls_key: give both or none"},
		{"key only", good + "tls_key: x\n", "tls_cert and tls_key: give both or none"},
		{"client authority without TLS", good + "tls_client_ca: x\n", "tls_client_ca: give tls_cert and tls_key too"},
		{"certificates required of no authority", good + "tls_client_auth: required\n",
			"tls_client_auth: required needs tls_client_ca"},
		{"client authentication", good + "tls_client_auth: none\n",
			`tls_client_auth: "none" is neither optional nor required`},
		{"tracing endpoint", good + "tracing: {endpoint: 127.0.0.1:4318}\n", "tracing.endpoint: the URL is not like"},
		{"tracing sample", good + "tracing: {sample: 1.5}\n", "tracing.sample: 1.5 is not from 0 to 1"},
		{"tracing sample that is none", good + "tracing: {sample: .nan}\n", "tracing.sample: NaN is not from 0 to 1"},
		{"log_requests", good + "log_requests: some\n", `log_requests: "some" is none of all, errors and sampled`},
		{"profiles without a private listener", good + "profiling: true\nprivate_listen: ''\n",
			"profiling: needs private_listen"},
		{"short account", good + "account: '1'\n", `account: "1" is not 12 digits`},
		{"letters in the account", good + "account: 11112222333x\n", `account: "11112222333x" is not 12 digits`},
		{"no regions", good + "regions: []\n", "regions: name at least one"},
		{"CORS origin with a path", good + "cors_origins: ['https://app.example.com/']\n",
			`cors_origins: "https://app.example.com/" is neither * nor an origin`},
		{"CORS origin without a scheme", good + "cors_origins: [app.example.com]\n",
			`cors_origins: "app.example.com" is neither`},
		{"ARN format", good + "arn_format: gcp\n", `arn_format: "gcp" is neither verenc nor aws`},
		{"no sessions", "token: {module: " + anyModule + ", sessions: 0}\n",
			"token.sessions, token.max_stuck and token.held_keys: give at least 1"},
		{"negative turns", "token: {module: " + anyModule + ", turns: -1}\n", "token.turns: give 0 or more"},
		{"residency", "token: {module: " + anyModule + ", residency: elsewhere}\n",
			"token.residency: \"elsewhere\" is neither token nor wrapped"},
		{"residency of a key store", "token: {module: " + anyModule +
			"}\nkey_stores: [{cluster_id: a, label: b, residency: elsewhere}]\n", "key_stores: a: residency"},
		{"max_stuck", "token: {module: " + anyModule + ", max_stuck: -1}\n",
			"token.sessions, token.max_stuck and token.held_keys: give at least 1"},
		{"call timeout", "token: {module: " + anyModule + ", call_timeout: 0s}\n",
			"token.call_timeout: 0s is not a positive time"},
		{"late records", good + "audit: {sync_within: 2s}\n", "audit.sync_within: 2s is not 0s to 1s"},
		{"reconcile interval", good + "reconcile_interval: -1s\n", "reconcile_interval: -1s is not a positive time"},
		{"shutdown timeout", good + "shutdown_timeout: 0s\n", "shutdown_timeout: 0s is not a positive time"},
		{"unknown setting", good + "lisen: x\n", "lisen"},
		{"unknown setting of the token", "token: {module: " + anyModule + ", pin: '1234'}\n", "pin"},
		{"not a time", good + "reconcile_interval: soon\n", "reconcile_interval"},
		{"a time without a unit", good + "reconcile_interval: 60\n", "60 is not a time with a unit, such as 60s or 10m"},
		{"true for a time", good + "reconcile_interval: true\n", "true is not a time"},
		{"a time without a unit, quoted", good + "reconcile_interval: '60'\n", "reconcile_interval"},
		{"half a second without a unit", good + "shutdown_timeout: 0.5\n", "0.5 is not a time"},
		{"not a number", "token: {module: " + anyModule + ", sessions: many}\n", "sessions"},
		{"not YAML", "\t:", "read configuration"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(t, test.yaml, nil)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %s", err, test.want)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		_, err := load(t, "account: x\narn_format: y\n", nil)
		for _, want := range []string{"token.module", "account", "arn_format"} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not complain of %s", err, want)
			}
		}
	})
	t.Run("no file", func(t *testing.T) {
		flags := pflag.NewFlagSet("verenc", pflag.ContinueOnError)
		_, err := loadConfig("/nowhere/verenc.yaml", flags, os.Environ)
		if err == nil || !strings.Contains(err.Error(), "/nowhere/verenc.yaml") {
			t.Error(err)
		}
	})
}

// TestConfigComesBack: what verenc config prints is a file with the same settings.
func TestConfigComesBack(t *testing.T) {
	odd := defaults()
	odd.Token.Module, odd.Token.Label, odd.Regions = anyModule, `a "label": \ # é`, []string{"*"}
	odd.Account, odd.Database, odd.PrivateListen = "000000000001", "/var/lib/käse.db", ""
	for name, c := range map[string]Config{"defaults": func() Config {
		d := defaults()
		d.Token.Module = anyModule
		return d
	}(), "odd values": odd} {
		t.Run(name, func(t *testing.T) {
			again, err := load(t, c.describe(), nil)
			if err != nil {
				t.Fatalf("%v\n%s", err, c.describe())
			}
			again.commandLevel = "" // which no setting says
			if !reflect.DeepEqual(*again, c) {
				t.Errorf("%+v\ncomes back as %+v", c, *again)
			}
			for _, s := range settings(&c) {
				if !strings.Contains(c.describe(), s.doc) {
					t.Errorf("%s is not described", s.key)
				}
			}
		})
	}
}

func TestConfigCommand(t *testing.T) {
	s := newSite(t).with("VERENC_REGIONS=eu-west-1,*")
	r := s.run(t, "config", "--log-level", "debug")
	if r.code != 0 {
		t.Fatal(r)
	}
	path := s.write(t, "verenc.yaml", r.stdout, 0o600)
	bare := &site{soft: s.soft, dir: s.dir}
	if again := bare.run(t, "config", "-c", path); again.code != 0 || again.stdout != r.stdout {
		t.Errorf("%s\ncomes back as %v", r.stdout, again)
	}
	if again := bare.with("VERENC_CONFIG="+path).run(t, "config"); again.stdout != r.stdout {
		t.Errorf("%s\ncomes back by VERENC_CONFIG as %v", r.stdout, again)
	}
	if strings.Contains(r.stdout, s.soft.PIN) {
		t.Error("the PIN is in the configuration")
	}
}

// TestConfigSaysWhatIsWrong: verenc config prints the settings, and what would keep a server from starting as far as no
// token, network or database is needed to tell. Its exit status is that of the server.
func TestConfigSaysWhatIsWrong(t *testing.T) {
	nothing := &site{dir: t.TempDir()}
	if r := nothing.run(t, "config"); r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "\ndatabase: ") {
		t.Errorf("where nothing is set, the settings are not listed: %v", r)
	}
	s := initialised(t)
	certificate, key, _ := selfSigned(t, s)
	open := s.write(t, "open", "hunter2", 0o644)
	tls := []string{"VERENC_TLS_CERT=" + certificate, "VERENC_TLS_KEY=" + key}
	const noFile = "no such file or directory"
	for _, test := range []struct {
		name, yaml string
		env        []string
		want       []string // on standard error; nothing is wrong without
	}{
		{name: "nothing", env: tls},
		{name: "a TLS key in the token", env: append(tls, "VERENC_TLS_KEY=pkcs11:object=verenc%2Ftls%2Fkms")},
		{name: "several settings", yaml: "account: x\nlisten: y\nlog_level: loud\nlisen: z\n",
			env: []string{"VERENC_LISTEN=:65536", "VERENC_PRIVATE_LISTEN=nowhere", "VERENC_ACOUNT=1"},
			want: []string{"VERENC_ACOUNT is not a setting", "lisen is not a setting", `account: "x"`,
				"listen: address 65536: invalid port (give host:port", "private_listen: address nowhere: missing port",
				`log_level: unrecognized level: "loud" (give debug,`}},
		{name: "several files", env: append(tls, "VERENC_TLS_CLIENT_CA=none.ca", "VERENC_TOKEN_PIN_FILE=none.pin"),
			want: []string{"load tls_client_ca: open none.ca: " + noFile, "(correct tls_cert,",
				"read PIN: stat none.pin: " + noFile, "(put the user PIN"}},
		{name: "module", env: []string{"VERENC_TOKEN_MODULE=/nowhere.so"},
			want: []string{"/nowhere.so: " + noFile, "set token.module"}},
		{name: "PIN for all", env: []string{"VERENC_TOKEN_PIN_FILE=" + open}, want: []string{"chmod 600"}},
		{name: "no PIN", env: []string{"VERENC_TOKEN_PIN_FILE="}, want: []string{"set token.pin_file, VERENC_TOKEN_PIN or"}},
		{name: "password of the database", env: []string{"VERENC_DATABASE=postgres://verenc@192.0.2.1/verenc",
			"VERENC_DATABASE_PASSWORD_FILE=" + open}, want: []string{"chmod 600", "(correct database_password_file)"}},
		{name: "another key", env: append(tls, "VERENC_TLS_KEY="+certificate), want: []string{"load tls_cert and tls_key"}},
		{name: "no certificate", env: append(tls, "VERENC_TLS_CERT="+key, "VERENC_TLS_KEY=pkcs11:object=x"),
			want: []string{"holds no certificate"}},
		{name: "PIN in the URI of a key", env: append(tls, "VERENC_TLS_KEY=pkcs11:object=x?pin-value=hunter2"),
			want: []string{"tls_key: read PKCS#11 URI: attribute pin-value"}},
		{name: "revocation list", env: append(tls, "VERENC_TLS_CLIENT_CA="+certificate, "VERENC_TLS_CLIENT_CRL="+open),
			want: []string{"load tls_client_crl", "malformed"}},
		{name: "issuer", yaml: "oidc_issuers: [{url: https://issuer.example}]\n",
			want: []string{"name the audiences", "(correct oidc_issuers)"}},
		{name: "tracing",
			env:  []string{"VERENC_TRACING_ENDPOINT=http://127.0.0.1:9", "VERENC_TRACING_HEADERS_FILE=" + open},
			want: []string{"its lines are not like NAME: VALUE", "(correct tracing.headers_file)"}},
		{name: "syslog", env: []string{"VERENC_AUDIT_SYSLOG=http://x"},
			want: []string{`audit.syslog: audit output syslog: network "http"`, "(correct the outputs"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := s.with(append(test.env, "VERENC_CONFIG="+s.write(t, "bad.yaml", test.yaml, 0o600))...)
			r := s.run(t, "config")
			if !strings.Contains(r.stdout, "\ndatabase: ") || !strings.Contains(r.stdout, "\n  serial: ") {
				t.Errorf("the settings are not printed: %v", r)
			}
			if test.want == nil {
				if r.code != 0 || r.stderr != "" {
					t.Error(r)
				}
				return
			}
			refused(t, r, test.want...)
			if strings.Contains(r.stdout+r.stderr, "hunter2") {
				t.Errorf("a secret is told: %v", r)
			}
			if server := s.run(t, "serve"); server.code != r.code {
				t.Errorf("the server's exit status is %d", server.code)
			}
		})
	}
}

func TestPIN(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	credentials := func(name, text string, mode os.FileMode) string {
		t.Helper()
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(file(filepath.Join(name, "verenc-pin"), text, mode))
	}
	for _, test := range []struct {
		name, file, env, credentials string
		pin, problem                 string
		origin                       string // where the PIN was found
	}{
		{name: "file", file: file("good", "12 34\r\n", 0o600), pin: "12 34",
			origin: "the file " + filepath.Join(dir, "good")},
		{name: "read-only file", file: file("read-only", "1234", 0o400), pin: "1234"},
		{name: "file that the group reads", file: file("group", "1234", 0o640), problem: "chmod 600"},
		{name: "file that all read", file: file("all", "1234", 0o604), problem: "chmod 600"},
		{name: "empty file", file: file("empty", "\n", 0o600), problem: "is empty"},
		{name: "no file", file: filepath.Join(dir, "none"), problem: "no such file"},
		{name: "environment", env: "5678", pin: "5678", origin: "VERENC_TOKEN_PIN"},
		{name: "the file wins over the environment", file: file("first", "1234", 0o600), env: "5678", pin: "1234",
			origin: "the file " + filepath.Join(dir, "first")},
		{name: "empty environment", env: " ", problem: "is empty"},
		{name: "systemd", credentials: credentials("systemd", "9012\n", 0o400), pin: "9012",
			origin: "the systemd credential verenc-pin"},
		// an ACL shows as the group's right
		{name: "systemd for another user", credentials: credentials("acl", "9012\n", 0o440), pin: "9012"},
		{name: "empty systemd credential", credentials: credentials("blank", "", 0o400), problem: "is empty"},
		{name: "the environment wins over systemd", env: "5678", credentials: credentials("second", "9012", 0o400),
			pin: "5678", origin: "VERENC_TOKEN_PIN"},
		{name: "nothing", problem: "set token.pin_file, VERENC_TOKEN_PIN or the systemd credential verenc-pin"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("CREDENTIALS_DIRECTORY", test.credentials)
			t.Setenv(pinVariable, strings.TrimSpace(test.env))
			if test.env == "" {
				if err := os.Unsetenv(pinVariable); err != nil {
					t.Fatal(err)
				}
			}
			c := defaults()
			c.Token.PINFile = test.file
			if origin := pinOrigin(&c); test.origin != "" && origin != test.origin {
				t.Errorf("origin %q, want %q", origin, test.origin)
			}
			pin, err := readPIN(&c)
			if test.problem != "" {
				if err == nil || !strings.Contains(err.Error(), test.problem) {
					t.Errorf("PIN %q, %v, want %s", pin, err, test.problem)
				}
				return
			}
			if err != nil || pin != test.pin {
				t.Errorf("PIN %q, %v, want %q", pin, err, test.pin)
			}
			if _, left := os.LookupEnv(pinVariable); left && test.file == "" {
				t.Error("the PIN is left in the environment, where child processes and crash reports have it")
			}
		})
	}
}

func TestMisspeltVariable(t *testing.T) {
	if _, err := load(t, "", []string{"VERENC_TOKEN_MODULE=" + anyModule, "VERENC_TOKEN_SESSION=3"}); err == nil ||
		!strings.Contains(err.Error(), "VERENC_TOKEN_SESSION is not a setting") {
		t.Errorf("%v", err)
	}
	if _, err := load(t, "", []string{"VERENC_TOKEN_MODULE=" + anyModule, "VERENC_CONFIG=x", "VERENC_TOKEN_PIN=1234",
		"VERENC_SOFTHSM_MODULE=/x"}); err != nil {
		t.Error(err)
	}
}
