package chaos_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/verenc/kms/softhsm/faults"
)

// node is a server: a process that is started again when it ends, as systemd does.
type node struct {
	name   string
	env    []string
	bound  time.Duration // how stale what it decides on may be
	link   *link
	module *faults.Module

	mu        sync.Mutex
	cmd       *exec.Cmd         // guarded by mu: the newest process
	addresses map[string]string // guarded by mu: of listeners that serve, by name
	starts    int               // guarded by mu
	stopping  bool              // guarded by mu
	killed    bool              // guarded by mu: the newest process
	wrong     []string          // guarded by mu: what no process should say
	ended     chan struct{}     // guarded by mu: closed when no process will follow
	// authenticated has the ids of requests that failed although their caller was known; guarded by mu.
	authenticated map[string]bool
}

func nodeName(i int) string { return string(rune('a' + i)) }

// exitRestart is the status of a server that wants to be started again, since its token's module is stuck.
const exitRestart = 3

// restartAfter is how long a supervisor waits.
const restartAfter = 200 * time.Millisecond

// run starts processes until stop.
func (n *node) run(program, log string) error {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.stopping, n.ended = false, make(chan struct{})
	n.mu.Unlock()
	go func() {
		runtime.LockOSThread() // the processes end with the thread that has started them
		defer runtime.UnlockOSThread()
		defer close(n.ended)
		defer file.Close()
		for n.process(program, file) {
			time.Sleep(restartAfter)
		}
	}()
	return nil
}

// process runs one process to its end, and tells whether another one is to follow.
func (n *node) process(program string, log io.Writer) (again bool) {
	cmd := exec.Command(program, "serve")
	cmd.Env = n.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err == nil {
		n.mu.Lock()
		if n.stopping {
			n.mu.Unlock()
			return false
		}
		n.cmd, n.addresses, n.killed = cmd, map[string]string{}, false
		n.starts++
		err = cmd.Start()
		n.mu.Unlock()
	}
	if err != nil {
		n.complain(fmt.Sprintf("start a process: %v", err))
		return false
	}
	n.read(stderr, log)
	_ = cmd.Wait() // the state has the information
	n.mu.Lock()
	defer n.mu.Unlock()
	served := n.addresses["api"] != ""
	n.addresses = nil
	switch code := cmd.ProcessState.ExitCode(); {
	case code == 0 && n.stopping, code == exitRestart && !n.stopping:
	case served: // and was not killed
		n.wrong = append(n.wrong, fmt.Sprintf("a process that served ended with %v", cmd.ProcessState))
	}
	return !n.stopping
}

func (n *node) read(stderr io.Reader, log io.Writer) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		_, _ = fmt.Fprintln(log, lines.Text())
		var line struct {
			Msg, Listener, Address string
			RequestID              string `json:"request_id"`
			Principal              string
			Status                 int
		}
		err := json.Unmarshal(lines.Bytes(), &line)
		switch {
		case err != nil && strings.HasPrefix(lines.Text(), "verenc: "): // why it did not start
		case err != nil:
			n.complain(lines.Text())
		case line.Msg == "serving":
			n.mu.Lock()
			if !n.killed {
				n.addresses[line.Listener] = line.Address
			}
			n.mu.Unlock()
		case line.Msg == "request" && line.Status >= http.StatusInternalServerError && line.Principal != "":
			n.mu.Lock()
			n.authenticated[line.RequestID] = true
			n.mu.Unlock()
		}
	}
}

// mostComplaints is how many lines are kept: a panic has hundreds.
const mostComplaints = 30

func (n *node) complain(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.wrong) < mostComplaints {
		n.wrong = append(n.wrong, text)
	}
}

// api is where the AWS API is served; empty while it is not.
func (n *node) api() string { return n.address("api") }

func (n *node) address(listener string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addresses[listener]
}

// signal sends a signal to the newest process, if there is one.
func (n *node) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil || n.cmd.Process == nil {
		return
	}
	if s == syscall.SIGKILL {
		n.killed, n.addresses = true, nil
	}
	if err := n.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal node %s: %v", n.name, err)
	}
}

// stop ends the process as an operator does, and waits.
func (n *node) stop(t testing.TB) {
	t.Helper()
	n.mu.Lock()
	n.stopping = true
	ended := n.ended
	n.mu.Unlock()
	if ended == nil {
		return
	}
	n.signal(t, syscall.SIGTERM)
	n.signal(t, syscall.SIGCONT)
	<-ended
}

// ready asks /readyz, and returns what is missing.
func (n *node) ready() error {
	address := n.address("private")
	if address == "" {
		return errors.New("it does not listen")
	}
	client := http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get("http://" + address + "/readyz")
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if text := strings.TrimSpace(string(body)); resp.StatusCode != http.StatusOK || text != `{"status":"ok"}` {
		return fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	return nil
}
