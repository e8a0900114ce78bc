package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/verenc/kms/"

// TestImportsHaveOneDirection holds the layers to what each package may import, directly, in code that is not a
// test.
func TestImportsHaveOneDirection(t *testing.T) {
	forbidden := map[string][]string{
		"hsm":             {module + "service", module + "transport", module + "softhsm", "net/http", "database/sql", "go.uber.org/zap", "C"},
		"hsm/cryptoki":    {module, "net/http", "database/sql", "go.uber.org/zap"},
		"hsm/witness":     {module, "net/http", "database/sql", "go.uber.org/zap"},
		"service":         {module + "transport", module + "service/store", "net/http", "github.com/gorilla", "github.com/miekg", "github.com/ThalesIgnite", "database/sql", "github.com/mattn", "github.com/jackc"},
		"service/policy":  {module, "net/http", "os", "time/tzdata", "database/sql", "go.uber.org/zap"},
		"service/audit":   {module, "database/sql", "github.com/miekg"},
		"service/store":   {module + "transport", module + "hsm", module + "service/store/postgrestest", "net/http", "github.com/miekg"},
		"transport":       {module + "hsm", module + "service/store", "github.com/miekg", "github.com/ThalesIgnite", "database/sql", "crypto"},
		"transport/sigv4": {module, "os", "database/sql", "github.com/", "go.uber.org"},
		"softhsm":         {module + "transport", module + "service"},
		"cmd/verenc":      {module + "softhsm", module + "service/store/postgrestest", "github.com/miekg", "database/sql"},
	}
	// crypto11 finalises the module under its whole process and panics on errors of a token: it is the witness's, which runs in a
	// process of its own, and only the program starts that.
	importers := map[string]string{"github.com/ThalesIgnite/crypto11": "hsm/witness", module + "hsm/witness": "cmd/verenc"}
	out, err := exec.Command("go", "list", "-deps", "-f", `{{if .Module}}{{if .Module.Main}}{{.ImportPath}} {{join .Imports " "}}{{end}}{{end}}`, "../../...").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := 0
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
		for imported, only := range importers {
			if name != only && slices.Contains(strings.Fields(imports), imported) {
				t.Errorf("%s imports %s, which is for %s", name, imported, only)
			}
		}
		if _, ruled := forbidden[name]; ruled {
			seen++
		}
		for _, part := range strings.Split(name, "/") {
			switch part {
			case "internal", "pkg", "util", "common", "types", "models", "manager":
				t.Errorf("%s has a name that says nothing", name)
			}
		}
	}
	if seen < 5 {
		t.Errorf("only %d of the packages with rules were listed", seen)
	}
}
