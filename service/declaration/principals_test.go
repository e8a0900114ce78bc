package declaration

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service/iam"
)

const (
	allowList  = `{Version: 2012-10-17, Statement: {Effect: Allow, Action: "kms:ListKeys", Resource: "*"}}`
	trustUsers = `{Version: 2012-10-17, Statement: {Effect: Allow, ` +
		`Principal: {AWS: "arn:aws:iam::111122223333:root"}, Action: "sts:AssumeRole"}}`
)

func TestReadDeclaration(t *testing.T) {
	dir := t.TempDir()
	const listJSON = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`
	for name, text := range map[string]string{"list.json": listJSON, "list.yaml": "# as YAML\n" + allowList} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := `
accounts:
  111122223333:
    users:
      app:
        path: /team/
        tags: {team: blue, since: 2026, empty: ""}
        policies:
          a: ` + allowList + `
          b: {file: list.json}
          c: {file: ` + dir + `/list.yaml}
          d: |
            {"Version": "2012-10-17",
             "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {
               "NumericLessThan": {"kms:RotationPeriodInDays": 90}, "Bool": {"aws:SecureTransport": false}}}}
        boundary: {file: list.json}
        certificates: [{fingerprint: "AB:` + strings.Repeat("ab", 31) + `"}]
      bare:
    roles:
      auditor: {trust: ` + trustUsers + `, max_session: 7200}
  "000000000000": {}
