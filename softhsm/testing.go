package softhsm

import (
	"fmt"
	"os"
)

var testDir string // of this process's tokens, while Run runs

// Run runs the tests of a package that uses New. Its TestMain calls it:
//
//	func TestMain(m *testing.M) { os.Exit(softhsm.Run(m)) }
//
// It keeps the tokens in a folder of their own and removes it at the end.
func Run(m interface{ Run() int }) int {
	dir, err := os.MkdirTemp("", "verenc-softhsm-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "softhsm:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	testDir = dir
	return m.Run()
}

// TB is the part of testing.TB that New needs. The program imports this package, and must not import package testing.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// New makes a token for a test. Without SoftHSM2 the test fails; it is never skipped.
func New(t TB) Token {
	t.Helper()
	if testDir == "" {
		t.Fatal("softhsm: the package's TestMain does not call softhsm.Run")
	}
	token, err := Open(testDir, "test-"+randomHex(6))
	if err != nil {
		t.Fatal(err)
	}
	return token
}
