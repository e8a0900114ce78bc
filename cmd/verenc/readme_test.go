package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const root = "../.."

// blocks returns the fenced blocks of one language in the README.
func blocks(t *testing.T, language string) (texts []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(
		read(t, filepath.Join(root, "README.md")), -1) {
		texts = append(texts, m[1])
	}
	return texts
}

// blockWith returns the one block that has these words.
func blockWith(t *testing.T, language, words string) string {
	t.Helper()
	var found []string
	for _, b := range blocks(t, language) {
		if strings.Contains(b, words) {
			found = append(found, b)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d blocks of %s have %q", len(found), language, words)
	}
	return found[0]
}

// targets returns the Makefile's targets.
func targets(t *testing.T) (names []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(
		read(t, filepath.Join(root, "Makefile")), -1) {
		names = append(names, m[1])
	}
	return names
}

func TestMakeListsTargets(t *testing.T) {
	cmd := exec.Command("make", "--no-print-directory", "-C", root)
	cmd.Env = append(os.Environ(), "MAKEFLAGS=", "MAKELEVEL=")
	got := runCommand(t, cmd)
	if got.code != 0 {
		t.Fatal(got)
	}
	all := targets(t)
	for _, name := range all {
		if !regexp.MustCompile(`(?m)^make ` + name + ` +\S`).MatchString(got.stdout) {
			t.Errorf("%s is not listed:\n%s", name, got.stdout)
		}
	}
	if n := strings.Count(got.stdout, "\n"); n != len(all) {
		t.Errorf("%d lines for %d targets:\n%s", n, len(all), got.stdout)
	}
	for _, name := range []string{"run", "test", "demo", "lint", "fuzz", "bench"} {
		if !slices.Contains(all, name) {
			t.Errorf("there is no target %s", name)
		}
	}
}

// TestReadmeNames: every command, flag, setting, target and file that the README names is there.
func TestReadmeNames(t *testing.T) {
	text := read(t, filepath.Join(root, "README.md"))
	each := func(pattern string, check func(string) bool) {
		t.Helper()
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("the README has nothing like %s any more", pattern)
		}
		for _, m := range found {
			if !check(m[1]) {
				t.Errorf("the README names %q, which is not there", m[0])
			}
		}
	}
	each("(?m)(?:^|`)make ([a-z]+)", func(name string) bool { return slices.Contains(targets(t), name) })
	each("(?m)^verenc ([^#\n]*)", func(line string) bool {
		cmd, args, err := newRoot().Find(strings.Fields(line))
		return err == nil && cmd.Name() != "verenc" && cmd.ParseFlags(args) == nil
	})
	c := defaults()
	each("`([a-z]+\\.[a-z_]+)`", func(key string) bool {
		return slices.ContainsFunc(settings(&c), func(s setting) bool { return s.key == key }) ||
			strings.HasSuffix(key, ".yaml")
	})
	each("`(VERENC_[A-Z_]+)`", func(name string) bool {
		return name == pinVariable || slices.ContainsFunc(settings(&c), func(s setting) bool { return s.env() == name })
	})
	each("systemd credential `([a-z-]+)`", func(name string) bool { return name == pinCredential })
}

