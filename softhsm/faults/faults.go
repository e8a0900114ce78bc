// Package faults makes a PKCS#11 module that wraps SoftHSM2 and behaves like a network HSM on a bad
// day: it is slow, hangs, fails, loses answers, is unplugged, runs full, crashes, lies about
// lengths and limits, and has the restrictions of vendors' tokens. It also counts and records the
// calls that reach it, can answer them from memory, and can provide ML-DSA and ML-KEM, which
// SoftHSM2 2.6 lacks.
//
// It protects nothing and is for tests and benchmarks only. Its recordings contain secrets.
//
// A Module is a shared library at a path of its own, with a control file beside it that both the
// library and this package map into memory. So a test controls the module in the same way in its
// own process and in a server that it has started, and a fault that is not used costs almost
// nothing. One process can have several modules. Each counts what it has open, but they share
// SoftHSM2, which is initialised once and which they never finalise.
package faults

import (
	"embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// Module controls a fault-injecting PKCS#11 module. Its methods may be called concurrently, until
// Close.
type Module struct {
	Path string // absolute, for hsm.Config.Module

	control *control
	mapping []byte

	mu sync.Mutex // guards changes of the control's lies and mapped mechanisms
}

// New makes a module that wraps the token's own, in a temporary folder of the test. The token's
// other data stay valid.
func New(t testing.TB, soft softhsm.Token) *Module {
	t.Helper()
	m, err := Build(t.TempDir(), soft.Module)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.Clear() // releases calls that hang
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Build makes a module in dir that forwards to the module inner (see softhsm.FindModule). It
// compiles once per process, with gcc or $CC, against the headers of github.com/miekg/pkcs11, so it
// works only within the source tree.
func Build(dir, inner string) (*Module, error) {
	library, err := compiled()
	if err != nil {
		return nil, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("make module: %w", err)
	}
	path := filepath.Join(dir, "libfaults.so")
	if err := os.WriteFile(path+controlSuffix, newControl(inner), 0o600); err != nil {
		return nil, fmt.Errorf("make module: %w", err)
	}
	if err := os.WriteFile(path, library, 0o700); err != nil {
		return nil, fmt.Errorf("make module: %w", err)
	}
	return Open(path)
}

//go:embed module
var source embed.FS

var compiled = sync.OnceValues(compile)

func compile() (library []byte, err error) {
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return nil, fmt.Errorf("find the headers of github.com/miekg/pkcs11: %w (run within the source tree)", err)
	}
	dir, err := os.MkdirTemp("", "verenc-faults-")
	if err != nil {
		return nil, fmt.Errorf("compile module: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, source); err != nil {
		return nil, fmt.Errorf("compile module: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "module", "*.c"))
	if err != nil {
		return nil, fmt.Errorf("compile module: %w", err)
	}
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	out := filepath.Join(dir, "libfaults.so")
	args := append([]string{"-shared", "-fPIC", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-fvisibility=hidden",
		"-I" + strings.TrimSpace(string(headers)), "-o", out}, files...)
	if said, err := exec.Command(cc, append(args, "-lpthread", "-ldl")...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile module: %w (install gcc: scripts/setup.sh tells how)\n%s", err, said)
	}
	return os.ReadFile(out)
}
