package tokens

import (
	"os"
	"path/filepath"
	"testing"
)

// TPM is tpm2-pkcs11 on swtpm, a TPM 2.0 in software.
func TPM(t testing.TB) *Token {
	t.Helper()
	dir := folder(t)
	state, store, socket := filepath.Join(dir, "state"), filepath.Join(dir, "store"), filepath.Join(dir, "tpm")
	for _, path := range []string{state, store} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	start(t, exists(socket), nil, "swtpm", "socket", "--tpm2", "--tpmstate", "dir="+state, "--server",
		"type=unixio,path="+socket,
		"--ctrl", "type=unixio,path="+socket+".ctrl", "--flags", "not-need-init,startup-clear")
	tcti := "swtpm:path=" + socket
	token := &Token{Name: "tpm2-pkcs11", Module: library(t, "pkcs11/libtpm2_pkcs11.so"), Label: "tpm",
		PIN: randomHex(8),
		Env: []string{"TPM2_PKCS11_STORE=" + store, "TPM2_PKCS11_TCTI=" + tcti, "TPM2_PKCS11_LOG_LEVEL=0",
			"TSS2_LOG=all+none"}}
	tools := append([]string{"TPM2TOOLS_TCTI=" + tcti,
		"PATH=" + flushing(t, filepath.Join(dir, "bin")) + ":" + os.Getenv("PATH")}, token.Env...)
	command(t, tools, "tpm2_ptool", "init", "--path", store)
	command(t, tools, "tpm2_ptool", "addtoken", "--pid", "1", "--label", token.Label, "--userpin", token.PIN,
		"--sopin", randomHex(8), "--path", store)
	return token
}

// flushing returns a folder with the tools that tpm2_ptool runs. Each first frees the few slots for
// objects in the TPM, as a resource manager does on a machine with a TPM.
func flushing(t testing.TB, dir string) string {
	t.Helper()
	tools, _ := filepath.Glob("/usr/bin/tpm2_*") // the pattern is well-formed
	for _, tool := range tools {
		name := filepath.Base(tool)
		if name == "tpm2_ptool" || name == "tpm2_flushcontext" {
			continue
		}
		path := filepath.Join(dir, name)
		write(t, path, "#!/bin/sh\n/usr/bin/tpm2_flushcontext --transient-object >/dev/null 2>&1\nexec "+
			tool+" \"$@\"\n")
		if err := os.Chmod(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
