package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// asVerenc is the environment variable that makes the test binary the program itself, so that the
// tests run what users run.
const asVerenc = "TEST_AS_VERENC"

func TestMain(m *testing.M) {
	if os.Getenv(asVerenc) != "" {
		main()
		return
	}
	os.Exit(softhsm.Run(m))
}

// site is what an operator has: a token, a folder, and the settings in the environment.
type site struct {
	soft softhsm.Token
	dir  string
	env  []string
	// program is another version of verenc; by default it is this one.
	program string
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{soft: softhsm.New(t), dir: t.TempDir()}
	// The times are such that nothing is late on a slow machine.
	return s.with("VERENC_TOKEN_CONNECT_TIMEOUT=1m", "VERENC_TOKEN_CALL_TIMEOUT=1m",
		"VERENC_TOKEN_GENERATE_TIMEOUT=5m", "VERENC_SHUTDOWN_TIMEOUT=1m",
		"VERENC_TOKEN_MODULE="+s.soft.Module, "VERENC_TOKEN_LABEL="+s.soft.Label,
		"VERENC_TOKEN_PIN_FILE="+s.soft.PINFile,
		"VERENC_DATABASE="+s.path("kms.db"), "VERENC_AUDIT_DIR="+s.path("audit"), "VERENC_LISTEN=127.0.0.1:0",
		"VERENC_PRIVATE_LISTEN=127.0.0.1:0")
}

// initialised is a site where verenc init was run; its access key is in the file path("credentials").
func initialised(t testing.TB) *site {
	t.Helper()
	return newSite(t).initialise(t)
}

func (s *site) initialise(t testing.TB) *site {
	t.Helper()
	if r := s.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Fatal(r)
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// with adds to the environment; what comes later wins.
func (s *site) with(env ...string) *site {
	c := *s
	c.env = append(append([]string{}, s.env...), env...)
	return &c
}

// write makes a file in the site's folder.
func (s *site) write(t testing.TB, name, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(s.path(name), []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return s.path(name)
}

// command is verenc with nothing in its environment that the test did not put there.
func (s *site) command(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	program, err := s.program, error(nil)
	if program == "" {
		program, err = os.Executable()
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, args...) // not of the test context, which ends before its cleanups
	cmd.Dir = s.dir
	cmd.Env = append(s.environ(), asVerenc+"=1")
	return cmd
}

func (s *site) environ() []string {
	return append([]string{"PATH=/usr/bin:" + os.Getenv("PATH"), "HOME=" + s.dir, "SOFTHSM2_CONF=" + s.soft.Conf,
		"GORACE=atexit_sleep_ms=0"}, s.env...) // otherwise the race detector waits a second at the end of each process
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) String() string { return fmt.Sprintf("exit code %d\n%s%s", r.code, r.stdout, r.stderr) }

func (s *site) run(t testing.TB, args ...string) result {
	t.Helper()
	return runCommand(t, s.command(t, args...))
}

func runCommand(t testing.TB, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// running is a server in a process of its own.
type running struct {
	api, private string // host:port

	cmd   *exec.Cmd
	ended chan struct{} // closed when the log has ended, which is when the process has

	mu    sync.Mutex
	lines []logLine     // guarded by mu
	more  chan struct{} // guarded by mu: closed and replaced at each line
}

// logLine is a line of JSON on standard error.
type logLine map[string]any

// serve starts a server and ends it with the test, when it must exit with 0.
func (s *site) serve(t testing.TB) *running {
	t.Helper()
	r := &running{cmd: s.command(t, "serve"), ended: make(chan struct{}), more: make(chan struct{})}
	stderr, err := r.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go r.read(t, stderr)
	t.Cleanup(func() {
		select {
		case <-r.ended:
		default:
			if code := r.stop(t); code != 0 {
				t.Errorf("the server ended with %d:\n%v", code, r.log())
			}
		}
	})
	r.api = fmt.Sprint(r.await(t, "serving", "listener", "api")["address"])
	if slices.Contains(s.env, "VERENC_PRIVATE_LISTEN=") {
		return r
	}
	r.private = fmt.Sprint(r.await(t, "serving", "listener", "private")["address"])
	return r
}

func (r *running) read(t testing.TB, stderr io.Reader) {
	defer close(r.ended)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line logLine
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			line = logLine{"not JSON": lines.Text()}
		}
		r.mu.Lock()
		r.lines = append(r.lines, line)
		close(r.more)
		r.more = make(chan struct{})
		r.mu.Unlock()
	}
}

func (r *running) log() []logLine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]logLine{}, r.lines...)
}

// text is the log as text.
func (r *running) text(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	for _, line := range r.log() {
		if err := json.NewEncoder(&b).Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

// await waits for a line with this message and field.
func (r *running) await(t testing.TB, msg, field, value string) logLine {
	t.Helper()
	for {
		r.mu.Lock()
		lines, more := r.lines, r.more
		r.mu.Unlock()
		for _, line := range lines {
			if line["msg"] == msg && (field == "" || line[field] == value) {
				return line
			}
		}
		select {
		case <-more:
		case <-r.ended:
			t.Fatalf("the server ended before it logged %s %s %s:\n%v", msg, field, value, r.log())
		}
	}
}

func (r *running) terminate(t testing.TB) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}

// wait waits for the process to end, and returns its exit code.
func (r *running) wait() int {
	<-r.ended
	_ = r.cmd.Wait() // the exit code has the information
	return r.cmd.ProcessState.ExitCode()
}

func (r *running) stop(t testing.TB) int {
	t.Helper()
	r.terminate(t)
	return r.wait()
}
