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
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/softhsm/tokens"
)

// childHeals has the child process use a token that is lost again and again.
const childHeals = "TOKENTEST_HEALS"

// moduleHost is the argument with which the test binary is the process of a module.
const moduleHost = "host-pkcs11-module"

// healing is how long a token may take to serve again after its return.
const healing = 2 * time.Second

// TestHealsWithItsServer kills the server behind p11-kit's client, and starts it again. After its end every call of the
// client answers CKR_DEVICE_ERROR, until the module is initialised anew. Of several calls that wait for the server when it
// ends, the client (0.24) wakes one only, and the others stay inside it: under load it heals in a process of its own.
func TestHealsWithItsServer(t *testing.T) {
	t.Run("one call at a time", func(t *testing.T) { healsWithItsServer(t, "1") })
	t.Run("isolated, under load", func(t *testing.T) { healsWithItsServer(t, "isolated") })
}

func healsWithItsServer(t *testing.T, how string) {
	server := tokens.Remote(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := server.Command(t.Context(), self)
	cmd.Env = append(cmd.Env, childHeals+"="+how, childModule+"="+server.Module, childLabel+"="+server.Label, childPIN+"="+server.PIN)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	says := func(want string) {
		t.Helper()
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("the process says %q instead of %q\n%s", lines.Text(), want, stderr.Bytes())
		}
	}
	says("serves")
	for range 3 {
		server.Kill()
		says("lost")
		server.Start()
		began := time.Now()
		says("serves")
		if took := time.Since(began); took > healing {
			t.Errorf("healed after %v", took)
		}
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	says("nothing is lost")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, stderr.Bytes())
	}
}

// heals uses a token's keys until standard input ends, and says when it stops to serve and when it serves again.
func heals(in io.Reader, out io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cfg := hsm.Config{Module: os.Getenv(childModule), Label: os.Getenv(childLabel), PIN: os.Getenv(childPIN)}
	callers := 1
	if os.Getenv(childHeals) == "isolated" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		cfg.ModuleCommand, callers = []string{self, moduleHost}, 4
	}
	token, err := hsm.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	var id hsm.ObjectID
	_, _ = rand.Read(id[:]) // never fails
	if err := token.GenerateSecretKey(ctx, hsm.SecretKey{ID: id, Label: "verenc/tokentest", Purpose: hsm.MAC256}); err != nil {
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
