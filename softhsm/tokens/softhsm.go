package tokens

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// SoftHSM is SoftHSM2 with its objects in files.
func SoftHSM(t testing.TB) *Token {
	t.Helper()
	module, err := softhsm.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	return newSoftHSM(t, softBuild{name: "softhsm", module: module, util: "softhsm2-util", store: "file"})
}

// SoftHSMWithSQLite is SoftHSM2 with its objects in SQLite, which Debian's own build does not have.
func SoftHSMWithSQLite(t testing.TB) *Token {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	build := filepath.Join(cache, "verenc", "softhsm-db") // where scripts/setup.sh puts it
	module := filepath.Join(build, "lib", "softhsm", "libsofthsm2.so")
	if _, err := os.Stat(module); err != nil {
		t.Fatalf("%v: run scripts/setup.sh tokens", err)
	}
	return newSoftHSM(t, softBuild{
		name: "softhsm-sqlite", module: module, util: filepath.Join(build, "bin", "softhsm2-util"), store: "db",
	})
}

// softBuild is a build of SoftHSM2.
type softBuild struct {
	name, module, util string
	store              string // objectstore.backend
}

func newSoftHSM(t testing.TB, b softBuild) *Token {
	t.Helper()
	dir := folder(t)
	conf := filepath.Join(dir, "softhsm2.conf")
	write(t, filepath.Join(dir, "tokens", ".keep"), "")
	write(t, conf, fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = %s\nlog.level = ERROR\n",
		filepath.Join(dir, "tokens"), b.store))
	token := &Token{Name: b.name, Module: b.module, Label: "softhsm", PIN: randomHex(8),
		Env: []string{"SOFTHSM2_CONF=" + conf}}
	command(t, token.Env, b.util, "--module", b.module, "--init-token", "--free", "--label", token.Label,
		"--pin", token.PIN, "--so-pin", randomHex(8))
	return token
}
