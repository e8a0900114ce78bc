package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/audit/witness"
)

// verifyOptions are the flags of verenc audit verify.
type verifyOptions struct {
	keys            []string
	known           string
	all             bool
	withoutDatabase bool
	timeline        bool
}

func newAuditVerify(with withConfig) *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use: "verify FOLDER...", Args: cobra.MinimumNArgs(1),
		Short: "Check that no record was changed, removed, reordered or cut off",
		Long: `Check that no record was changed, removed, reordered or cut off.

For one log it needs public keys only. With --all it checks the logs of several servers, or of one: each by itself, against the
newest checkpoint that the database has of it, and against what the servers of the other logs have recorded of it. So it finds a
log that was set back to an earlier state, cut off or lost. It fails if anything is wrong with any log. Without --key, the keys are
those of the token, which has to prove that it has them; an auditor gives the keys that he knows, one for each log.`,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case !o.all && (len(args) > 1 || o.withoutDatabase || o.timeline):
			return errors.New("verify: several folders, --without-database and --timeline need --all")
		case !o.all && len(o.keys) == 0, o.withoutDatabase && len(o.keys) == 0:
			return errors.New("verify: --key is required: a public key as verenc audit keys prints it")
		case o.all && o.known != "":
			return errors.New("verify: --known is for one log, without --all")
		case !o.all:
			return verifyOne(args[0], o, cmd.OutOrStdout())
		}
		folders := make([]witness.Folder, len(args))
		for i, path := range args {
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("verify: %w", err)
			}
			folders[i] = witness.Folder{Path: filepath.Clean(path), FS: os.DirFS(path)}
		}
		e := witness.Evidence{Folders: folders, Keys: keysByName(o.keys)}
		if o.withoutDatabase {
			return verifyAll(e, o, cmd)
		}
		return with(func(cmd *cobra.Command, c *Config) error {
			if err := askDatabase(cmd.Context(), c, &e, len(o.keys) == 0); err != nil {
				return err
			}
			return verifyAll(e, o, cmd)
		})(cmd, args)
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.keys, "key", nil, "public key of the log, as verenc audit keys prints it; may be repeated")
	flags.StringVar(&o.known, "known", "", "a checkpoint from earlier, which the log must go on from")
	flags.BoolVar(&o.all, "all", false, "check the logs of all servers, and the database; name all folders")
	flags.BoolVar(&o.withoutDatabase, "without-database", false, "with --all: check the folders against each other only")
	flags.BoolVar(&o.timeline, "timeline", false,
		"with --all: print the records of all logs by time, as JSON lines with the name of the log; the findings go to standard error")
	return cmd
}

func verifyOne(folder string, o verifyOptions, out io.Writer) error {
	cfg := audit.VerifyConfig{Keys: o.keys}
	if o.known != "" {
		text, err := os.ReadFile(o.known)
		if err != nil {
			return fmt.Errorf("read the known checkpoint: %w", err)
		}
		cfg.Known = []audit.KnownCheckpoint{{From: "known checkpoint", Signed: text}}
	}
	report, err := audit.Verify(os.DirFS(folder), cfg)
	if err != nil && !errors.Is(err, audit.ErrTampered) {
		return err
	}
	printReport(out, report)
	return err
}

func printReport(out io.Writer, r audit.Report) {
	fmt.Fprintf(out, "log %s: %d records, %d sealed by the last checkpoint, %d behind it\n",
		r.Origin, r.Records, r.Sealed, r.Unsealed)
	for _, f := range r.Findings {
		fmt.Fprintln(out, f)
	}
	if r.More > 0 {
		fmt.Fprintf(out, "and %d more findings\n", r.More)
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(out, "the log is as it was written")
	}
}

// keysByName returns the keys that were given for a log.
func keysByName(keys []string) func(string) []string {
	return func(name string) []string {
		return slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return witness.Name(key) != name })
	}
}

// askDatabase adds what the database says, and the keys of the token, if they are wanted.
func askDatabase(ctx context.Context, c *Config, e *witness.Evidence, keys bool) (err error) {
	if err := databaseFile(c); err != nil {
		return fmt.Errorf("verify: %w (--without-database checks the folders against each other only)", err)
	}
	if keys {
		return withAuditComponents(ctx, c, func(p *components) error {
			proven, err := auditKeys(p).Proven(ctx)
			if err != nil {
				return err
			}
			e.Keys, e.Asked = witness.Keys(proven).Of, true
			e.Entries, err = witness.Entries(ctx, p.store)
			return err
		})
	}
	db, err := openStore(ctx, c, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	e.Asked = true
	e.Entries, err = witness.Entries(ctx, db)
	return err
}

func verifyAll(e witness.Evidence, o verifyOptions, cmd *cobra.Command) error {
	verdicts, err := witness.Check(e)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	out := cmd.OutOrStdout()
	if o.timeline {
		out = cmd.ErrOrStderr()
	}
	faults := 0
	for _, v := range verdicts {
		printVerdict(out, v)
		faults += len(v.Faults)
	}
	if o.timeline {
		if err := witness.WriteTimeline(e.Folders, cmd.OutOrStdout()); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
	}
	if faults > 0 {
		return fmt.Errorf("verify: %d faults in %d logs", faults, len(verdicts))
	}
	return nil
}

func printVerdict(out io.Writer, v witness.Verdict) {
	name, path := v.Log, v.Path
	if name == "" {
		name = "of unknown name"
	}
	if path == "" {
		path = "no folder"
	}
	fmt.Fprintf(out, "log %s (%s)\n", name, path)
	for _, holds := range v.Holds {
		fmt.Fprintln(out, "  holds:", holds)
	}
	for i, f := range v.Faults {
		fmt.Fprintln(out, "  fault:", f.Problem)
		if i == len(v.Faults)-1 || v.Faults[i+1].Cure != f.Cure {
			fmt.Fprintln(out, "  cure: ", f.Cure)
		}
	}
	if v.Report.More > 0 {
		fmt.Fprintf(out, "  and %d more faults\n", v.Report.More)
	}
}

func newAuditRetire(with withConfig) *cobra.Command {
	cmd := &cobra.Command{
		Use: "retire NAME", Args: cobra.ExactArgs(1),
		Short: "Say that the log with this audit.origin was ended on purpose, so that nobody misses it; no server may write it",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return with(func(cmd *cobra.Command, c *Config) error {
			return withAuditComponents(cmd.Context(), c, func(p *components) error {
				return retireAudit(cmd.Context(), c, p, args[0])
			})
		})(cmd, args)
	}
	return cmd
}

func retireAudit(ctx context.Context, c *Config, p *components, name string) error {
	entries, err := witness.InUse(ctx, p.store, name)
	switch {
	case err != nil:
		return err
	case len(entries) == 0:
		return fmt.Errorf("retire: the database has no audit log %s in use", name)
	case len(entries) > 1:
		return fmt.Errorf("retire: %d logs have the name %s: name one by its first public key, %s or %s",
			len(entries), name, entries[0].Log, entries[1].Log)
	}
	if err := p.newService(c, operator()); err != nil {
		return err
	}
	err = p.service.Records().WriteCommand(ctx, "RetireAuditLog", audit.Object{
		{Name: "auditLog", Value: entries[0].Log}, {Name: "lastCheckpoint", Value: string(entries[0].Newest)}})
	if err != nil {
		return err
	}
	signers, err := auditKeys(p).Signers(ctx)
	if err != nil {
		return err
	}
	return witness.Retire(ctx, p.store, entries[0].Log, signers[len(signers)-1], time.Now())
}
