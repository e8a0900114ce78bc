// Package recipes runs the pages of this folder: each with the real tool, against a server of its own.
package recipes

import (
	"bytes"
	"context"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pageTime is how long the commands of a page may take: their tools are compiled by then, but not their programs.
const pageTime = 15 * time.Minute

// TestRecipes: every page does what it says. Its files, which are the blocks after a line such as "`main.go`:", and
// those of the folder of the page's name, if there is one, are put into an empty folder. There, the blocks of sh are
// run in one shell, in order. A block of text says what the block of sh before it prints; "…" stands for anything.
//
// Where a tool can't be had as a Go module, or takes too long to compile, the page uses what the tool uses to talk to
// the key service, and says so:
//   - kubernetes: the module proxy has no version of aws-encryption-provider. The page has its calls on Kubernetes' own
//     library for such plugins.
//   - sigstore: cosign takes several minutes to compile. The page has its library for AWS KMS.
//   - smallstep: step-ca is linked with a library for smart cards. The page has its library for AWS KMS.
//   - terraform: the proxy has no recent version of the AWS provider. The page has its calls.
//   - vault: Vault's module replaces others, which only a main module can do, and the proxy has no version of OpenBao
//     and its fork of the library. The page has the library of Vault's seal.
func TestRecipes(t *testing.T) {
	pages, err := filepath.Glob("*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("%d pages: %v", len(pages), err)
	}
	bin := t.TempDir()
	run(t, "../..", "go", "build", "-o", bin, "./cmd/verenc")
	run(t, ".", "go", "build", "-o", bin, "tool")
	node := &packages{dir: t.TempDir()}
	for _, page := range pages {
		t.Run(strings.TrimSuffix(page, ".md"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			writeFiles(t, dir, strings.TrimSuffix(page, ".md"), string(text))
			node.link(t, dir)
			follow(t, bin, dir, string(text))
		})
	}
}

func run(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

var (
	file  = regexp.MustCompile("(?ms)^`([\\w./-]+)`:\n\n```\\w*\n(.*?)^```$")
	block = regexp.MustCompile("(?ms)^```(sh|text)\n(.*?)^```$")
)

// writeFiles writes the files of a page. Go programs are in this module, so that go.sum pins what they import.
func writeFiles(t *testing.T, dir, page, text string) {
	t.Helper()
	if info, err := os.Stat(page); err == nil && info.IsDir() {
		if err := os.CopyFS(dir, os.DirFS(page)); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range file.FindAllStringSubmatch(text, -1) {
		name, content := m[1], []byte(m[2])
		if filepath.Ext(name) == ".go" {
			if formatted, err := format.Source(content); err != nil || !bytes.Equal(formatted, content) {
				t.Errorf("%s is not as gofmt has it (%v):\n%s", name, err, formatted)
			}
		}
		write(t, filepath.Join(dir, name), content)
	}
	if programs, err := filepath.Glob(filepath.Join(dir, "*.go")); err != nil || len(programs) == 0 {
		return
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), content)
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// follow runs the commands of a page, and compares what they print with what the page says.
func follow(t *testing.T, bin, dir, text string) {
	t.Helper()
	var script strings.Builder
	outputs := t.TempDir()
	output := func(i int) string { return filepath.Join(outputs, strconv.Itoa(i)) }
	said := map[int]string{} // by the number of the block of sh
	blocks := 0
	for _, m := range block.FindAllStringSubmatch(text, -1) {
		if m[1] == "sh" {
			blocks++
			script.WriteString("{\n" + m[2] + "} >" + output(blocks) + "\n")
		} else if _, twice := said[blocks]; blocks == 0 || twice {
			t.Fatalf("a block of text without a block of sh before it: %s", m[2])
		} else {
			said[blocks] = m[2]
		}
	}
	if blocks == 0 {
		t.Fatal("the page has no commands")
	}

	ctx, cancel := context.WithTimeout(t.Context(), pageTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "verenc"), "dev", "--listen", "127.0.0.1:0", "--exec", "--",
		"bash", "-euo", "pipefail", "-c", script.String())
	cmd.Dir, cmd.Env = dir, environ(bin)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // verenc ends the shell, too
	cmd.WaitDelay = time.Minute
	stderr, err := cmd.CombinedOutput()
	for i := 1; i <= blocks; i++ {
		printed, readErr := os.ReadFile(output(i))
		if readErr != nil {
			continue // the shell ended before
		}
		t.Logf("block %d prints:\n%s", i, printed)
		if want, ok := said[i]; err == nil && ok && !agrees(want, string(printed)) {
			t.Errorf("the page says that block %d prints:\n%s", i, want)
		}
	}
	if err != nil {
		t.Errorf("the page's commands: %v\n%s", err, stderr)
	}
}

// environ is the environment of the test without what it has for AWS and Verenc.
func environ(bin string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "VERENC_") {
			env = append(env, v)
		}
	}
	// Debian's programs come before those of a pyenv or a venv.
	return append(env, "PATH="+bin+":/usr/bin:"+os.Getenv("PATH"), "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null",
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
}

// agrees tells whether a text is what the page says.
func agrees(said, text string) bool {
	pattern := strings.ReplaceAll(regexp.QuoteMeta(said), "…", ".*?")
	return regexp.MustCompile(`(?s)\A` + pattern + `\z`).MatchString(text)
}

// TestIndex: the index names every page.
func TestIndex(t *testing.T) {
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if page != "README.md" && !strings.Contains(string(index), "]("+page+")") {
			t.Errorf("README.md does not name %s", page)
		}
	}
}
