package main

import (
	"context"
	"os"

	"github.com/verenc/kms/service/store"
)

// keepDatabasePassword reads the password the first time: a variable that holds it is gone then. It comes before whatever starts
// processes, which would inherit the variable.
func keepDatabasePassword(c *Config) (err error) {
	if store.IsURL(c.Database) && c.run.databasePassword == "" {
		c.run.databasePassword, err = readDatabasePassword(c)
	}
	return err
}

func openStore(ctx context.Context, c *Config, create bool) (*store.DB, error) {
	if err := keepDatabasePassword(c); err != nil {
		return nil, err
	}
	return store.Open(ctx, store.Config{Path: c.Database, Create: create, Password: c.run.databasePassword,
		Connections: c.DatabaseConnections, ConnectTimeout: c.DatabaseConnect})
}

// databaseFile is the error of a database that is a file and can't be found. A server is asked when it is opened.
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
	return "check the file's owner and the free space"
}
