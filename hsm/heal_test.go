package hsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/softhsm"
	"github.com/verenc/kms/softhsm/faults"
)

// TestHealsByFinalize has a module that is of no use after a loss until it is finalised, under load.
func TestHealsByFinalize(t *testing.T) {
	for _, rv := range []uint{pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED} {
		changes := make(chan error, 100)
		token, m := misbehaving(
			t, func(m *faults.Module) { m.HealOnlyByFinalize(rv) },
			func(c *Config) { c.OnChange = func(err error) { changes <- err } },
		)
		p := newPair(t, token)
		<-changes
		for range 3 {
			m.Unplug()
			if err := token.Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			if err := <-changes; err == nil {
				t.Fatal("connected before it was lost")
			}
			m.Plug()
			if err := <-changes; err != nil {
				t.Fatal(err)
			}
			if _, err := token.Encrypt(t.Context(), p.Seal, []byte("x"), nil); err != nil {
				t.Errorf("%#x: %v", rv, err)
			}
		}
		if n := token.Stats().Reinitializations; n < 3 {
			t.Errorf("%#x: %d initialisations", rv, n)
		}
	}
}

// TestGivesUp has a call that never comes back keep the module from being finalised.
func TestGivesUp(t *testing.T) {
	given := make(chan error, 1)
	token, m := misbehaving(
		t,
		func(m *faults.Module) { m.HealOnlyByFinalize(pkcs11.CKR_DEVICE_ERROR) },
		func(c *Config) {
			c.CallTimeout, c.GiveUpAfter = time.Second, time.Millisecond
			c.KeepAlive = time.Hour // or it could meet the call that hangs
			c.OnGiveUp = func(err error) {
				select {
				case given <- err:
				default:
				}
			}
		},
	)
	m.Hang("C_GenerateRandom", faults.Times(1))
	if err := token.Ping(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Fatal(err)
	}
	m.Unplug()
	err := token.Ping(t.Context())
	for errors.Is(err, ErrTimeout) { // the machine is slow
		err = token.Ping(t.Context())
	}
	if !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	if err := <-given; !errors.Is(err, ErrGivenUp) {
		t.Error(err)
	}
	m.Plug()
}

// isolated runs the module in a process of its own.
func isolated(t testing.TB) func(*Config) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) { c.ModuleCommand = []string{program, testHost} }
}

// TestIsolatedDoesTheSame has the self-test say of a module in a process of its own what it says of
// one in this process.
func TestIsolatedDoesTheSame(t *testing.T) {
	token := connect(t, isolated(t))
	for _, c := range token.SelfTest(t.Context()) {
		if (c.Err != nil) != lacking[c.Name] {
			t.Errorf("%s: %v", c.Name, c.Err)
		}
	}
	p := newPair(t, token)
	box, err := token.GenerateWrapped(t.Context(), p, 32, []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	first, err := token.DecryptWrapped(t.Context(), p, box, 32, []byte("aad"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := token.DecryptWrapped(t.Context(), p, box, 32, []byte("other")); !errors.Is(err, ErrAuthentication) {
		t.Errorf("other additional data: %v", err)
	}
	second, err := token.DecryptWrapped(t.Context(), p, box, 32, []byte("aad"))
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("%x, then %x, %v", first, second, err)
	}
}

// TestIsolatedEnds has the module's process killed, crash and be stuck under load, again and again:
// calls fail in a way that may be tried again, the next process serves in time, and no key is lost.
func TestIsolatedEnds(t *testing.T) {
	const patience = 30 * time.Second // for a busy machine; what it takes is logged
	for name, test := range map[string]struct {
		timeout time.Duration // of calls
		end     func(*faults.Module)
	}{
		"killed":  {time.Minute, func(*faults.Module) { killHosts(t) }},
		"crashed": {time.Minute, func(m *faults.Module) { m.Crash("C_Decrypt", faults.Times(1)) }},
		"stuck":   {5 * time.Second, func(m *faults.Module) { m.Hang("C_Decrypt", faults.Times(1)) }},
	} {
		t.Run(name, func(t *testing.T) {
			changes := make(chan error, 100)
			token, m := misbehaving(t, func(*faults.Module) {}, isolated(t), func(c *Config) {
				c.CallTimeout, c.OnChange = test.timeout, func(err error) { changes <- err }
			})
			<-changes
			p := newPair(t, token)
			box, err := token.Encrypt(t.Context(), p.Seal, []byte("plaintext"), nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for ctx.Err() == nil {
						got, err := token.Decrypt(context.Background(), p.Seal, box, nil)
						if err == nil && string(got) != "plaintext" ||
							err != nil && !errors.Is(err, ErrUnavailable) && !errors.Is(err, ErrTimeout) {
							t.Errorf("%q, %v", got, err)
						}
					}
				})
			}
			for range 3 {
				test.end(m)
				if err := <-changes; err == nil {
					t.Error("connected before it was lost")
				}
				began := time.Now()
				if err := <-changes; err != nil {
					t.Error(err)
				}
				took := time.Since(began)
				if t.Logf("healed after %v", took); took > patience {
					t.Error("that is too long")
				}
			}
			stop()
			all.Wait()
			if got, err := token.Decrypt(t.Context(), p.Seal, box, nil); err != nil || string(got) != "plaintext" {
				t.Errorf("%q, %v", got, err)
			}
			if s := token.Stats(); s.Reinitializations < 3 || s.Stuck != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// killHosts kills the processes of modules that this one has started.
func killHosts(t *testing.T) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		text, _ := os.ReadFile(stat) // a process may end meanwhile
		arguments, _ := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		_, after, _ := strings.Cut(string(text), ") ") // behind its name: state, parent
		var state string
		var parent int
		if n, _ := fmt.Sscan(after, &state, &parent); n != 2 || parent != os.Getpid() ||
			!strings.Contains(string(arguments), testHost) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// TestIsolatedCommandThatIsNone: what can't be started, or says nothing of what it should, is an
// error of Open.
func TestIsolatedCommandThatIsNone(t *testing.T) {
	soft := softhsm.New(t)
	for _, command := range [][]string{{"/no/such/program"}, {"/bin/true"}, {"/bin/echo", "hello"}} {
		token, err := Open(
			t.Context(),
			Config{Module: soft.Module, Serial: soft.Serial, PIN: soft.PIN, ModuleCommand: command},
		)
		if err == nil {
			t.Errorf("%v: opened", command)
			_ = token.Close()
		}
	}
}

// BenchmarkIsolated compares the same call in this process and in another.
func BenchmarkIsolated(b *testing.B) {
	for name, change := range map[string]func(*Config){"here": func(*Config) {}, "isolated": isolated(b)} {
		token := connect(b, change)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := token.Ping(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
