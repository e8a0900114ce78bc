package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/evidence"
)

// newAttestCommand makes attestations and verifies them. Verification needs no configuration, no token
// and no database.
func newAttestCommand(with withConfig) *cobra.Command {
	var region, file string
	var keys []string
	var withWitness bool
	cmd := &cobra.Command{
		Use: "attest KEY | --verify FILE --key PUBLICKEY", Args: cobra.MaximumNArgs(1),
		Short: "Print a signed statement of what the token says of a key: made there, never readable; or check one",
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				return verifyAttestation(file, keys, cmd.OutOrStdout())
			}
			if len(args) != 1 {
				return errors.New("attest: name a key by its id, ARN or alias, or a statement with --verify")
			}
			return with(func(cmd *cobra.Command, c *Config) error {
				return attest(cmd.Context(), c, region, args[0], withWitness, cmd.OutOrStdout())
			})(cmd, args)
		},
	}
	cmd.Flags().StringVar(&region, "region", "", "region of the key; default the first of the regions")
	cmd.Flags().BoolVar(&withWitness, "witness", false,
		"have a second PKCS#11 implementation read the attributes and use the key, and say so in the statement")
	cmd.Flags().StringVar(&file, "verify", "", "check the statement in this file instead")
	cmd.Flags().StringArrayVar(&keys, "key", nil,
		"public key of the audit log, as verenc audit keys prints it; may be repeated")
	return cmd
}

// attest signs with the audit log's key that is in force, which it finds without opening the log. It
// writes a statement with which the witness disagrees, too, and then fails.
func attest(ctx context.Context, c *Config, region, name string, withWitness bool, out io.Writer) (err error) {
	if c.Audit.Dir == noAudit {
		return errors.New("attest: audit.dir is none: name the folder of the audit log, whose key signs")
	}
	p, err := openForCommand(ctx, c, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	// The statement of a token that does not keep its keys to itself would be worth nothing.
	if _, err := selfTest(ctx, c, p); err != nil {
		return fmt.Errorf("attest: %w", err)
	}
	statement, err := p.examiner(c).Attest(ctx, c.Account, regionOf(c, region), name)
	if err != nil {
		return err
	}
	if withWitness {
		addWitness(ctx, c, p.token, statement)
	}
	origin, signer, err := currentSigner(ctx, c, p)
	if err != nil {
		return err
	}
	signed, err := statement.Sign(ctx, origin, signer)
	if err != nil {
		return err
	}
	if _, err = out.Write(signed); err != nil {
		return err
	}
	return disagreement(statement)
}

// disagreement returns an error when the witness disagrees.
func disagreement(a *evidence.Attestation) error {
	if a.WitnessVerdict() == evidence.WitnessDisagrees {
		return errors.New("attest: the witness disagrees with the statement: don't rely on it; " +
			"ask the HSM's vendor, and compare the versions of its module")
	}
	return nil
}

// describeWitness prints what the witness says.
func describeWitness(out io.Writer, a *evidence.Attestation) {
	if a.Witness == nil {
		return
	}
	fmt.Fprintf(out, "witness %s %s\n", a.Witness.Implementation, a.Witness.Version)
	if a.Witness.Failure != "" {
		fmt.Fprintf(out, "%q\n", a.Witness.Failure)
	}
	for _, o := range a.Witness.Objects {
		fmt.Fprintf(out, "object %s, %s: the witness %s; challenge %s: %s",
			o.ID, o.Role, o.Verdict, o.Challenge, o.Result)
		if o.Reason != "" {
			fmt.Fprintf(out, "; %q", o.Reason)
		}
		fmt.Fprintln(out)
	}
	switch a.WitnessVerdict() {
	case evidence.WitnessAgrees:
		fmt.Fprintln(out, "two implementations agree on all objects")
	case evidence.WitnessDisagrees:
		fmt.Fprintln(out, "the witness DISAGREES")
	default:
		fmt.Fprintln(out, "the witness could not say of all objects")
	}
}

// regionOf returns the region that was asked for, or the first that is served.
func regionOf(c *Config, asked string) string {
	switch {
	case asked != "":
		return asked
	case c.Regions[0] != "*":
		return c.Regions[0]
	}
	return "us-east-1"
}

func verifyAttestation(file string, keys []string, out io.Writer) error {
	if len(keys) == 0 {
		return errors.New("attest: --verify needs --key, a public key that verenc audit keys has printed")
	}
	text, err := readSigned(file)
	if err != nil {
		return err
	}
	a, err := evidence.VerifyAttestation(text, keys...)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the statement of %s is signed by that key\n", a.Time.Format(time.RFC3339))
	fmt.Fprintf(out, "key %s: %s, %s, origin %s, %s, created %s\n",
		a.Key.ARN, a.Key.Spec, a.Key.Usage, a.Key.Origin, a.Key.State, a.Key.CreatedAt.Format(time.RFC3339))
	fmt.Fprintf(out, "token %q: %s %s, serial %s, firmware %s\n",
		a.Token.Label, a.Token.Manufacturer, a.Token.Model, a.Token.Serial, a.Token.Firmware)
	describe := func(m evidence.AttestedMaterial, o evidence.AttestedObject) {
		fmt.Fprintf(out, "material %d, %s: LOCAL %t, NEVER_EXTRACTABLE %t, EXTRACTABLE %t, ALWAYS_SENSITIVE %t, "+
			"SENSITIVE %t, mechanism %s, label %s\n", m.Ordinal, o.Role, o.Local, o.NeverExtractable, o.Extractable,
			o.AlwaysSensitive, o.Sensitive, o.Mechanism, o.Label)
	}
	for _, m := range a.Materials {
		for _, o := range m.Objects {
			describe(m, o)
		}
		if m.WrappedUnder != nil {
			fmt.Fprintf(out, "material %d is kept outside of the token, wrapped under:\n", m.Ordinal)
			describe(m, *m.WrappedUnder)
		}
	}
	verdict := "the token does not say that all of its material was made in it and could never be read"
	if a.BornInToken() {
		verdict = "all of its material was made in the token and could never be read or taken out"
	}
	fmt.Fprintln(out, verdict)
	describeWitness(out, a)
	return disagreement(a)
}
