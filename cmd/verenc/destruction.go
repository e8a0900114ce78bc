package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/destruction"
	"github.com/verenc/kms/service/store"
)

// newDestructionCommand shows the certificates of destroyed key material. Verification needs no configuration, no
// token and no database.
func newDestructionCommand(config func(*cobra.Command) (*Config, error)) *cobra.Command {
	type run = func(*cobra.Command, []string) error
	inStore := func(do func(cmd *cobra.Command, args []string, db *store.DB) error) run {
		return func(cmd *cobra.Command, args []string) error {
			c, err := config(cmd)
			if err != nil {
				return err
			}
			return withStore(cmd.Context(), c, func(db *store.DB) error { return do(cmd, args, db) })
		}
	}
	list := &cobra.Command{
		Use: "list", Args: cobra.NoArgs, Short: "List the certificates, the oldest first",
		RunE: inStore(func(cmd *cobra.Command, _ []string, db *store.DB) error {
			return listDestructions(cmd.Context(), db, cmd.OutOrStdout())
		}),
	}
	show := &cobra.Command{
		Use: "show CERTIFICATE", Args: cobra.ExactArgs(1),
		Short: "Print a signed certificate, as an auditor keeps it",
		RunE: inStore(func(cmd *cobra.Command, args []string, db *store.DB) error {
			d, err := db.Destruction(cmd.Context(), args[0])
			if errors.Is(err, service.ErrNoRow) {
				return fmt.Errorf("destruction show: there is no certificate %s (verenc destruction list)", args[0])
			}
			if err == nil {
				_, err = cmd.OutOrStdout().Write(d.Signed)
			}
			return err
		}),
	}
	var keys []string
	verify := &cobra.Command{
		Use: "verify FILE", Args: cobra.ExactArgs(1), Short: "Check a certificate, with the public key alone",
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyDestruction(args[0], keys, cmd.OutOrStdout())
		},
	}
	verify.Flags().StringArrayVar(&keys, "key", nil,
		"public key of the audit log, as verenc audit keys prints it; may be repeated")
	_ = verify.MarkFlagRequired("key") // the flag exists
	return group("destruction", "Show and check the certificates of destroyed key material", list, show, verify)
}

// withStore opens the database for a command that changes nothing.
func withStore(ctx context.Context, c *Config, do func(*store.DB) error) (err error) {
	p, err := openDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return do(p.store)
}

// destructionsAtOnce is how many certificates are read at once.
const destructionsAtOnce = 100

func listDestructions(ctx context.Context, db *store.DB, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "certificate\tdestroyed\tregion\tkey")
	var at time.Time
	id := ""
	for {
		some, err := db.Destructions(ctx, at, id, destructionsAtOnce)
		if err != nil {
			return err
		}
		for _, d := range some {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.ID, reportDate(d.At), d.Region, d.KeyID)
			at, id = d.At, d.ID
		}
		if len(some) < destructionsAtOnce {
			return w.Flush()
		}
	}
}

// maxSignedFile is far more than a signed statement has, in bytes. A key may have thousands of materials.
const maxSignedFile = 16 << 20

// readSigned reads the file of a signed statement, a certificate or an attestation, which may be anybody's.
func readSigned(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the statement: %w", err)
	}
	defer f.Close() // it is only read
	signed, err := io.ReadAll(io.LimitReader(f, maxSignedFile+1))
	if err == nil && len(signed) > maxSignedFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxSignedFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the statement: %w", err)
	}
	return signed, nil
}

func verifyDestruction(file string, keys []string, out io.Writer) error {
	signed, err := readSigned(file)
	if err != nil {
		return err
	}
	d, err := destruction.Verify(signed, keys...)
	if err != nil {
		return err
	}
	return describeDestruction(d, out)
}

// describeDestruction writes a certificate as text. It quotes what clients have chosen.
func describeDestruction(d *destruction.Statement, out io.Writer) error {
	what := "the material"
	if d.Key.Deleted {
		what = "the key and all of its material"
	}
	fmt.Fprintf(out, "the signature is good\n%s: %s was destroyed\nkey %s, %s, %s, origin %s, made %s\n",
		d.Time.Format(time.RFC3339), what, d.Key.ARN, d.Key.Spec, d.Key.Usage, d.Key.Origin,
		d.Key.CreatedAt.Format(time.RFC3339))
	fmt.Fprintf(out, "asked for by %q, %s %s, record %s\napproved by %s\n", cmp.Or(d.Request.Principal, "the service itself"),
		d.Request.Operation, d.Request.At.Format(time.RFC3339), cmp.Or(d.Request.EventID, "none"),
		cmp.Or(strings.Join(d.Request.ApprovedBy, ", "), "nobody: no approval was asked for"))
	fmt.Fprintf(out, "token %q, serial %q, %q %q\n", d.Token.Label, d.Token.Serial, d.Token.Manufacturer, d.Token.Model)
	for _, m := range d.Materials {
		fmt.Fprintf(out, "material %d, %s, made %s\n", m.Ordinal, m.ID, m.CreatedAt.Format(time.RFC3339))
		for _, o := range m.Objects {
			fmt.Fprintf(out, "  object %s, %s: %s\n", o.ID, o.Role, destroyedObject(o.Attributes))
		}
		if m.WrappedUnder != nil {
			fmt.Fprintf(out, "  it was kept in the database, wrapped under object %s: backups of the database may have it\n",
				m.WrappedUnder)
		}
	}
	return nil
}

// destroyedObject says what was destroyed.
func destroyedObject(a *hsm.Attributes) string {
	if a == nil {
		return "an earlier attempt had destroyed it; a search finds it no more"
	}
	born := "not made in the token"
	if a.Local {
		born = "made in the token"
	}
	left := "could have left it"
	if a.NeverExtractable {
		left = "could never leave it"
	}
	return fmt.Sprintf("%q, %s, %s, %s: destroyed, and a search finds it no more", a.Label, a.KeyType, born, left)
}
