// Package environment hands the environment variables of a development server to those who use it: as lines for a
// shell, to a command, or from a server in the background.
package environment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
)

// Environment is what AWS clients need to find a server and to sign for it.
type Environment struct {
	URL                    string
	AccessKeyID, SecretKey string
	Region                 string
}

// variable is a name and a value.
type variable struct{ name, value string }

// variables has the two names of the region, since the AWS CLI and boto3 read only the second.
func (e *Environment) variables() []variable {
	return []variable{
		{"AWS_ENDPOINT_URL_KMS", e.URL}, {"AWS_ENDPOINT_URL_STS", e.URL},
		{"AWS_ACCESS_KEY_ID", e.AccessKeyID}, {"AWS_SECRET_ACCESS_KEY", e.SecretKey},
		{"AWS_REGION", e.Region}, {"AWS_DEFAULT_REGION", e.Region},
	}
}

// unset are variables that would make a client sign as somebody else.
var unset = []string{"AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"}

// Lines are lines for a shell that set the variables.
func (e *Environment) Lines() string {
	var b strings.Builder
	for _, v := range e.variables() {
		fmt.Fprintf(&b, "export %s=%s\n", v.name, quote(v.value))
	}
	fmt.Fprintf(&b, "unset %s\n", strings.Join(unset, " "))
	return b.String()
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]+$`)

// quote quotes a word for a POSIX shell, if it must be.
func quote(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// ExitError is the end of a command of Run that failed. What the command had to say, it has said.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return fmt.Sprintf("the command ended with status %d", e.Status) }

// passed are the signals that Run passes on.
var passed = []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1,
	syscall.SIGUSR2}

// Run runs a command with the variables until it ends, with this process's standard files. Signals are passed on to
// it; start is called when they are, and says whether to run the command. Its failure is an *ExitError with its exit
// status, or 128 and the number of the signal that ended it.
func (e *Environment) Run(argv []string, start func() bool) error {
	cmd := exec.Command(argv[0], argv[1:]...) // it ends by itself, or by a signal
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		return slices.Contains(unset, name)
	})
	for _, v := range e.variables() {
		cmd.Env = append(cmd.Env, v.name+"="+v.value) // the last one of a name counts
	}
	signals := make(chan os.Signal, len(passed))
	signal.Notify(signals, passed...)
	defer signal.Stop(signals)
	if !start() {
		return nil
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the command: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGINT && s != syscall.SIGQUIT || !isTerminal(os.Stdin) {
				_ = cmd.Process.Signal(s) // it may have ended
			} // else the terminal has sent it to the command as well
		case err := <-ended:
			return exitError(err)
		}
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Name() != os.DevNull
}

func exitError(err error) error {
	exit := (*exec.ExitError)(nil)
	if !errors.As(err, &exit) {
		return err
	}
	status := exit.ExitCode()
	if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		status = 128 + int(s.Signal())
	}
	return &ExitError{status}
}

const maxSaid = 64 << 10 // bytes of a log in an error

// Background starts this program again with other arguments, in a session of its own, so that it goes on when the
// shell that started it ends. It returns what the new process writes to its file descriptor 3 until it closes that,
// and its process id. Standard output and error of the process go to a log file, which is made anew.
func Background(ctx context.Context, args []string, logFile string) (lines string, pid int, err error) {
	program, err := os.Executable()
	if err != nil {
		return "", 0, err
	}
	log, err := os.OpenFile(logFile, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", 0, err
	}
	defer log.Close()
	from, to, err := os.Pipe()
	if err != nil {
		return "", 0, err
	}
	defer from.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{to}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = to.Close() // the process has its own
	if err != nil {
		return "", 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	text, err := io.ReadAll(from)
	if err == nil && len(text) == 0 { // it has ended
		err = errors.Join(ctx.Err(), cmd.Wait())
		said, _ := io.ReadAll(io.NewSectionReader(log, 0, maxSaid)) // the process may have removed the file
		return "", 0, fmt.Errorf("the server did not start (%w):\n%s", err, said)
	}
	pid = cmd.Process.Pid
	return string(text), pid, errors.Join(err, cmd.Process.Release())
}
