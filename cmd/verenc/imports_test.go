package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/verenc/kms/"

// TestImportsHaveOneDirection checks what each package imports directly, outside its tests.
func TestImportsHaveOneDirection(t *testing.T) {
	outsideHSM := []string{
		module + "service", module + "transport", module + "softhsm", "net/http", "database/sql",
		"go.uber.org/zap", "C",
	}
	rooms := func(names ...string) (paths []string) {
		for _, name := range names {
			paths = append(paths, module+"hsm/"+name)
		}
		return paths
	}
	forbidden := map[string][]string{
		// hsm and its rooms know nothing of AWS, HTTP, logs or databases, and C is cryptoki's
		// alone. From the top down they are hsm, connection and selftest, session, profile,
		// keyobject, ckr and cryptoki.
		"hsm": outsideHSM,
		// The connection is kept up whatever is tried on it: hsm.Token.SelfTest brings it and the self-tests together.
		"hsm/connection": slices.Concat(outsideHSM, rooms("selftest")),
		// A self-test is given a session, and can do no more with it than an operation can.
		"hsm/selftest": slices.Concat(outsideHSM, rooms("connection")),
		// A session is given handles. Who found them and who keeps the connection up is decided above it.
		"hsm/session": slices.Concat(outsideHSM, rooms("connection", "selftest")),
		// Profiles and key objects are data and pure functions: they call no token.
		"hsm/profile":   slices.Concat(outsideHSM, rooms("connection", "selftest", "session")),
		"hsm/keyobject": slices.Concat(outsideHSM, rooms("connection", "selftest", "session", "profile")),
		// The kinds of errors are the same for all rooms, so they know none.
		"hsm/ckr": slices.Concat(outsideHSM, []string{module}),
		// The C code stands alone, so that it can be read and fuzzed alone.
		"hsm/cryptoki": {module, "net/http", "database/sql", "go.uber.org/zap"},
		// A URI is text from a setting: it can be read and fuzzed alone.
		"hsm/pkcs11uri": {module, "github.com", "go.uber.org", "os", "net", "database/sql"},
		// The witness is a second opinion: it shares no code with what it checks.
		"hsm/witness": {module, "net/http", "database/sql", "go.uber.org/zap"},

		// The service decides whoever asks and wherever the rows are: it can be tested without HTTP and SQL,
		// and it can reach the token only by hsm, which bounds every call.
		"service": {module + "transport", module + "service/store", "net/http", "github.com/gorilla",
			"github.com/miekg", "github.com/ThalesIgnite", "database/sql", "github.com/mattn", "github.com/jackc"},
		"service/iam": {"net/http", "database/sql", "go.uber.org/zap"},
		// An authority for tests has keys and names. What a certificate proves is not its matter.
		"service/certtest": {module},
		// What verifies the tokens of other issuers asks them over the network. It knows tokens, and no principals.
		"service/iam/oidc": {module + "service/iam/oidc/issuertest", "database/sql", "go.uber.org/zap", "testing"},
		// An issuer for tests has keys and claims. Who verifies them is not its matter.
		"service/iam/oidc/issuertest": {module},
		"service/record":              {"net/http", "database/sql"},
		// A decision is a pure function of policies and a request, so that it can be explained, fuzzed and repeated.
		"service/policy": {module, "net/http", "os", "time/tzdata", "database/sql", "go.uber.org/zap"},
		// Auditors check statements and certificates without the service, a token and a database.
		"service/statement":   {module + "service/store", module + "transport", module + "hsm", "net", "database/sql"},
		"service/destruction": {module + "service/store", module + "transport", "net", "database/sql", "os"},
		// Auditors build the verifier alone. It trusts nothing that the service keeps elsewhere.
		"service/audit": {module, "database/sql", "github.com/miekg"},
		// The witness compares logs, and what the database says of them. It asks for rows by an interface of its own.
		"service/audit/witness": {"net/http", "database/sql", "github.com/miekg"},
		// The store has rows, and no key material: it needs no token.
		"service/store": {module + "transport", module + "hsm", module + "service/store/postgrestest",
			module + "service/certtest", "net/http", "github.com/miekg"},
		// transport knows the protocol only. It must ask the service for everything, so that nothing goes
		// round authorisation; cryptography is sigv4's and the token's.
		"transport": {module + "hsm", module + "service/store", module + "service/certtest", "github.com/miekg",
			"github.com/ThalesIgnite", "database/sql", "crypto"},
		// What verifies signatures is small, pure and free of everybody else's code.
		"transport/sigv4": {module, "os", "database/sql", "github.com/", "go.uber.org"},
		// What finds out a client's address knows connections and headers, so that it can be read and fuzzed alone.
		"transport/proxies": {module, "github.com/gorilla", "go.uber.org", "database/sql", "os", "crypto"},
		// What decides on client certificates can be read alone; what a certificate may do is iam's matter.
		"transport/tlsfiles": {module, "net/http", "database/sql", "go.uber.org"},
		// Test clients know no server.
		"transport/sdktest": {module, "github.com/"},
		// What traces requests is told of them by package span: it can't ask for more.
		"transport/tracing": {module + "hsm", module + "service/store", "database/sql", "github.com/miekg"},
		// A test collector knows what the protocol says, and not who sends.
		"transport/tracing/collectortest": {module},
		// Test tokens serve the tests of every room, so they know none but hsm. verenc dev makes one as well, and a
		// program does not link package testing.
		"softhsm": {module + "transport", module + "service", "testing"},
		// A reset brings rows and objects back. What requests are, and which token it is, it need not know.
		"softhsm/reset": {module + "transport", module + "cmd", "testing"},
		// The program connects packages. What it wants of a token or of rows, it asks them for. Of softhsm it has what
		// verenc dev needs, and nothing that misbehaves or is for tests.
		"cmd/verenc": {module + "softhsm/faults", module + "softhsm/tokens", module + "softhsm/kmstest",
			module + "service/store/postgrestest", module + "service/iam/oidc/issuertest", module + "service/certtest",
			"github.com/miekg", "database/sql", "testing"},
		// Processes and variables: what they are for is the program's matter.
		"cmd/verenc/environment": {module, "net/http", "database/sql", "go.uber.org/zap"},
		// A test of another module gets a server, and none of the program's flags and settings.
		"softhsm/kmstest": {module + "cmd"},

		// What a declaration wants is planned as requests, which the service checks like those of clients. It reads
		// rows by an interface of its own, and changes none.
		"service/declaration": {module + "transport", module + "service/store", module + "hsm", "net/http",
			"github.com/miekg", "database/sql", "go.uber.org/zap"},

		// What a secret is for, and what is asked, is decided above it.
		"cmd/verenc/terminal": {module, "net", "database/sql", "go.uber.org/zap"},
		// What a program was built from depends on nothing in it.
		"cmd/verenc/version": {module},
		// It writes what others have made lines of.
		"cmd/verenc/lines": {module, "net/http", "database/sql"},
		// People approve as clients, so that the command that they use can do no more than any client.
		"cmd/verenc/approvals": {module, "database/sql", "go.uber.org/zap"},
		// What systemd is told is decided above it.
		"cmd/verenc/systemd": {module, "net/http", "go.uber.org/zap"},

		// The pages know the operations by their description, and have no more rights than any client.
		"transport/console": {module, "os/exec", "database/sql", "go.uber.org/zap"},

		// The format is pure: it needs no key, no token and no database to be read, specified and fuzzed.
		"service/blob": {module, "github.com", "go.uber.org", "os", "net", "database/sql"},
		// Connections are opened and closed. Which key stores there are, and what their tokens do, is the
		// service's matter.
		"service/keystore": {module + "service", module + "transport", "net/http", "github.com/miekg", "database/sql"},
		// What people look at is read through the service and evidence, which bound and authorise it. It can't
		// change rows, and HTTP is transport's.
		"service/inspect": {module + "service/store", module + "transport", module + "hsm", "net/http",
			"github.com/miekg", "database/sql"},
		// Plots are drawn of numbers and texts, whoever has them.
		"service/plot": {module, "os", "net", "database/sql"},
		// A history reads metrics. It asks for the token by a function, so that it can do nothing else with it.
		"service/history": {module, "os", "net", "database/sql"},
		// Evidence is above the service, and reads the database by interfaces of its own, so that it can't change it.
		"service/evidence": {module + "service/store", module + "transport", "net/http", "github.com/miekg",
			"database/sql"},
	}
	// The rooms of package service that may import only these packages of ours.
	ours := map[string][]string{
		// Who a caller is must not depend on keys, tokens or grants: it can be read, and tested, without
		// them. The token seals its secrets behind an interface.
		"service/iam": {"service/apierror", "service/arn", "service/audit", "service/iam/breakglass", "service/lastuse",
			"service/policy", "service/record"},
		// Of who a caller is, the verifier of tokens needs the type of its answer, and the rules of tags.
		"service/iam/oidc": {"service/apierror", "service/iam"},
		// The arithmetic of shares can be read alone. Who opens, and when, is iam's matter.
		"service/iam/breakglass": {"service/audit", "service/statement"},
		// Auditors check several logs with it, without the service.
		"service/audit/witness": {"service/audit"},
		// A record is made of what its maker says. If it could look things up itself, it could fail on them.
		"service/record": {"service/apierror", "service/audit", "service/span"},
		// What becomes of a request follows from what was given, so that it can be read and tested without policies.
		// Who approves is iam's matter, and which members of a request are secrets record's.
		"service/approval": {"service/iam", "service/record"},
		// Rooms that know nothing of each other use these.
		"service/statement":   {"service/audit"},
		"service/destruction": {"service/audit", "service/statement", "hsm"},
		"service/lastuse":     nil,
		"service/quota":       nil,
		"service/span":        nil,
		"service/apierror":    nil,
		"service/arn":         nil,
		// A tracer knows spans, and not the requests that they are of.
		"transport/tracing": {"service/span"},
	}
	// crypto11 finalises the module of its whole process and panics on errors of a token. Only the
	// witness uses it, in a process of its own, and only the program starts that. OpenTelemetry is far more code than
	// what the other rooms need of it, which is package span.
	importers := map[string]string{"github.com/ThalesIgnite/crypto11": "hsm/witness",
		module + "hsm/witness": "cmd/verenc", "go.opentelemetry.io/otel": "transport/tracing"}
	out, err := exec.Command("go", "list", "-deps", "-f",
		`{{if .Module}}{{if .Module.Main}}{{.ImportPath}} {{join .Imports " "}}{{end}}{{end}}`,
		"../../...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	listed := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(strings.TrimSpace(line), " ")
		name := strings.TrimPrefix(path, module)
		for _, bad := range forbidden[name] {
			for _, imported := range strings.Fields(imports) {
				if imported == bad || strings.HasPrefix(imported, strings.TrimSuffix(bad, "/")+"/") {
					t.Errorf("%s imports %s", name, imported)
				}
			}
		}
		if allowed, ruled := ours[name]; ruled {
			for _, imported := range strings.Fields(imports) {
				if own, isOurs := strings.CutPrefix(imported, module); isOurs && !slices.Contains(allowed, own) {
					t.Errorf("%s imports %s", name, imported)
				}
			}
		}
		for library, only := range importers {
			for _, imported := range strings.Fields(imports) {
				if name != only && (imported == library || strings.HasPrefix(imported, library+"/")) {
					t.Errorf("%s imports %s, which is for %s", name, imported, only)
				}
			}
		}
		listed[name] = true
		for _, part := range strings.Split(name, "/") {
			switch part {
			case "internal", "pkg", "util", "common", "types", "models", "manager":
				t.Errorf("%s has a name that says nothing", name)
			}
		}
	}
	for _, rules := range []map[string][]string{forbidden, ours} {
		for name := range rules {
			if !listed[name] {
				t.Errorf("there is a rule for %s, and no such package", name)
			}
		}
	}
}
