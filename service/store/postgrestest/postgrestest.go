// Package postgrestest runs PostgreSQL servers for tests, from the programs of Debian's package
// postgresql. A server lives in a temporary folder and ends with the test binary, however that ends. A
// missing PostgreSQL fails the test.
package postgrestest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a running PostgreSQL. Its superuser is postgres, who needs no password on the unix socket.
type Server struct {
	Dir string // with the socket and the folder data

	bin       string
	user      *syscall.Credential // of the server's processes; nil: ours
	port      string
	settings  []string
	cmd       *exec.Cmd
	keep      *os.File // its end ends the server
	hangs     bool
	ended     bool
	databases atomic.Int64
}

var shared struct {
	sync.Once
	server *Server
	err    error
}

// NewDatabase makes an empty database on a server that the tests of a binary share, and gives its URL.
func NewDatabase(t testing.TB) string {
	t.Helper()
	shared.Do(func() { shared.server, shared.err = start(nil) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server.NewDatabase(t)
}

// Start runs a server of a test's own, with more settings ("name=value") than those of every server.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := start(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.hangs {
			s.Resume(t)
		}
		s.Signal(t, syscall.SIGQUIT)
		s.end()
	})
	return s
}

// start makes a cluster and runs it.
func start(settings []string) (s *Server, err error) {
	s = &Server{settings: settings, port: "5432"}
	for _, setting := range settings {
		if port, ok := strings.CutPrefix(setting, "port="); ok {
			s.port = port
		}
	}
	programs, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(programs) == 0 { // not Debian
		program, err := exec.LookPath("postgres")
		if err != nil {
			return nil, fmt.Errorf("PostgreSQL is missing: run scripts/setup.sh postgres (%w)", err)
		}
		programs = []string{program}
	}
	slices.Sort(programs)
	s.bin = filepath.Dir(programs[len(programs)-1])
	if s.Dir, err = os.MkdirTemp("", "pg"); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 { // whom PostgreSQL refuses
		if s.user, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(s.Dir, int(s.user.Uid), int(s.user.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := s.command(filepath.Join(s.bin, "initdb"), "-D", s.data(),
		"-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return s, s.run()
}

func unprivileged() (*syscall.Credential, error) {
	u, err := user.Lookup("nobody")
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: true}, err
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user, Setpgid: true}
	return cmd
}

// run starts the server below a shell that ends it, and removes its folder, when this process has ended.
func (s *Server) run() error {
	const guard = `"$@" >log 2>&1 & pid=$!; echo $pid >pid
while read -r signal; do kill -"$signal" $pid; [ "$signal" != QUIT ] && [ "$signal" != KILL ] || { wait $pid; exit; }; done
kill -CONT $pid; kill -QUIT $pid; wait $pid; cd /; rm -rf "$0"`
	args := []string{"-c", guard, s.Dir, filepath.Join(s.bin, "postgres"), "-D", s.data(), "-k", s.Dir}
	for _, setting := range append([]string{"listen_addresses=", "fsync=off", "max_connections=200"}, s.settings...) {
		args = append(args, "-c", setting)
	}
	stdin, keep, err := os.Pipe()
	if err != nil {
		return err
	}
	s.cmd, s.keep = s.command("/bin/sh", args...), keep
	s.cmd.Stdin = stdin
	if err := s.cmd.Start(); err != nil {
		return err
	}
	s.ended = false
	if err := stdin.Close(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-ctx.Done():
			log, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			return fmt.Errorf("PostgreSQL does not start: %w: %s", err, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// URL is that of a database, on the unix socket.
func (s *Server) URL(database string) string {
	return "postgres://postgres@/" + database + "?host=" + s.Dir + "&port=" + s.port
}

// Configure adds files to the server's folder of data, a first line to pg_hba.conf, and settings, and
// has it read them.
func (s *Server) Configure(t testing.TB, files map[string]string, hba string, settings ...string) {
	t.Helper()
	for name, text := range files {
		s.write(t, name, text)
	}
	s.write(t, "pg_hba.conf", hba+"\nlocal all all trust\n")
	s.write(t, "postgresql.auto.conf", strings.Join(settings, "\n")+"\n")
	s.Exec(t, "postgres", "SELECT pg_reload_conf()")
}

func (s *Server) write(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(s.data(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.user != nil {
		if err := os.Chown(path, int(s.user.Uid), int(s.user.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// NewDatabase makes an empty database and gives its URL.
func (s *Server) NewDatabase(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	s.Exec(t, "postgres", "CREATE DATABASE "+name+" TEMPLATE template0")
	return s.URL(name)
}

// Exec runs statements as the superuser.
func (s *Server) Exec(t testing.TB, database, statements string) {
	t.Helper()
	Exec(t, s.URL(database), statements)
}

// Exec runs statements in the database of a URL.
func Exec(t testing.TB, database, statements string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, statements); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// Signal sends the server a signal. After SIGKILL and SIGQUIT it has ended, when Signal returns.
func (s *Server) Signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	names := map[syscall.Signal]string{syscall.SIGKILL: "KILL", syscall.SIGQUIT: "QUIT"}
	if s.ended {
		return
	}
	if signal == syscall.SIGKILL { // all at once: the others would serve for a moment
		s.signalAll(t, signal)
	}
	if _, err := s.keep.WriteString(names[signal] + "\n"); err != nil {
		t.Error(err)
	}
	if signal == syscall.SIGKILL || signal == syscall.SIGQUIT {
		_ = s.cmd.Wait() // with the signal's status
		s.ended = true
	}
}

// Hang stops all processes of the server: connections stay, and nothing answers.
func (s *Server) Hang(t testing.TB) {
	s.hangs = true
	s.signalAll(t, syscall.SIGSTOP)
}

// Resume undoes Hang.
func (s *Server) Resume(t testing.TB) {
	s.signalAll(t, syscall.SIGCONT)
	s.hangs = false
}

func (s *Server) signalAll(t testing.TB, signal syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	first := strings.TrimSpace(string(text))
	children, err := os.ReadFile("/proc/" + first + "/task/" + first + "/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range append(strings.Fields(string(children)), first) {
		pid, err := strconv.Atoi(id)
		if err == nil {
			err = syscall.Kill(pid, signal)
		}
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %s: %v", id, err)
		}
	}
}

// Restart runs a server again that was killed. Its last processes may still be ending, which keeps the
// new one from starting.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	_ = s.keep.Close()
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
}

// Standby makes the server a standby of no other server: it can be read, until it is promoted.
func (s *Server) Standby(t testing.TB) {
	t.Helper()
	s.Exec(t, "postgres", "CHECKPOINT")
	s.Signal(t, syscall.SIGQUIT)
	s.write(t, "standby.signal", "")
	s.Restart(t)
}

func (s *Server) end() {
	_ = s.keep.Close()
	_ = os.RemoveAll(s.Dir)
}
