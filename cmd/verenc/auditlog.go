package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/audit/witness"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/record"
)

// noAudit is the audit.dir of a server that keeps no audit log.
const noAudit = "none"

// What to do where there is no audit log, and with one that was damaged.
const (
	makeAudit = "verenc audit init makes a log; audit.dir: " + noAudit + " is for none"
	mendAudit = "verenc audit verify says where; restore the log from a copy, " +
		"or verenc audit quarantine sets it aside and begins another"
)

// openAudit opens the audit log, or makes it when create is set, and p.witness, which has compared it
// with the database.
func openAudit(ctx context.Context, c *Config, p *components, create bool) (*audit.Log, error) {
	keys := auditKeys(p)
	signers, err := keys.Signers(ctx)
	if err != nil {
		return nil, err
	}
	if create {
		if err := witness.Free(ctx, p.store, c.Audit.Origin); err != nil {
			return nil, err
		}
		slices.Reverse(signers) // a new log begins with the newest key
	}
	outputs, err := auditOutputs(c)
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(ctx, auditConfig(c, create, signers, outputs))
	switch {
	case create:
	case errors.Is(err, audit.ErrTampered):
		err = fmt.Errorf("%w (%s)", err, mendAudit)
	case errors.Is(err, fs.ErrNotExist):
		cure := mendAudit // a file of the log is missing
		if _, none := audit.Origin(os.DirFS(c.Audit.Dir)); errors.Is(none, fs.ErrNotExist) {
			cure = makeAudit
		}
		err = fmt.Errorf("%w (%s)", err, cure)
	}
	if err != nil {
		return nil, err
	}
	p.witness = newWitness(c, p)
	if err := p.witness.Start(ctx); err != nil {
		return nil, errors.Join(err, endAudit(log, c.ShutdownTimeout))
	}
	return log, nil
}

// newWitness returns the witness of the audit logs, for a log that is open.
func newWitness(c *Config, p *components) *witness.Witness {
	return witness.New(witness.Config{
		Folder: os.DirFS(c.Audit.Dir), Store: p.store, Now: time.Now, Log: p.log,
		Keys: func(ctx context.Context) (witness.Keys, error) { return auditKeys(p).Proven(ctx) },
		Record: func(ctx context.Context, name string, data audit.Object) error {
			return p.service.Records().ServerEvent(ctx, name, data)
		},
	})
}

// reportAudit tells the other servers that this one could not open its log.
func reportAudit(ctx context.Context, c *Config, p *components, cause error) {
	if !errors.Is(cause, audit.ErrTampered) && !errors.Is(cause, fs.ErrNotExist) {
		return
	}
	if err := witness.Report(ctx, p.store, c.Audit.Origin, operator().Host+": "+cause.Error()); err != nil {
		p.log.Warn("tell the other servers that the audit log can't be opened", zap.Error(err))
	}
}

func auditConfig(c *Config, create bool, signers []audit.Signer, outputs []audit.Output) audit.Config {
	return audit.Config{
		Dir: c.Audit.Dir, Create: create, Origin: c.Audit.Origin, Signers: signers, Outputs: outputs,
		CheckpointEvery: int64(c.Audit.CheckpointEvery), CheckpointWithin: c.Audit.CheckpointWithin,
		SegmentBytes: int64(c.Audit.SegmentBytes), SyncWithin: c.Audit.SyncWithin,
	}
}

func auditKeys(p *components) evidence.AuditKeys {
	return evidence.AuditKeys{Store: p.store, Token: p.token, Now: time.Now, Rand: rand.Reader}
}

// auditOutputs returns the sinks to which records go, too.
func auditOutputs(c *Config) ([]audit.Output, error) {
	var outputs []audit.Output
	add := func(name string, required bool, sink audit.Sink) {
		outputs = append(outputs, audit.Output{Name: name, Sink: sink, Required: required})
	}
	if c.Audit.Stdout {
		add("stdout", c.Audit.StdoutRequired, audit.NewWriterSink(os.Stdout))
	}
	if c.Audit.Syslog != "" {
		u, err := url.Parse(c.Audit.Syslog)
		if err != nil || u.Scheme == "" || u.Host+u.Path == "" {
			return nil, fmt.Errorf("audit.syslog: %q is not like udp://host:514 or unixgram:///dev/log", c.Audit.Syslog)
		}
		sink, err := audit.NewSyslogSink(audit.SyslogConfig{Network: u.Scheme, Address: u.Host + u.Path})
		if err != nil {
			return nil, fmt.Errorf("audit.syslog: %w", err)
		}
		add("syslog", c.Audit.SyslogRequired, sink)
	}
	if c.Audit.HTTP != "" {
		authorization := &secretFile{setting: "audit.http_authorization_file", path: c.Audit.HTTPAuthorizationFile}
		if _, err := authorization.reload(); err != nil {
			return nil, err
		}
		c.run.reload = append(c.run.reload, reloadable{authorization.setting, authorization.reload})
		sink, err := audit.NewHTTPSink(audit.HTTPConfig{URL: c.Audit.HTTP, Authorization: authorization.value})
		if err != nil {
			return nil, fmt.Errorf("audit.http: %w", err)
		}
		add("http", c.Audit.HTTPRequired, sink)
	}
	return outputs, nil
}

