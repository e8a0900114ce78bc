package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// ciFiles are the files that docs/ci.md shows. go test runs orders_test.go where it is.
var ciFiles = []string{"keys.yaml", "conftest.py", "test_orders.py", "test.yaml", "orders_test.go"}

// TestCI: the page about tests and CI shows the files of its folder, and its commands do what it says, as does the
// job.
func TestCI(t *testing.T) {
	page := read(t, filepath.Join(root, "docs", "ci.md"))
	s := devSite(t)
	for _, name := range ciFiles {
		text := read(t, filepath.Join(root, "docs", "ci", name))
		if !strings.Contains(page, "\n"+text+"```\n") {
			t.Errorf("docs/ci.md does not show %s", name)
		}
		s.write(t, name, text, 0o600)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, s.path("verenc")); err != nil {
		t.Fatal(err)
	}
	runs := func(text string) {
		t.Helper()
		cmd := exec.Command("bash", "-euo", "pipefail", "-c", text)
		cmd.Dir = s.dir
		cmd.Env = append(s.environ(), asVerenc+"=1", "PATH="+s.dir+":/usr/bin:"+os.Getenv("PATH"), "AWS_PAGER=",
			"AWS_CONFIG_FILE=/dev/null")
		if got := runCommand(t, cmd); got.code != 0 {
			t.Errorf("%s: %v", text, got)
		} else if strings.Contains(text, "pytest") && !strings.Contains(got.stdout, "4 passed") {
			t.Errorf("%s: %v", text, got)
		}
	}
	commands := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllStringSubmatch(page, -1)
	if len(commands) != 3 {
		t.Errorf("the page has %d blocks of commands", len(commands))
	}
	for _, m := range commands {
		runs(m[1] + untilGone)
	}

	var job struct {
		Jobs map[string]struct{ Steps []struct{ Run string } }
	}
	if err := yaml.Unmarshal([]byte(read(t, s.path("test.yaml"))), &job); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, step := range job.Jobs["test"].Steps {
		if strings.HasPrefix(step.Run, "verenc ") { // the others install what is here
			runs(step.Run)
			ran++
		}
	}
	if ran != 1 {
		t.Errorf("%d steps of the job were run", ran)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(--[a-z-]+)").FindAllStringSubmatch(page, -1) {
		cmd, _, err := newRoot().Find([]string{"dev"})
		if err != nil || cmd.Flag(strings.TrimPrefix(m[1], "--")) == nil {
			t.Errorf("verenc dev has no flag %s: %v", m[1], err)
		}
	}
}
