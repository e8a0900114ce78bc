// Package tokens makes tokens of several vendors for tests: SoftHSM2 directly and through p11-kit,
// the soft token of opencryptoki, and tpm2-pkcs11 on a TPM in software.
//
// Each token is in a temporary folder, together with the daemons that it needs, and ends with the
// test. The system's own configuration of these modules is neither read nor changed. A module reads
// its environment when it is loaded, so a token is used by a child process, which Command starts: a
// built binary, or the test binary itself.
package tokens

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Token is an initialised token that can be logged in to.
type Token struct {
	Name   string // the kind, for tables: "p11-kit-proxy"
	Module string // absolute path of the PKCS#11 module
	Label  string
	Serial string // empty if only the module knows it
	PIN    string
	Env    []string // for the process that loads the module, as in exec.Cmd.Env

	enter []string // precedes a command line, for tokens in namespaces of their own
}

// Kind is a way to make a token.
type Kind struct {
	Name string
	New  func(testing.TB) *Token
}

// Kinds are all kinds, in the order of tables.
func Kinds() []Kind {
	return []Kind{
		{"softhsm", SoftHSM},
		{"softhsm-sqlite", SoftHSMWithSQLite},
		{"p11-kit-proxy", Proxy},
		{"p11-kit-client", func(t testing.TB) *Token { return Remote(t).Token }},
		{"opencryptoki", Opencryptoki},
		{"tpm2-pkcs11", TPM},
	}
}

// Command is exec.CommandContext for a process that uses the token. Its environment is that of this
// process and the token's.
func (t *Token) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	line := append(append(append([]string{}, t.enter...), name), args...)
	cmd := exec.CommandContext(ctx, line[0], line[1:]...)
	cmd.Env = append(os.Environ(), t.Env...)
	return cmd
}

// library finds a module of Debian by its path within the library folder of the architecture.
func library(t testing.TB, name string) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/" + name) // the pattern is well-formed
	if len(found) == 0 {
		t.Fatalf("there is no /usr/lib/*/%s: run scripts/setup.sh tokens", name)
	}
	return found[0]
}

// folder makes a folder with a short path, since the path of a Unix socket has at most 107 bytes.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "verenc-token-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// write writes a file of mode 0600 and creates the folders above it.
func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// randomHex returns n random bytes as hex digits.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// command runs a tool of a token to its end.
func command(t testing.TB, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

// daemon is a process that a token needs while it is in use.
type daemon struct {
	cmd *exec.Cmd
	out bytes.Buffer // its output, to be read after its end
	end chan struct{}
	err error // from Wait, once end is closed
}

// start starts a daemon and calls ready until it returns nil. The daemon ends with the test.
func start(t testing.TB, ready func() error, env []string, name string, args ...string) *daemon {
	t.Helper()
	d := newDaemon(env, name, args...)
	d.start(t)
	d.await(t, ready)
	return d
}

func newDaemon(env []string, name string, args ...string) *daemon {
	d := &daemon{cmd: exec.Command(name, args...), end: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.Stdout, d.cmd.Stderr = &d.out, &d.out
	d.cmd.WaitDelay = time.Second
	// A killed test binary takes its daemons with it.
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return d
}

func (d *daemon) start(t testing.TB) {
	t.Helper()
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v: run scripts/setup.sh tokens", d.cmd.Path, err)
	}
	go func() {
		d.err = d.cmd.Wait()
		close(d.end)
	}()
	t.Cleanup(d.kill)
}

// await calls ready until it returns nil.
func (d *daemon) await(t testing.TB, ready func() error) {
	t.Helper()
	deadline := time.After(time.Minute) // for a busy machine
	for {
		err := ready()
		if err == nil {
			return
		}
		select {
		case <-d.end:
			t.Fatalf("%s ended (%v) before it was ready: %v\n%s", d.cmd.Path, d.err, err, d.out.Bytes())
		case <-deadline:
			t.Fatalf("%s is not ready: %v", d.cmd.Path, err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill kills the daemon and its children with SIGKILL, and waits for the end.
func (d *daemon) kill() {
	_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-d.end
}

// exists returns a ready function for a daemon that creates a file.
func exists(path string) func() error {
	return func() error {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("wait for %s: %w", path, errors.Unwrap(err))
		}
		return nil
	}
}