// endAudit seals the log.
func endAudit(log *audit.Log, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return log.Close(ctx)
}

// publishTimeout is how long a process that ends waits for the database.
const publishTimeout = 5 * time.Second

// closeAudit seals the log, and publishes its last checkpoint. If the database is away, the next start
// publishes it.
func (p *components) closeAudit(log *audit.Log) error {
	err := endAudit(log, p.shutdown)
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	if err := p.witness.Publish(ctx); err != nil {
		p.log.Warn("publish the last checkpoint of the audit log; the next start does it", zap.Error(err))
	}
	return err
}

// newAuditCommand returns the commands about the audit log. verify, prove and check-proof need no
// server, no token and no database.
func newAuditCommand(with withConfig) *cobra.Command {
	root := &cobra.Command{Use: "audit", Short: "Make, verify and prove the audit log"}
	root.AddCommand(
		&cobra.Command{
			Use: "init", Args: cobra.NoArgs, Short: "Begin an audit log for an existing database",
			RunE: with(func(cmd *cobra.Command, c *Config) error {
				return withAudit(cmd.Context(), c, true, func(*components, *audit.Log) error { return nil })
			}),
		},
		&cobra.Command{
			Use: "rotate-key", Args: cobra.NoArgs, Short: "Put a new signing key in force, while no server runs",
			RunE: with(func(cmd *cobra.Command, c *Config) error {
				return withAudit(cmd.Context(), c, false, func(p *components, log *audit.Log) error {
					next, err := auditKeys(p).Next(cmd.Context())
					if err != nil {
						return err
					}
					return log.Rotate(cmd.Context(), next)
				})
			}),
		},
		&cobra.Command{
			Use: "keys", Args: cobra.NoArgs, Short: "Print the log's public keys, for verify; the current one last",
			RunE: with(func(cmd *cobra.Command, c *Config) error {
				return withAuditComponents(cmd.Context(), c, func(p *components) error {
					return printAuditKeys(cmd.Context(), c, p, cmd.OutOrStdout())
				})
			}),
		},
		newAuditVerify(with), newAuditRetire(with), newAuditProve(), newAuditCheck(), newAuditQuarantine(with),
	)
	return root
}

// printAuditKeys prints the log's public keys. It does not open the log, which a server may be writing.
func printAuditKeys(ctx context.Context, c *Config, p *components, out io.Writer) error {
	signers, err := auditKeys(p).Signers(ctx)
	if err != nil {
		return err
	}
	origin, current, err := audit.Current(os.DirFS(c.Audit.Dir), signers)
	if err != nil {
		return err
	}
	for _, s := range signers {
		key, err := audit.VerifierKey(origin, s.Public())
		if err != nil {
			return err
		}
		fmt.Fprintln(out, key)
		if s == current {
			break // the next was made by a rotate-key that was broken off
		}
	}
	return nil
}

// withAuditComponents opens what signs the log, but not the log.
func withAuditComponents(ctx context.Context, c *Config, f func(*components) error) (err error) {
	if c.Audit.Dir == noAudit {
		return errors.New("audit.dir is none: name the folder of the log")
	}
	p, err := openComponents(ctx, c, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return f(p)
}

// stopFirst adds to the error of a log that is in use what the operator of a command has to do.
func stopFirst(err error) error {
	if errors.Is(err, audit.ErrInUse) {
		return fmt.Errorf("%w (stop the server first)", err)
	}
	return err
}

// withAudit opens what signs the log, and the log.
func withAudit(ctx context.Context, c *Config, create bool, f func(*components, *audit.Log) error) error {
	return withAuditComponents(ctx, c, func(p *components) error {
		log, err := openAudit(ctx, c, p, create)
		if err != nil {
			return stopFirst(err)
		}
		return errors.Join(f(p, log), p.closeAudit(log))
	})
}

func newAuditProve() *cobra.Command {
	return &cobra.Command{
		Use: "prove FOLDER ID", Args: cobra.ExactArgs(2),
		Short: "Print a proof that a record, by its event or request id, is in the log",
		RunE: func(cmd *cobra.Command, args []string) error {
			log := os.DirFS(args[0])
			found, err := audit.Find(log, args[1])
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return fmt.Errorf("prove: no record has the event or request id %s", args[1])
			}
			for _, index := range found {
				proof, err := audit.Prove(log, index)
				if err != nil {
					return err
				}
				fmt.Fprint(cmd.OutOrStdout(), string(proof))
			}
			return nil
		},
	}
}

func newAuditCheck() *cobra.Command {
	var keys []string
	cmd := &cobra.Command{
		Use: "check-proof FILE", Args: cobra.ExactArgs(1),
		Short: "Check a proof of verenc audit prove, and print its record",
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := os.ReadFile(filepath.Clean(args[0]))
			if err != nil {
				return fmt.Errorf("read the proof: %w", err)
			}
			proven, err := audit.VerifyProof(text, keys...)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "record %d of %d in log %s:\n%s\n",
				proven.Index, proven.Size, proven.Origin, strings.TrimSpace(string(proven.Record)))
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "public key of the log; may be repeated")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

// auditor is what the service keeps its records with.
func auditor(log *audit.Log) record.Auditor {
	if log == nil {
		return record.NoAudit
	}
	return log
}
