package tokens

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// SoftHSM is SoftHSM2 with its objects in files. Debian builds it without the other backend,
// SQLite.
func SoftHSM(t testing.TB) *Token {
	t.Helper()
	module, err := softhsm.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	conf := filepath.Join(dir, "softhsm2.conf")
	write(t, filepath.Join(dir, "tokens", ".keep"), "")
	write(t, conf, fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n",
		filepath.Join(dir, "tokens")))
	token := &Token{Name: "softhsm", Module: module, Label: "softhsm", PIN: randomHex(8),
		Env: []string{"SOFTHSM2_CONF=" + conf}}
	command(t, token.Env, "softhsm2-util", "--init-token", "--free", "--label", token.Label,
		"--pin", token.PIN, "--so-pin", randomHex(8))
	return token
}
