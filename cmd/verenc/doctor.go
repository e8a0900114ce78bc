package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/store"
)

// finding is one line of the doctor's table.
type finding struct {
	mark          string
	check, result string
	advice        string
}

// Marks of findings.
const (
	markOK   = "ok"
	markNote = "note" // the server can do without
	markBad  = "BAD"
)

// examination collects findings.
type examination struct {
	findings []finding
}

func (e *examination) ok(check, format string, args ...any) {
	e.findings = append(e.findings, finding{mark: markOK, check: check, result: fmt.Sprintf(format, args...)})
}

func (e *examination) note(check string, err error, need string) {
	e.findings = append(e.findings, finding{markNote, check, oneLine(err), "needed for: " + need})
}

func (e *examination) bad(check string, err error, cure string) {
	e.findings = append(e.findings, finding{markBad, check, oneLine(err), "cure: " + cure})
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// doctor checks what a server needs, step by step, and prints what it found and how to cure it. It tries the PIN once.
func doctor(ctx context.Context, c *Config, out io.Writer) error {
	e := &examination{}
	e.examineToken(ctx, c)
	e.examineDatabase(ctx, c)
	e.examineClients(c)
	return e.print(out)
}

func (e *examination) examineToken(ctx context.Context, c *Config) {
	tokens, err := hsm.Tokens(c.Token.Module, c.Token.InitArguments, moduleCommand(c))
	if err != nil {
		e.bad("module", err, "install the HSM's PKCS#11 client and set token.module to its library")
		return
	}
	e.ok("module", "%s", c.Token.Module)
	var names []string
	for _, t := range tokens {
		names = append(names, fmt.Sprintf("%q (serial %s, %s)", t.Label, t.Serial, t.Model))
	}
	if len(tokens) == 0 {
		e.bad("tokens", errors.New("none"), "initialise a token with the HSM's own tools; for SoftHSM: go run ./softhsm/token")
		return
	}
	e.ok("tokens", "%s", strings.Join(names, ", "))

	h, err := hsmConfig(c, zap.NewNop())
	if err != nil {
		e.bad("PIN", err, "put the user PIN into a file of mode 600 and set token.pin_file")
		return
	}
	token, err := hsm.Open(ctx, h)
	switch {
	case errors.Is(err, hsm.ErrPIN):
		e.bad("login", err, "correct the PIN; it was tried once, and a few wrong ones lock the token")
		return
	case err != nil:
		e.bad("login", err, "set token.label or token.serial to one of the tokens above; check the HSM's own log")
		return
	}
	defer func() {
		if err := token.Close(); err != nil {
			e.bad("logout", err, "check the HSM's own log")
		}
	}()
	e.ok("login", "the token accepts the PIN")
	if call, err := callTime(ctx, token); err != nil {
		e.bad("latency", err, "check the network to the HSM, and its own log")
	} else {
		e.ok("latency", "a call takes %s", call.Round(time.Microsecond))
	}
	e.examineAlgorithms(ctx, token)
}

func (e *examination) examineAlgorithms(ctx context.Context, token *hsm.Token) {
	missing, err := token.MissingMechanisms(ctx)
	if err != nil {
		e.bad("mechanisms", err, "check the HSM's own log")
	}
	for _, m := range missing {
		e.bad("mechanisms", fmt.Errorf("%s is not listed", m.Name), "enable it in the token's policy; needed for: "+m.Need)
	}
	if err == nil && len(missing) == 0 {
		e.ok("mechanisms", "all that are needed are listed")
	}
	for _, check := range token.SelfTest(ctx) {
		if check.Err != nil && check.Optional {
			e.note("self-test", fmt.Errorf("%s: %w", check.Name, check.Err), check.Need)
			continue
		}
		if check.Err != nil {
			e.bad("self-test", fmt.Errorf("%s: %w", check.Name, check.Err), "allow it in the token's policy or firmware; needed for: "+check.Need)
			continue
		}
		e.ok("self-test", "%s", check.Name)
	}
}

func (e *examination) examineDatabase(ctx context.Context, c *Config) {
	if _, err := os.Stat(c.Database); err != nil {
		e.bad("database", err, "run verenc init")
		return
	}
	db, err := store.Open(ctx, store.Config{Path: c.Database})
	if err != nil {
		e.bad("database", err, "check the file's owner and the free space; restore it from a backup")
		return
	}
	err = errors.Join(db.Ping(ctx), db.Close())
	if err != nil {
		e.bad("database", err, "check the file's owner and the free space")
		return
	}
	e.ok("database", "%s answers and can be written", c.Database)
}

// print writes the table; it fails when something is bad.
func (e *examination) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	bad := 0
	for _, f := range e.findings {
		if f.mark == markBad {
			bad++
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.mark, f.check, f.result)
		if f.advice != "" {
			fmt.Fprintf(w, "\t\t%s\n", f.advice)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("doctor: %d of %d checks are bad", bad, len(e.findings))
	}
	return nil
}
