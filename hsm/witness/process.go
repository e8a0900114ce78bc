package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// ownPrefix begins the variables that the child does not get: among them may be the PIN.
const ownPrefix = "VERENC_"

// afterDeath is how long the output of a child that has ended is waited for; a process that it
// started may hold it open.
const afterDeath = time.Second

// runChild gives what the child writes. What it writes to standard error is thrown away: it is the
// module's, too.
func runChild(ctx context.Context, cfg Config, in []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	out := &bounded{full: cancel}
	cmd := exec.CommandContext(ctx, cfg.Program, cfg.Args...) // Kill is its end
	cmd.Env = slices.DeleteFunc(
		slices.Clone(cfg.Environ), func(v string) bool { return strings.HasPrefix(v, ownPrefix) },
	)
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would be this process's
	}
	cmd.Stdin, cmd.Stdout, cmd.WaitDelay = bytes.NewReader(in), out, afterDeath
	err := cmd.Run()
	switch {
	case out.over:
		return nil, fmt.Errorf("its reply has more than %d bytes", maxText)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("it took longer than %s", cfg.Timeout)
	case err != nil:
		return nil, fmt.Errorf("its process: %w", err)
	}
	return out.text.Bytes(), nil
}

// bounded takes maxText bytes. With more it ends the child.
type bounded struct {
	text bytes.Buffer
	over bool
	full func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.over || b.text.Len()+len(p) > maxText {
		b.over = true
		b.full()
		return 0, errors.New("too long")
	}
	return b.text.Write(p)
}
