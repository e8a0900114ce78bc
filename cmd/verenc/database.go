package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"go.uber.org/zap"

	"github.com/spf13/cobra"

	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/transport"
)

// keepDatabasePassword reads the password the first time: a variable that holds it is gone then. It
// comes before whatever starts processes, which would inherit the variable.
func keepDatabasePassword(c *Config) (err error) {
	if store.IsURL(c.Database) && c.run.databasePassword == "" {
		c.run.databasePassword, err = readDatabasePassword(c)
	}
	return err
}

func storeConfig(c *Config) (store.Config, error) {
	err := keepDatabasePassword(c)
	return store.Config{Path: c.Database, Password: c.run.databasePassword,
		Grace: c.DatabaseGrace, OnChange: c.run.databaseChanged,
		Connections: c.DatabaseConnections, ConnectTimeout: c.DatabaseConnect}, err
}

// openStore opens the database, or makes it.
func openStore(ctx context.Context, c *Config, create bool) (*store.DB, error) {
	sc, err := storeConfig(c)
	if err != nil {
		return nil, err
	}
	sc.Create = create
	return store.Open(ctx, sc)
}

// databaseFile is the error of a database that is a file and can't be found. A server is asked when it
// is opened.
func databaseFile(c *Config) error {
	if store.IsURL(c.Database) {
		return nil
	}
	_, err := os.Stat(c.Database)
	return err
}

// databaseAdvice says what to look at when the database fails.
func databaseAdvice(c *Config) string {
	if store.IsURL(c.Database) {
		return "check the PostgreSQL server and its log"
	}
	return "check the file's owner and the free space; restore it from a backup if it is damaged"
}

// databaseExposed is what is wrong with the way to the database, or nil.
func databaseExposed(c *Config) error {
	if host := store.ExposedHost(c.Database); host != "" {
		return fmt.Errorf("whoever is on the network to the PostgreSQL server %s can read and change what goes there: "+
			"sslmode is weaker than verify-full", host)
	}
	return nil
}

const exposedAdvice = "put sslmode=verify-full&sslrootcert=FILE into the URL of database"

// logDatabase says when the database is lost, and when it is back.
func logDatabase(log *zap.Logger, grace time.Duration) func(error) {
	return func(err error) {
		switch {
		case err == nil:
			log.Info("database connected")
		case errors.Is(err, store.ErrOutdated):
			log.Error("database upgraded; requests fail until this server is upgraded, too", zap.Error(err))
		default:
			log.Error("database lost; changes fail until it is back, and uses of keys go on for database_grace",
				zap.Duration("grace", grace), zap.Error(err))
		}
	}
}

// databaseReady is the check of /readyz. While the database is away and keys may be used all the same,
// the server is not out of service: if its load balancer took it, and every other one, out, the grace
// would be of no use.
func databaseReady(db *store.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		err := db.Ping(ctx)
		if err != nil && db.Serves() {
			return transport.Degraded(err)
		}
		return err
	}
}

// newDatabaseCommand makes the commands for the database as a whole.
func newDatabaseCommand(config func(*cobra.Command) (*Config, error)) *cobra.Command {
	var to string
	move := &cobra.Command{
		Use: "move --to postgres://USER@HOST/DATABASE", Args: cobra.NoArgs,
		Short: "Copy the database from SQLite into PostgreSQL, and compare every row; no server may run",
	}
	move.Flags().StringVar(&to, "to", "", "the empty PostgreSQL database; its password comes as that of database does")
	move.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config(cmd)
		if err != nil {
			return err
		}
		return moveDatabase(cmd.Context(), c, to, cmd.OutOrStdout())
	}
	return group("database", "Manage the database as a whole", move)
}

func moveDatabase(ctx context.Context, c *Config, to string, out io.Writer) (err error) {
	if err := store.CheckURL(to); err != nil || !store.IsURL(to) {
		return errors.Join(errors.New("move the database: --to: give the URL of a PostgreSQL database"), err)
	}
	there := *c
	there.Database = to
	target, err := storeConfig(&there)
	if err != nil {
		return err
	}
	counted := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	moved := func(table string, rows int) { fmt.Fprintf(counted, "%d\t %s\n", rows, table) }
	if err = store.Move(ctx, c.Database, target, moved); err != nil {
		return err
	}
	err = recorded(ctx, &there, "MoveDatabase", c.Database, func(*store.DB) error { return nil })
	if err = errors.Join(err, counted.Flush()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "every row was compared; now set database: %s, "+
		"and move %s away, so that no server uses it any more\n", to, c.Database)
	return err
}
