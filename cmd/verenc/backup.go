package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/evidence"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/store"
)

// newBackupCommands returns the commands that back up and restore the database, which has the metadata
// and the keys of residency wrapped. Other key material is in the token, which the HSM's tools back up.
func newBackupCommands(with withConfig) []*cobra.Command {
	backup := &cobra.Command{
		Use: "backup FILE", Args: cobra.ExactArgs(1),
		Short: "Copy the database to a file, while servers may run; keys stay in the token, or are in the database wrapped by it",
	}
	backup.RunE = func(cmd *cobra.Command, args []string) error {
		return with(func(cmd *cobra.Command, c *Config) error {
			return backUp(cmd.Context(), c, args[0])
		})(cmd, args)
	}
	restore := &cobra.Command{
		Use: "restore FILE", Args: cobra.ExactArgs(1),
		Short: "Make the database of a backup, and compare it with the token",
	}
	restore.RunE = func(cmd *cobra.Command, args []string) error {
		return with(func(cmd *cobra.Command, c *Config) error {
			if err := store.Restore(cmd.Context(), args[0], c.Database); err != nil {
				return err
			}
			err := recorded(cmd.Context(), c, "Restore", args[0], func(*store.DB) error { return nil })
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "restored %s\n", c.Database)
			return reconcileReport(cmd.Context(), c, cmd.OutOrStdout())
		})(cmd, args)
	}
	return []*cobra.Command{backup, restore}
}

// backUp copies the database, if the guard of the account lets it: a copy is a point to which somebody could return.
func backUp(ctx context.Context, c *Config, file string) (err error) {
	p, err := openGuarded(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	command := &record.Command{Name: "Backup", Account: c.Account,
		Parameters: audit.Object{{Name: "file", Value: file}}}
	return p.service.Records().Run(ctx, command, func(ctx context.Context) error {
		if err := record.BeforeChange(ctx); err != nil {
			return err
		}
		return p.store.Backup(ctx, file)
	})
}

// recorded records a command about a file, and runs it.
func recorded(ctx context.Context, c *Config, name, file string, do func(*store.DB) error) (err error) {
	p, err := openDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.service.Records().WriteCommand(ctx, name, audit.Object{{Name: "file", Value: file}}); err != nil {
		return err
	}
	return do(p.store)
}

// reconcileReport prints keys without objects and objects without keys. It fails when there are keys
// that can't be used.
func reconcileReport(ctx context.Context, c *Config, out io.Writer) (err error) {
	p, err := openComponents(ctx, c, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	inv, err := evidence.TakeInventory(ctx, p.store, p.token)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d keys in the database, %d objects in the token\n", inv.Keys, inv.Objects)
	for _, o := range inv.Lost {
		fmt.Fprintf(out, "no object: %s of key %s %s (CKA_ID %s)\n", o.Role, o.KeyID, o.Region, o.ID)
	}
	for _, o := range inv.OrphanObjects {
		fmt.Fprintf(out, "no key:    object %s (CKA_ID %s)\n", o.Label, o.ID)
	}
	for _, o := range inv.TLS {
		fmt.Fprintf(out, "TLS key:   object %s (CKA_ID %s), %s\n", o.Label, o.ID, usedAsTLSKey(c, o))
	}
	if inv.SelfTest > 0 {
		fmt.Fprintf(out, "self-test: %d objects of self-tests that run or were broken off; a start destroys those older than %v\n",
			inv.SelfTest, selftest.LeftOverAfter)
	}
	switch {
	case len(inv.Lost) > 0:
		return fmt.Errorf("reconcile: the token lacks %d objects: restore the HSM's backup of the same time",
			len(inv.Lost))
	case len(inv.OrphanObjects) > 0:
		fmt.Fprintln(out, "cure: objects without keys are of a newer state of this database, of another database of Verenc "+
			"that uses this token, or left over: restore the newest backup; if none is newer and no other database uses "+
			"this token, destroy them with the HSM's tools")
	default:
		fmt.Fprintln(out, "database and token agree")
	}
	return nil
}

var _ evidence.ObjectLister = (*hsm.Token)(nil)
