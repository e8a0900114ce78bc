// Command verenc is an AWS-KMS-compatible key service whose keys live in a PKCS#11 token.
//
// It connects the packages: it reads the configuration, opens the token and the store, and serves.
// It trusts its configuration and everybody who can read its files. Secrets come from files and the
// environment, never from the command line, and are never logged.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/cmd/verenc/approvals"
	"github.com/verenc/kms/cmd/verenc/environment"
	"github.com/verenc/kms/cmd/verenc/version"
	"github.com/verenc/kms/hsm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err != nil {
		if _, command := err.(*environment.ExitError); !command { // which has said what was wrong
			fmt.Fprintln(os.Stderr, "verenc:", err)
		}
		os.Exit(exitStatus(err))
	}
}

// exitRestart is the exit status of a server whose PKCS#11 module can no longer be used in this
// process. It tells the supervisor to start another process.
const exitRestart = 3

// exitPIN is the exit status when the token refused the PIN. It tells the supervisor not to start
// another process, which would try the same PIN again: a few wrong ones lock a token.
const exitPIN = 4

func exitStatus(err error) int {
	switch {
	case errors.Is(err, hsm.ErrGivenUp):
		return exitRestart
	case errors.Is(err, hsm.ErrPIN):
		return exitPIN
	}
	if command := (*environment.ExitError)(nil); errors.As(err, &command) {
		return command.Status
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "verenc",
		Short:         "AWS-KMS-compatible key service on a PKCS#11 token",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.Read().String(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	path := root.PersistentFlags().StringP("config", "c", os.Getenv(envPrefix+"CONFIG"),
		"YAML file with the settings ["+envPrefix+"CONFIG]")
	addFlags(root.PersistentFlags())

	// with passes its configuration to a subcommand.
	with := func(run func(*cobra.Command, *Config) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, _ []string) error {
			load := func() (*Config, error) { return loadConfig(*path, cmd.Flags(), os.Environ) }
			c, err := load()
			if err != nil {
				return err
			}
			c.run.file, c.run.load = *path, load
			return run(cmd, c)
		}
	}

	initialise := &cobra.Command{
		Use: "init", Args: cobra.NoArgs,
		Short: "Create the database, the service's token objects and the first access key",
	}
	var o initOptions
	initialise.Flags().StringVar(&o.credentials, "credentials", "",
		"write the access key to this file, in the form of an AWS credentials file, instead of standard output")
	initialise.Flags().BoolVar(&o.addAccessKey, "add-access-key", false,
		"use the existing database, and create another access key for the account's root user")
	initialise.Flags().BoolVar(&o.ifMissing, "if-missing", false,
		"make what is missing of the database, the token objects and this server's audit log, and no access key")
	initialise.MarkFlagsMutuallyExclusive("if-missing", "add-access-key")
	initialise.MarkFlagsMutuallyExclusive("if-missing", "credentials")
	initialise.RunE = with(func(cmd *cobra.Command, c *Config) error {
		if o.ifMissing {
			return completeInit(cmd.Context(), c)
		}
		o.notes = cmd.ErrOrStderr()
		return runInit(cmd.Context(), c, o, cmd.OutOrStdout())
	})

	examine := &cobra.Command{
		Use: "doctor", Args: cobra.NoArgs,
		Short: "Check module, token, PIN, mechanisms, self-tests and database, and print how to fix what is wrong",
	}
	reconcile := examine.Flags().Bool("reconcile", false,
		"compare the database with the token instead: keys without objects, objects without keys")
	examine.RunE = with(func(cmd *cobra.Command, c *Config) error {
		if *reconcile {
			return reconcileReport(cmd.Context(), c, cmd.OutOrStdout())
		}
		return doctor(cmd.Context(), c, cmd.OutOrStdout())
	})
	root.AddCommand(newBackupCommands(with)...)
	// unchecked is a configuration whose settings nothing has checked, for commands that need few of them.
	unchecked := func(cmd *cobra.Command) (*Config, error) { return readConfig(*path, cmd.Flags(), os.Environ) }
	root.AddCommand(newDatabaseCommand(unchecked), newVersionCommand(unchecked))
	root.AddCommand(&cobra.Command{ // started by a server with token.isolate
		Use: moduleHost, Args: cobra.NoArgs, Hidden: true,
		RunE: func(*cobra.Command, []string) error { return hsm.HostModule() },
	})
	root.AddCommand(initialise, examine, newAuditCommand(with), newAttestCommand(with), newWitnessCommand(),
		newReportCommand(with), newKeyCommand(with), newTLSCommand(with),
		newDestructionCommand(unchecked),
		&cobra.Command{
			Use: "serve", Args: cobra.NoArgs,
			Short: "Serve the AWS API until SIGTERM or SIGINT",
			RunE:  with(func(cmd *cobra.Command, c *Config) error { return serve(cmd.Context(), c) }),
		},
		&cobra.Command{
			Use: "config", Args: cobra.NoArgs,
			Short: "Print every setting with its meaning and its value, as a YAML file, and say what is wrong",
			RunE: func(cmd *cobra.Command, _ []string) error {
				c, err := loadConfig(*path, cmd.Flags(), os.Environ)
				if c == nil {
					return err
				}
				switch {
				case *path == "" && nothingIsSet(cmd.Flags(), os.Environ()): // it is asked for the list of settings
					err = nil
				case err == nil:
					err = c.checkStart()
				}
				_, printed := fmt.Fprint(cmd.OutOrStdout(), c.describe())
				return errors.Join(err, printed)
			},
		},
	)
	root.AddCommand(newDocsCommand(), newDevCommand(), approvals.NewCommand())
	principals := principalCommands{config: unchecked}
	root.AddCommand(principals.all()...)
	return root
}

// withConfig makes a cobra.Command's RunE of a function that needs the configuration.
type withConfig func(run func(*cobra.Command, *Config) error) func(*cobra.Command, []string) error
