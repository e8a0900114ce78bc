package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/audit/witness"
	"github.com/verenc/kms/service/record"
)

func newAuditQuarantine(with withConfig) *cobra.Command {
	return &cobra.Command{
		Use: "quarantine", Args: cobra.NoArgs,
		Short: "Set a damaged audit log aside and begin another, while no server runs",
		Long: `Set a damaged audit log aside, whole and as it is, and begin another one in its folder, with a signing key of its own.

The new log's first record names the old log's last verified checkpoint and says what can no longer be proven of the old log; the
command prints that, too. Prefer to restore the log from a copy: what is only quarantined stays damaged. A log that
verenc audit verify finds nothing wrong with is refused.`,
		RunE: with(func(cmd *cobra.Command, c *Config) error {
			return withAuditComponents(cmd.Context(), c, func(p *components) error {
				return quarantineAudit(cmd.Context(), c, p, cmd.OutOrStdout())
			})
		}),
	}
}

// maxUnproven is the largest number of sentences in the new log's first record that say what can no
// longer be proven.
const maxUnproven = 20

func quarantineAudit(ctx context.Context, c *Config, p *components, out io.Writer) error {
	if err := p.newService(c, operator()); err != nil {
		return err
	}
	signers, err := auditKeys(p).Signers(ctx)
	if err != nil {
		return err
	}
	keys, err := verifierKeys(c, signers)
	if err != nil {
		return err
	}
	old, known, err := knownOf(ctx, c, p)
	if err != nil {
		return err
	}
	// An intact log is refused before a new key is made.
	if _, err := audit.Verify(os.DirFS(c.Audit.Dir), audit.VerifyConfig{Keys: keys, Known: known}); err == nil {
		return fmt.Errorf("quarantine %s: %w", c.Audit.Dir, audit.ErrIntact)
	}
	next, err := auditKeys(p).Next(ctx)
	if err != nil {
		return err
	}
	outputs, err := auditOutputs(c)
	if err != nil {
		return err
	}
	q, err := audit.Quarantine(ctx, audit.QuarantineConfig{
		Log:  auditConfig(c, true, append([]audit.Signer{next}, signers...), outputs),
		Keys: keys, Known: known, Now: time.Now(),
		First: func(q *audit.Quarantined) (*audit.Record, error) { return firstRecord(p.service.Records(), q) },
	})
	if err != nil {
		return stopFirst(err)
	}
	for _, e := range old {
		if err := witness.Retire(ctx, p.store, e.Log, next, time.Now()); err != nil {
			return err
		}
	}
	if err := newWitness(c, p).Start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "the damaged log is in %s, as it was; keep it as evidence\n"+
		"its last verified checkpoint, which the first record of the new log names:\n", q.Dir)
	if len(q.Report.Checkpoint) == 0 {
		fmt.Fprintln(out, "none")
	}
	fmt.Fprintf(out, "%s\nof the damaged log:\n", q.Report.Checkpoint)
	for _, sentence := range q.Unproven() {
		fmt.Fprintln(out, "-", sentence)
	}
	key, err := audit.VerifierKey(c.Audit.Origin, next.Public())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "the new log is in %s; give its key to the auditors:\n%s\n", c.Audit.Dir, key)
	return err
}

// knownOf returns the logs of this name that the database has in use, and their checkpoints that count.
func knownOf(ctx context.Context, c *Config, p *components) ([]witness.Entry, []audit.KnownCheckpoint, error) {
	entries, err := witness.InUse(ctx, p.store, c.Audit.Origin)
	if err != nil {
		return nil, nil, err
	}
	proven, err := auditKeys(p).Proven(ctx)
	if err != nil {
		return nil, nil, err
	}
	var known []audit.KnownCheckpoint
	for _, e := range entries {
		if k, ok := e.Known(proven); ok {
			known = append(known, k)
		}
	}
	return entries, known, nil
}

// verifierKeys returns all keys that the log may have, under the log's own name if that can be read.
func verifierKeys(c *Config, signers []audit.Signer) (keys []string, err error) {
	origin, _, err := audit.Current(os.DirFS(c.Audit.Dir), signers)
	if err != nil {
		origin = c.Audit.Origin
	}
	for _, s := range signers {
		key, err := audit.VerifierKey(origin, s.Public())
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func firstRecord(records *record.Recorder, q *audit.Quarantined) (*audit.Record, error) {
	unproven := q.Unproven()
	listed := slices.Clone(unproven[:min(len(unproven), maxUnproven)])
	r, err := records.NewCommand("QuarantineAuditLog", audit.Object{{Name: "quarantinedLog", Value: q.Dir},
		{Name: "lastCheckpoint", Value: string(q.Report.Checkpoint)},
		{Name: "unproven", Value: listed}, {Name: "more", Value: len(unproven) - len(listed)}})
	return &r, err
}
