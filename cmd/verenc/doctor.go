package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/audit"
)

// finding is one line of the doctor's table.
type finding struct {
	mark          string
	check, result string
	advice        string
}

// verdict says in one line whether a server can start with this token.
func (e *examination) verdict(out io.Writer) error {
	if e.cannot == nil {
		return nil
	}
	_, err := fmt.Fprintf(out, "\nThis token can't be used: %s.\n", strings.Join(e.cannot, "; "))
	return err
}

// examination collects findings.
type examination struct {
	findings []finding
	cannot   []string // why a server does not start with this token
}

func (e *examination) ok(check, format string, args ...any) {
	e.findings = append(e.findings, finding{mark: markOK, check: check, result: fmt.Sprintf(format, args...)})
}

func (e *examination) note(check string, err error, need string) {
	e.findings = append(e.findings, finding{markNote, check, oneLine(err), "needed for: " + need})
}

// bad adds what prevents a start, and its cure: the error's own advice, or else cure, which is empty if the text of
// the error says what to do.
func (e *examination) bad(check string, err error, cure string) {
	result := oneLine(err)
	var own interface {
		error
		Advice() string
	}
	if errors.As(err, &own) {
		cure = own.Advice()
		result = strings.Replace(result, " ("+cure+")", "", 1)
	}
	if cure != "" {
		cure = "cure: " + cure
	}
	e.findings = append(e.findings, finding{markBad, check, result, cure})
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// doctor checks what a server needs, step by step, and prints the results and how to fix what is
// wrong. It tries the PIN once.
func doctor(ctx context.Context, c *Config, out io.Writer) error {
	e := &examination{}
	token := e.examineToken(ctx, c)
	if token != nil {
		defer func() { _ = token.Close() }() // the details are in the HSM's own log
	}
	e.examineTLSKey(c, token)
	if e.examineDatabase(ctx, c, token) { // otherwise verenc init may be to make both
		e.examineAudit(c)
	}
	e.examineFiles(c)
	e.examineClients(c)
	return e.print(out)
}

// examineToken returns the token, or nil if it could not be opened.
func (e *examination) examineToken(ctx context.Context, c *Config) *hsm.Token {
	tokens, err := hsm.Tokens(c.Token.Module, c.Token.InitArguments, hostCommand())
	if err != nil {
		e.bad("module", err, moduleCure+moduleHint(c.Token.Module))
		return nil
	}
	e.ok("module", "%s", c.Token.Module)
	var names []string
	for _, t := range tokens {
		names = append(names, fmt.Sprintf("%q (serial %s, %s)", t.Label, t.Serial, t.Model))
	}
	if len(tokens) == 0 {
		e.bad("tokens", errors.New("none"),
			"initialise a token with the HSM's own tools; for SoftHSM: softhsm2-util --init-token, or verenc dev"+
				moduleHint(c.Token.Module))
		return nil
	}
	e.ok("tokens", "%s", strings.Join(names, ", "))

	h, err := hsmConfig(c, zap.NewNop())
	if err != nil {
		e.bad("PIN", err, pinCure)
		return nil
	}
	h.ModuleCommand = hostCommand() // a module that crashes is a finding and must not end the doctor
	h.OnNotice = func(notice string) { e.note("PIN", errors.New(notice), "every start tries the PIN once") }
	token, err := hsm.Open(ctx, h)
	switch {
	case errors.Is(err, hsm.ErrPIN):
		e.bad("login", err, "") // it says what to do
		return nil
	case err != nil:
		e.bad("login", err, "set token.label or token.serial to one of the tokens above; check the HSM's own log")
		return nil
	}
	e.ok("login", "the token accepts the PIN")
	e.examineWitness(ctx, c, token)
	if call, err := callTime(ctx, token); err != nil {
		e.bad("latency", err, "check the network to the HSM, and its own log")
	} else {
		e.ok("latency", "a call takes %s, out of a process of its own", call.Round(time.Microsecond))
	}
	e.examineRoom(ctx, token)
	for _, check := range token.SelfTest(ctx) {
		v := judge(check)
		e.findings = append(e.findings, finding{v.mark, "self-test", v.text, v.advice})
		if !v.starts {
			e.cannot = append(e.cannot, v.text)
		}
	}
	return token
}

// examineRoom adds how full the token is.
func (e *examination) examineRoom(ctx context.Context, token *hsm.Token) {
	objects, err := token.Objects(ctx, "")
	if err != nil {
		e.bad("objects", err, "check the HSM's own log")
		return
	}
	free := "it does not say how much room is left"
	if s := token.Stats(); s.TotalMemory > 0 {
		free = fmt.Sprintf("%d of %d bytes of its room are free", s.FreeMemory, s.TotalMemory)
	}
	e.ok("objects", "%d private objects are in the token; %s", len(objects), free)
}

// examineDatabase reports whether there is a database that can be used.
func (e *examination) examineDatabase(ctx context.Context, c *Config, token *hsm.Token) bool {
	if err := databaseFile(c); err != nil {
		e.bad("database", err, "run verenc init")
		return false
	}
	if err := keepDatabasePassword(c); err != nil {
		e.bad("database", err, "put the password into a file of mode 600 and set database_password_file")
		return false
	}
	db, err := openStore(ctx, c, false)
	if err != nil {
		e.bad("database", err, databaseAdvice(c))
		return false
	}
	defer func() {
		if err := db.Close(); err != nil {
			e.bad("database", err, databaseAdvice(c))
		}
	}()
	if err := db.Ping(ctx); err != nil {
		e.bad("database", err, databaseAdvice(c))
		return false
	}
	e.ok("database", "%s answers and can be written", c.Database)
	if err := databaseExposed(c); err != nil {
		e.findings = append(e.findings, finding{markWarn, "database", err.Error(), "cure: " + exposedAdvice})
	}
	if token == nil {
		return true
	}
	if err := checkToken(ctx, db, token); err != nil {
		e.bad("keys", err, "connect the token that holds the keys; verenc doctor --reconcile lists what differs")
		return true
	}
	e.ok("keys", "the token holds the service's own keys and the newest ones of the database")
	return true
}

// examineAudit looks for the audit log, without which a server does not start. It does not verify it.
func (e *examination) examineAudit(c *Config) {
	if c.Audit.Dir == noAudit {
		return
	}
	origin, err := audit.Origin(os.DirFS(c.Audit.Dir))
	if err != nil {
		err = fmt.Errorf("%s: %w", c.Audit.Dir, err)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.bad("audit log", err, makeAudit)
	case errors.Is(err, fs.ErrPermission):
		e.bad("audit log", err, "make the user that runs verenc the owner of audit.dir")
	case err != nil:
		e.bad("audit log", err, mendAudit)
	case origin != c.Audit.Origin:
		e.bad("audit log", fmt.Errorf("the log in %s is of %s, not of %s", c.Audit.Dir, origin, c.Audit.Origin),
			"correct audit.dir or audit.origin")
	default:
		e.ok("audit log", "%s has the log of %s", c.Audit.Dir, origin)
	}
}

// examineFiles reads what a server reads when it starts.
func (e *examination) examineFiles(c *Config) {
	for _, check := range startChecks {
		if found, err := check.try(c); err != nil {
			e.bad(check.name, err, check.cure)
		} else if found != "" {
			e.ok(check.name, "%s", found)
		}
	}
}

// print writes the table. It returns an error when something is bad.
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
	if err := e.verdict(out); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("doctor: %d of %d checks are bad", bad, len(e.findings))
	}
	return nil
}
