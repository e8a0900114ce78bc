package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/evidence"
)

// migration has the arguments of verenc key migrate.
type migration struct {
	to     string
	all    bool
	region string
	keys   []string
}

// newKeyCommand returns the commands that manage where key material is.
func newKeyCommand(with func(func(*cobra.Command, *Config) error) func(*cobra.Command, []string) error) *cobra.Command {
	var m migration
	migrate := &cobra.Command{
		Use:   "migrate KEY... --to token|wrapped",
		Short: "Move keys to another residency: into the token, or, by a rotation, out of it, wrapped; servers may run",
	}
	migrate.Flags().StringVar(&m.to, "to", "", "token: the keys become objects in it; wrapped: symmetric keys get new material outside of it (needs token.residency: wrapped)")
	migrate.Flags().BoolVar(&m.all, "all", false, "all keys of all regions")
	migrate.Flags().StringVar(&m.region, "region", "", "region of the keys; default the first of the regions")
	migrate.RunE = func(cmd *cobra.Command, args []string) error {
		m.keys = args
		if err := checkResidency("migrate: --to", m.to); err != nil {
			return err
		}
		if m.all == (len(args) > 0) {
			return errors.New("migrate: name keys by their ids, ARNs or aliases, or give --all")
		}
		return with(func(cmd *cobra.Command, c *Config) error {
			return m.run(cmd.Context(), c, cmd.OutOrStdout())
		})(cmd, args)
	}
	return group("key", "Manage where key material lives", migrate)
}

// run migrates one key after the other, and prints the result for each. A failure does not stop the
// others.
func (m migration) run(ctx context.Context, c *Config, out io.Writer) (err error) {
	p, err := openForCommand(ctx, c, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	seen, failed := 0, 0
	migrate := func(region, name string) {
		seen++
		done, err := p.service.MigrateKey(ctx, c.Account, region, name, service.Residency(m.to))
		switch {
		case err != nil:
			failed++
			fmt.Fprintf(out, "%s: FAILED: %v\n", name, err)
		case done.Persisted > 0:
			fmt.Fprintf(out, "%s: %d materials are in the token now\n", name, done.Persisted)
		case done.Rotated:
			fmt.Fprintf(out, "%s: rotated; the new material is outside of the token, the old one stays in it\n", name)
		default:
			fmt.Fprintf(out, "%s: nothing to do\n", name)
		}
	}
	for _, name := range m.keys {
		migrate(regionOf(c, m.region), name)
	}
	if m.all {
		err = evidence.EachKey(ctx, p.store, func(k *service.Key) error {
			made := k.State != service.StateCreating && k.State != service.StateDeleting
			if made && k.Account == c.Account && (m.region == "" || m.region == k.Region) {
				migrate(k.Region, k.ID)
			}
			return ctx.Err()
		})
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("migrate: %d of %d keys failed", failed, seen)
	}
	return err
}
