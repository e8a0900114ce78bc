package main

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/transport"
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
		Grace: c.DatabaseGrace, OnChange: c.run.databaseChanged, Connections: c.DatabaseConnections, ConnectTimeout: c.DatabaseConnect})
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

// logDatabase says when the database is lost, and when it is back.
func logDatabase(log *zap.Logger, grace time.Duration) func(error) {
	return func(err error) {
		if err != nil {
			log.Error("database lost; changes fail until it is back, and uses of keys go on for database_grace", zap.Duration("grace", grace), zap.Error(err))
			return
		}
		log.Info("database connected")
	}
}

// databaseReady is the check of /readyz. While the database is away and keys may be used all the same, the server is not out of
// service: if its load balancer took it, and every other one, out, the grace would be of no use.
func databaseReady(db *store.DB) func(context.Context) error {
	return func(ctx context.Context) error {
		err := db.Ping(ctx)
		if err != nil && db.Serves() {
			return transport.Degraded(err)
		}
		return err
	}
}