// TestArchitectureNames: the table of rooms has each package, and nothing else.
func TestArchitectureNames(t *testing.T) {
	text := read(t, filepath.Join(root, "docs", "architecture.md"))
	_, table, _ := strings.Cut(text, "| room | what it holds |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	named := map[string]bool{}
	for line := range strings.Lines(table) {
		cell := strings.Split(line, "|")[1]
		for _, m := range regexp.MustCompile("`([a-z0-9/]+)`").FindAllStringSubmatch(cell, -1) {
			named[m[1]] = true
		}
	}
	out, err := exec.Command("go", "list", "../../...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.Lines(string(out)) {
		room := strings.TrimPrefix(strings.TrimSpace(path), module)
		if !named[room] {
			t.Errorf("docs/architecture.md does not name %s", room)
		}
		delete(named, room)
	}
	for room := range named {
		t.Errorf("docs/architecture.md names %s, which is not there", room)
	}
}

// TestPagesAreListed: docs/README.md has a link to each page.
func TestPagesAreListed(t *testing.T) {
	list := read(t, filepath.Join(root, "docs", "README.md"))
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(pages) < 2 {
		t.Fatal(pages, err)
	}
	for _, page := range pages {
		if name := filepath.Base(page); name != "README.md" && !strings.Contains(list, "]("+name+")") {
			t.Errorf("docs/README.md has no link to %s", name)
		}
	}
}

func TestReadmeConfiguration(t *testing.T) {
	c, err := load(t, blockWith(t, "yaml", "token:"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Token.Module == "" || c.Token.PINFile == "" || c.TLSCert == "" || c.Account != "111122223333" {
		t.Errorf("%+v", c)
	}
}

// script runs a shell script of the repository, and gives its output line by line until it ends.
func script(t *testing.T, env []string, args ...string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := exec.Command("bash", args...)
	cmd.Dir, cmd.Env = root, env
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewReader(out)
}

// TestReadmeCommands: the lines that a new user pastes do what the README says, on a server that
// was started as it says; and so do the lines that the server prints.
func TestReadmeCommands(t *testing.T) {
	if _, err := os.Stat(awsCLI); err != nil {
		t.Fatalf("%v: run scripts/setup.sh clients", err)
	}
	t.Parallel()
	home := t.TempDir()
	data := filepath.Join(home, "data")
	installBinary(t, data)
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "VERENC_") || strings.HasPrefix(v, "AWS_") ||
			strings.HasPrefix(v, "SOFTHSM2_CONF=") || strings.HasPrefix(v, "PATH=")
	})
	env = append(env, "PATH=/usr/bin:"+os.Getenv("PATH"), "VERENC_LISTEN=127.0.0.1:0",
		"VERENC_PRIVATE_LISTEN=127.0.0.1:0")
	server, out := script(t, env, "-c", `exec "$0"/bin/verenc dev --data "$0"`, data) // as make run does
	var printed strings.Builder
	for !strings.Contains(printed.String(), "Ctrl-C stops it.") {
		line, err := out.ReadString('\n')
		printed.WriteString(line)
		if err != nil {
			t.Fatalf("%v: %s", err, printed.String())
		}
	}
	t.Cleanup(func() {
		if err := server.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		rest, _ := io.ReadAll(out)
		_ = server.Wait()
		if code := server.ProcessState.ExitCode(); code != 0 {
			t.Errorf("the server ended with %d: %s", code, rest)
		}
	})
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(printed.String())
	if mode := modeOf(t, filepath.Join(data, "aws-credentials")); mode != 0o600 {
		t.Errorf("the credentials have mode %o", mode)
	}

	shell := func(text string) result {
		t.Helper()
		cmd := exec.Command("bash", "-c", text)
		cmd.Dir = home
		cmd.Env = append(slices.Clone(env), "HOME="+home, "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null")
		return runCommand(t, cmd)
	}
	t.Run("README", func(t *testing.T) {
		block := blockWith(t, "sh", "generate-data-key-without-plaintext")
		if !strings.Contains(block, "http://"+defaults().Listen) {
			t.Errorf("the block does not use the default address: %s", block)
		}
		block = strings.TrimSpace(strings.ReplaceAll(block, "http://"+defaults().Listen, url))
		end := strings.LastIndex(block, "\n")
		good, last := block[:end], block[end:]
		code := regexp.MustCompile(`# (\w+Exception)$`).FindStringSubmatch(last)
		if code == nil {
			t.Fatalf("the last line says no exception: %s", last)
		}
		got := shell(fmt.Sprintf("set -e\n%s\nset +e%s\necho \"exit code $?\"", good, last))
		answer, after, _ := strings.Cut(got.stdout, "}\n")
		var opened struct{ KeyId, Plaintext string }
		if err := json.Unmarshal([]byte(answer+"}"), &opened); err != nil {
			t.Fatalf("%v: %v", err, got)
		}
		if plaintext, err := base64.StdEncoding.DecodeString(opened.Plaintext); err != nil || len(plaintext) != 32 {
			t.Errorf("%+v, %v", opened, err)
		}
		if after != "exit code 254\n" || !strings.Contains(got.stderr, "An error occurred ("+code[1]+")") {
			t.Errorf("the last line: %v", got)
		}
	})
	t.Run("printed", func(t *testing.T) {
		_, lines, _ := strings.Cut(printed.String(), "\n\n")
		lines, _, _ = strings.Cut(lines, "\n\n")
		got := shell("set -e\n" + lines)
		if got.code != 0 || !strings.Contains(got.stdout, `"CiphertextBlob"`) {
			t.Errorf("%s: %v", lines, got)
		}
	})
}

// installBinary puts the program where make build does.
func installBinary(t *testing.T, data string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(data, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("#!/bin/sh\nGORACE=atexit_sleep_ms=0 %s=1 exec %q \"$@\"\n", asVerenc, self)
	if err := os.WriteFile(filepath.Join(data, "bin", "verenc"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}
