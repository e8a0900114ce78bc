package tokens

import (
	"context"
	"errors"
	"fmt"
	"os"
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

// use logs in to the token and takes random bytes.
func use() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	token, err := hsm.Open(ctx, hsm.Config{Module: os.Getenv("MODULE"), Label: os.Getenv("LABEL"), PIN: os.Getenv("PIN")})
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
