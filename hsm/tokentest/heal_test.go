package tokentest

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm/tokens"
)

// childHeals has the child process use a token that is lost again and again.
const (
	childHeals   = "TOKENTEST_HEALS"
	childCallers = "TOKENTEST_CALLERS"
)

// moduleHost is the argument with which the test binary is the process of a module.
const moduleHost = "host-pkcs11-module"

// patience is how long a token may take to serve again after its return, on a machine that does
// much else. What it takes is logged.
const patience = 30 * time.Second

// TestHealsWithItsServer kills the server behind p11-kit's client, and starts it again. After its
// end every call of the client answers CKR_DEVICE_ERROR, until the module is initialised anew. Of
// several calls that wait for the server when it ends, the client (0.24) wakes one only, and the
// others stay inside it: then hsm gives the module up, and another process takes over. In a process
// of its own the module always heals.
func TestHealsWithItsServer(t *testing.T) {
	t.Run("in this process", func(t *testing.T) { healsWithItsServer(t, "here", 1) })
	t.Run("in this process, under load", func(t *testing.T) { healsWithItsServer(t, "here", 4) })
	t.Run("isolated, under load", func(t *testing.T) { healsWithItsServer(t, "isolated", 4) })
}

func healsWithItsServer(t *testing.T, how string, callers int) {
	server := tokens.Remote(t)
	user := startUser(t, server, how, callers)
	user.says("serves")
	for range 3 {
		server.Kill()
		user.says("lost")
		server.Start()
		began := time.Now()
		line := user.line()
		if line == "gave up" && how != "isolated" {
			user.ends(3)
			user = startUser(t, server, how, callers)
			line = user.line()
		}
		if line != "serves" {
			t.Fatalf("the process says %q", line)
		}
		took := time.Since(began)
		if t.Logf("serves %v after the server's return", took); took > patience {
			t.Errorf("healed after %v", took)
		}
	}
	if err := user.in.Close(); err != nil {
		t.Error(err)
	}
	user.says("nothing is lost")
	user.ends(0)
}

// user is a process that uses a token's keys.
type user struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.Closer
	lines  *bufio.Scanner
	stderr bytes.Buffer
}

func startUser(t *testing.T, server *tokens.Server, how string, callers int) *user {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, cmd: server.Command(t.Context(), self)}
	u.cmd.Env = append(u.cmd.Env, childHeals+"="+how, childCallers+"="+strconv.Itoa(callers),
		childModule+"="+server.Module, childLabel+"="+server.Label, childPIN+"="+server.PIN)
	u.cmd.Stderr = &u.stderr
	if u.in, err = u.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := u.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := u.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	u.lines = bufio.NewScanner(out)
	return u
}

// line gives the next line that the process says.
func (u *user) line() string {
	u.t.Helper()
	if !u.lines.Scan() {
		err := u.cmd.Wait()
		u.t.Fatalf("the process ended: %v\n%s", err, u.stderr.Bytes())
	}
	return u.lines.Text()
}

func (u *user) says(want string) {
	u.t.Helper()
	if got := u.line(); got != want {
		u.t.Fatalf("the process says %q instead of %q", got, want)
	}
}

func (u *user) ends(status int) {
	u.t.Helper()
	_ = u.cmd.Wait() // its status tells
	if got := u.cmd.ProcessState.ExitCode(); got != status {
		u.t.Errorf("exit status %d instead of %d\n%s", got, status, u.stderr.Bytes())
	}
}

// heals uses a token's keys until standard input ends, and says when it stops to serve, when it
// serves again, and when it gives the module up.
func heals(in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	givenUp := make(chan error, 1)
	cfg := hsm.Config{
		Module: os.Getenv(childModule), Label: os.Getenv(childLabel), PIN: os.Getenv(childPIN),
		CallTimeout: 5 * time.Second,
		GiveUpAfter: 200 * time.Millisecond,
		OnGiveUp: func(err error) {
			select {
			case givenUp <- err:
			default:
			}
		},
	}
	callers, err := strconv.Atoi(os.Getenv(childCallers))
	if err != nil {
		return err
	}
	if os.Getenv(childHeals) == "isolated" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		cfg.ModuleCommand = []string{self, moduleHost}
	}
	token, err := hsm.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	var id hsm.ObjectID
	_, _ = rand.Read(id[:]) // never fails
	if err := token.GenerateSecretKey(ctx,
		hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: hsm.MAC256}); err != nil {
		return err
	}
	want, err := token.MAC(ctx, id, crypto.SHA256, []byte("message"))
	if err != nil {
		return err
	}

	go func() { _, _ = io.Copy(io.Discard, in); cancel() }()
	results := make(chan error)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for ctx.Err() == nil {
				got, err := token.MAC(context.Background(), id, crypto.SHA256, []byte("message"))
				if err == nil && !bytes.Equal(got, want) {
					err = errors.New("another MAC of the same message")
				}
				select {
				case results <- err:
				case <-ctx.Done():
				}
			}
		})
	}
	defer all.Wait()
	fmt.Fprintln(out, "serves")
	serves := true
	for {
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), context.Canceled) || !serves {
				return fmt.Errorf("serves %v: %w", serves, context.Cause(ctx))
			}
			fmt.Fprintln(out, "nothing is lost")
			return nil
		case <-givenUp:
			if serves {
				fmt.Fprintln(out, "lost")
			}
			fmt.Fprintln(out, "gave up")
			os.Exit(3) // calls are inside the module, and nothing can end them
		case err := <-results:
			switch {
			case err == nil && !serves && token.Stats().Connected: // not an early answer that came late
				serves = true
				fmt.Fprintln(out, "serves")
			case err != nil && !errors.Is(err, hsm.ErrUnavailable) && !errors.Is(err, hsm.ErrTimeout):
				return err
			case err != nil && serves && !token.Stats().Connected: // not one late answer of the calls under way
				serves = false
				fmt.Fprintln(out, "lost")
			}
		}
	}
}