`
	d, err := Read(filepath.Join(dir, "principals.yaml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	list := `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`
	app := d.Principals[0]
	if !slices.Equal(d.Accounts, []string{"111122223333", "000000000000"}) || len(d.Principals) != 3 {
		t.Errorf("%+v", d)
	}
	if app.ARN != "arn:aws:iam::111122223333:user/team/app" || app.Path() != "/team/" || app.Name != "app" ||
		app.Kind != iam.KindUser ||
		app.Place != filepath.Join(dir, "principals.yaml")+":5:7" {
		t.Errorf("%+v", app)
	}
	if want := map[string]string{"team": "blue", "since": "2026", "empty": ""}; !maps.Equal(app.Tags, want) {
		t.Errorf("tags %v", app.Tags)
	}
	if app.Policies["a"] != list || app.Policies["b"] != list || app.Policies["c"] != list || app.Boundary != list ||
		!strings.Contains(app.Policies["d"], "90}") {
		t.Errorf("policies %q, boundary %q", app.Policies, app.Boundary)
	}
	if !slices.Equal(app.Certificates, []string{strings.Repeat("ab", 32)}) {
		t.Errorf("certificates %v", app.Certificates)
	}
	if bare := d.Principals[1]; bare.ARN != "arn:aws:iam::111122223333:user/bare" || bare.Policies != nil {
		t.Errorf("%+v", bare)
	}
	if role := d.Principals[2]; role.ARN != "arn:aws:iam::111122223333:role/auditor" || role.MaxSession != 7200 ||
		!strings.Contains(role.Trust, "sts:AssumeRole") {
		t.Errorf("%+v", role)
	}
}

func TestReadDeclarationRefuses(t *testing.T) {
	user := func(fields string) string { return "accounts:\n  '111122223333':\n    users:\n      app:\n" + fields }
	role := func(fields string) string { return "accounts:\n  '111122223333':\n    roles:\n      app:\n" + fields }
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "f.yaml: it is empty"},
		{"only a comment", "# nothing\n", "f.yaml: it is empty"},
		{"syntax", "accounts: [", "f.yaml: yaml: line 1"},
		{"two documents", "accounts: {}\n---\naccounts: {}", "f.yaml: it has more than one document"},
		{"no mapping", "- accounts", "f.yaml:1:1: the file must be a mapping"},
		{"no accounts", "accounts: {}", "f.yaml:1:1: there are no accounts"},
		{"unknown field", "acounts: {}", `f.yaml:1:1: the file has no field "acounts": it may have accounts`},
		{"account", "accounts:\n  1234: {}", `f.yaml:2:3: account "1234" is not 12 digits`},
		{"account's field", "accounts:\n  '111122223333': {groups: {}}",
			`f.yaml:2:20: account 111122223333 has no field "groups": it may have guard, keys, roles, users`},
		{"user's field", user("        polices: {}"),
			`f.yaml:5:9: user app has no field "polices": it may have access_key_days, boundary, certificates, path, policies, tags`},
		{"role's field", role("        certificates: []"),
			`f.yaml:5:9: role app has no field "certificates": it may have boundary, max_session, path, policies, tags, trust`},
		{"secret", user("        access_keys: []"), `user app has no field "access_keys"`},
		{"twice", user("        path: /a/\n        path: /b/"), `f.yaml:6:9: user app has "path" twice`},
		{"user twice", user("      app:"), `f.yaml:5:7: users has "app" twice`},
		{"name", "accounts:\n  '111122223333':\n    users:\n      a*p: {}", `f.yaml:4:7: user a*p: name: "a*p" is not`},
		{"name that is none", "accounts:\n  '111122223333':\n    users:\n      ? [a]\n      : {}",
			"f.yaml:4:9: users has a name that is not a scalar"},
		{"path", user("        path: x"), `f.yaml:5:15: user app: path: "x" must begin and end with /`},
		{"path with a wildcard", user("        path: /*/"), `f.yaml:5:15: user app: path`},
		{"path that is a list", user("        path: []"), "f.yaml:5:15: path must be a string"},
		{"tag", user("        tags: {'aws:x': y}"),
			`f.yaml:5:16: user app: tags.aws:x: keys that begin with aws: are reserved`},
		{"tags in two cases", user("        tags: {A: 1, a: 2}"),
			`f.yaml:5:22: user app: tags.a: the key differs only in case from A`},
		{"tag's value", user("        tags: {a: 'b<c'}"), "tags.a: the value is not up to 256"},
		{"policy's name", user("        policies: {'a b': " + allowList + "}"),
			"f.yaml:5:20: user app: policies.a b: the name is not"},
		{"policy", user("        policies: {a: {Version: 2012-10-17, Statement: {Effect: Allow}}}"),
			"f.yaml:5:20: user app: policies.a: Statement 1"},
		{"policy of another kind", user("        policies: {a: " + trustUsers + "}"),
			"f.yaml:5:20: user app: policies.a: Statement 1"},
		{"no policy", user("        policies: {a: }"), "f.yaml:5:23: policies.a must be a string"},
		{"policy that is no JSON", user("        policies: {a: Allow}"),
			"f.yaml:5:20: user app: policies.a: Syntax errors in policy."},
		{"no file", user("        policies: {a: {file: none.json}}"),
			"f.yaml:5:23: policies.a: open " + filepath.Join("dir", "none.json")},
		{"alias", user("        tags: &x {a: b}\n        policies: {a: {Statement: *x}}"),
			"policies.a: line 6: anchors and aliases are not supported"},
		{"alias for a mapping", user("        tags: &x {a: b}\n        policies: *x"),
			"f.yaml:6:19: policies must be a mapping (anchors and aliases are not supported)"},
		{"odd number", user("        policies: {a: {Statement: 0x10}}"), `policies.a: line 5: "0x10" needs quotes`},
		{"boundary", user("        boundary: {Statement: []}"),
			"f.yaml:5:19: user app: boundary: Statement must not be empty"},
		{"empty boundary", user("        boundary: ''"), "f.yaml:5:19: boundary must be a policy, not an empty string"},
		{"no trust", role("        path: /"), "f.yaml:4:7: role app: trust: a role needs a trust policy"},
		{"trust", role("        trust: " + allowList),
			"f.yaml:5:16: role app: trust: Policy contains a statement with no principal."},
		{"short session", role("        trust: " + trustUsers + "\n        max_session: 60"),
			"f.yaml:6:22: role app: max_session: 60 is not 3600 to 43200 seconds"},
		{"session in words", role("        trust: " + trustUsers + "\n        max_session: 1h"),
			"f.yaml:6:22: max_session must be a number of seconds"},
		{"trust of a user", user("        trust: {}"), `user app has no field "trust"`},
		{"certificates", user("        certificates: {file: a.pem}"), "f.yaml:5:23: certificates must be a list"},
		{"certificate", user("        certificates: [a.pem]"),
			"f.yaml:5:24: a certificate must have a file, a fingerprint, a spiffe_id, a dns name or a subject"},
		{"certificate's fingerprint", user("        certificates: [{fingerprint: abc}]"),
			`f.yaml:5:24: "abc" is not the SHA-256 of a certificate`},
		{"certificate's file", user("        certificates: [{file: none.pem}]"),
			"f.yaml:5:24: open " + filepath.Join("dir", "none.pem")},
	} {
		t.Run(test.name, func(t *testing.T) {
			d, err := Read("dir/f.yaml", []byte(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q; %+v", err, test.want, d)
			}
			if err != nil && strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("more than one problem: %v", err)
			}
		})
	}
	_, err := Read("f.yaml",
		[]byte(user("        path: x\n        tags: []\n")+"      other: {trust: 1}\n    roles: 5\n  '1': {}\n"))
	want := []string{"f.yaml:6:15: tags must be", `f.yaml:7:15: user other has no field "trust"`,
		"f.yaml:8:12: roles must be", "f.yaml:9:3: account"}
	for i, line := range strings.Split(err.Error(), "\n") {
		if i >= len(want) || !strings.HasPrefix(line, want[i]) {
			t.Errorf("problem %d is %s", i, line)
		}
	}
}

// FuzzDeclaration: what is read can be written, and reads as the same again.
func FuzzDeclaration(f *testing.F) {
	text, err := os.ReadFile("../../cmd/verenc/testdata/principals.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bytes.ReplaceAll(text, []byte("{file: list.json}"), []byte(allowList)))
	seed, err := os.ReadFile("../../cmd/verenc/testdata/seed.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`accounts: {111122223333: {users: {a: {tags: {x: "\u00e9 \t"}, policies: {p: '{"Statement":{` +
		`"Sid":"a\n\ud83d\ude00","Effect":"Allow","Action":"*","Resource":"*",` +
		`"Condition":{"Bool":{"aws:SecureTransport":true},"NumericEquals":{"kms:ValidTo":1.50}}}}'}}}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if bytes.Contains(text, []byte("file")) { // no fuzzing by file names
			return
		}
		first, err := Read("f.yaml", text)
		if err != nil {
			return
		}
		written := write(t, first)
		second, err := Read("f.yaml", []byte(written))
		if err != nil {
			if len(first.Principals) == 0 {
				return // an account without principals leaves nothing to write
			}
			t.Fatalf("%v:\n%s", err, written)
		}
		if again := write(t, second); again != written {
			t.Errorf("it changes:\n%s\n%s", written, again)
		}
		if a, b := meaning(t, first), meaning(t, second); !reflect.DeepEqual(a, b) {
			t.Errorf("%+v\n%+v", a, b)
		}
	})
}

func write(t *testing.T, d *Declaration) string {
	t.Helper()
	var principals []*iam.Principal
	var certificates []*iam.Certificate
	for _, p := range d.Principals {
		principals = append(principals, &p.Principal)
		for _, fingerprint := range p.Certificates {
			certificates = append(certificates, &iam.Certificate{Name: fingerprint, PrincipalARN: p.ARN})
		}
	}
	slices.SortStableFunc(principals, func(a, b *iam.Principal) int { return strings.Compare(a.ARN, b.ARN) })
	all := accounts{}
	if err := all.addPrincipals(principals, certificates); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeYAML(&b, all.root()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// meaning is a declaration without its writing.
func meaning(t *testing.T, d *Declaration) map[string]any {
	t.Helper()
	value := func(text string) (v any) {
		if text == "" {
			return nil
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		if err := decoder.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	all := map[string]any{}
	for _, p := range d.Principals {
		all[p.ARN+" certificates"] = strings.Join(p.Certificates, " ")
		all[p.ARN+" session"] = p.MaxSession
		all[p.ARN+" boundary"], all[p.ARN+" trust"] = value(p.Boundary), value(p.Trust)
		for name, text := range p.Policies {
			all[p.ARN+" policy "+name] = value(text)
		}
		for key, v := range p.Tags {
			all[p.ARN+" tag "+key] = v
		}
	}
	return all
}
