package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnit: systemd finds nothing wrong with the unit, and its sandbox is as tight as we say.
func TestUnit(t *testing.T) {
	text, err := os.ReadFile("../../../scripts/deploy/verenc.service")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// systemd wants the program to be there.
	unit := filepath.Join(t.TempDir(), "verenc.service")
	installed := strings.Replace(string(text), "ExecStart=/usr/bin/verenc ", "ExecStart="+self+" ", 1)
	if installed == string(text) {
		t.Fatal("the unit starts something else")
	}
	if err := os.WriteFile(unit, []byte(installed), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit},
		// 1.5 of 10 in systemd 252, where less is better. What is left are the network, the user's name, and /proc.
		{"security", "--offline=true", "--threshold=16", unit},
	} {
		out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) != 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
}
