package tokens

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/verenc/kms/hsm"
)

// childEnv makes the test binary a process that uses a token: it has the module's path, the label and the PIN.
const childEnv = "VERENC_TOKENS_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := use(); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// use logs in to the token, which is the only one, and takes random bytes.
func use() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	all, err := hsm.Tokens(os.Getenv("MODULE"), "", nil)
	if err != nil {
		return err
	}
	if len(all) != 1 {
		return fmt.Errorf("%d tokens, not one: %+v", len(all), all)
	}
	token, err := hsm.Open(ctx, hsm.Config{Module: os.Getenv("MODULE"), Label: os.Getenv("LABEL"),
		PIN: os.Getenv("PIN")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, token.Close()) }()
	return token.Ping(ctx)
}

// child has a process use the token.
func child(t *testing.T, token *Token) error {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := token.Command(t.Context(), self)
	cmd.Env = append(cmd.Env, childEnv+"=1", "MODULE="+token.Module, "LABEL="+token.Label, "PIN="+token.PIN)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func TestKinds(t *testing.T) {
	for _, kind := range Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			token := kind.New(t)
			if token.Name != kind.Name {
				t.Errorf("it is called %s", token.Name)
			}
			if err := child(t, token); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestAtOnce makes tokens of a kind at the same time, as packages do whose tests run beside each other.
func TestAtOnce(t *testing.T) {
	for _, kind := range Kinds() {
		for n := range 2 {
			t.Run(fmt.Sprint(kind.Name, n), func(t *testing.T) {
				t.Parallel()
				if err := child(t, kind.New(t)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// TestSystemIsLeftAlone looks at what opencryptoki's daemon and module write when they are not covered.
func TestSystemIsLeftAlone(t *testing.T) {
	state := func() string {
		var said string
		for _, path := range []string{"/run/pkcsslotd.pid", "/run/pkcsslotd.socket",
			"/dev/shm/var.lib.opencryptoki.swtok",
			"/var/lock/opencryptoki/LCK..APIlock", "/var/lib/opencryptoki/swtok/NVTOK.DAT"} {
			info, err := os.Stat(path)
			if err != nil {
				said += fmt.Sprintln(err)
				continue
			}
			said += fmt.Sprintln(path, info.ModTime(), info.Sys().(*syscall.Stat_t).Ino)
		}
		return said
	}
	before := state()
	if err := child(t, Opencryptoki(t)); err != nil {
		t.Fatal(err)
	}
	if after := state(); after != before {
		t.Errorf("the system's files were\n%sthey are\n%s", before, after)
	}
}

// TestProxyHasItsOwnModules asks p11-kit which modules it would load beside the token: one.
func TestProxyHasItsOwnModules(t *testing.T) {
	out, err := Proxy(t).Command(t.Context(), "p11-kit", "list-modules").Output()
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, " ") {
			modules = append(modules, line)
		}
	}
	if len(modules) != 1 {
		t.Errorf("%q", modules)
	}
}

func TestServerIsKilledAndStarted(t *testing.T) {
	server := Remote(t)
	server.Kill()
	if child(t, server.Token) == nil {
		t.Error("a token without its server is used")
	}
	server.Start()
	if err := child(t, server.Token); err != nil {
		t.Error(err)
	}
}
