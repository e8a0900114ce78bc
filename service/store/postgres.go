package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	defaultConnections    = 16
	defaultConnectTimeout = 2 * time.Second
	migrateTimeout        = time.Hour // an index of millions of keys takes minutes
	connectionLife        = time.Hour // so that connections spread anew over the hosts of a service name
	// A server that is stopped, or cut off, in the middle of a transaction holds locks that others wait for.
	idleInTransaction = "5s"
)

// IsURL tells whether a database is a PostgreSQL database, and not a file. Any URL is taken for one, so that a
// misspelt scheme is no file; CheckURL refuses it.
func IsURL(database string) bool { return strings.Contains(database, "://") }

// passwordPlaces are where the password may be.
const passwordPlaces = "a file (database_password_file), VERENC_DATABASE_PASSWORD or the systemd credential " +
	"verenc-database-password"

// CheckURL finds what is wrong with the URL of a PostgreSQL database. It does not repeat the URL,
// which may hold a password by mistake.
func CheckURL(database string) error {
	u, err := url.Parse(database)
	if err != nil {
		return errors.New("it is not a URL such as postgres://verenc@db.example.com/verenc?sslmode=verify-full")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return fmt.Errorf("its scheme is %q: a PostgreSQL database is postgres://USER@HOST/DATABASE, "+
			"and a file of SQLite has a path without ://", u.Scheme)
	}
	if _, inURL := u.User.Password(); inURL || u.Query().Has("password") {
		return errors.New("it holds a password, which process lists and backups of the configuration would show: " +
			"put it into " + passwordPlaces)
	}
	if name := strings.TrimPrefix(u.Path, "/"); name == "" || strings.Contains(name, "/") {
		return errors.New("it names no database: postgres://USER@HOST/DATABASE")
	}
	_, err = pgx.ParseConfig(withTLS(u))
	return err
}

// withTLS asks for a verified server where the URL doesn't say what it wants, unless all hosts are this one.
func withTLS(u *url.URL) string {
	q := u.Query()
	hosts := u.Host
	if q.Has("host") {
		hosts = q.Get("host")
	}
	if q.Has("sslmode") || os.Getenv("PGSSLMODE") != "" {
		return u.String()
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if !isLocal(host) {
			q.Set("sslmode", "verify-full")
		}
	}
	secured := *u
	secured.RawQuery = q.Encode()
	return secured.String()
}

// ExposedHost returns the host of a PostgreSQL database, if there is one, whose connections can be read or
// taken over by whoever is on the network between: the mode is neither verify-full, nor is it this host. A
// mode that only prefers TLS gives in to an attacker, and the others don't check the server's name.
func ExposedHost(database string) string {
	u, err := url.Parse(database)
	if err != nil || !IsURL(database) {
		return ""
	}
	config, err := pgx.ParseConfig(withTLS(u))
	if err != nil {
		return "" // Open tells
	}
	ways := append([]*pgconn.FallbackConfig{{Host: config.Host, TLSConfig: config.TLSConfig}}, config.Fallbacks...)
	for _, way := range ways {
		// Modes below verify-full set InsecureSkipVerify; verify-ca has a check of its own then.
		if !isLocal(way.Host) && (way.TLSConfig == nil || way.TLSConfig.InsecureSkipVerify) {
			return way.Host
		}
	}
	return ""
}

func isLocal(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "" || host == "localhost" || strings.HasPrefix(host, "/") || ip != nil && ip.IsLoopback()
}

// databaseName is the URL without what is of no use in a message.
func databaseName(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// openPostgres connects, and makes the schema or brings it up to date.
func (d *DB) openPostgres(ctx context.Context, cfg Config) error {
	if err := CheckURL(cfg.Path); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	u, err := url.Parse(cfg.Path)
	if err != nil {
		return err // not after CheckURL
	}
	name := databaseName(u)
	config, err := pgx.ParseConfig(withTLS(u))
	if err != nil {
		return fmt.Errorf("open database %s: %w", name, err)
	}
	if cfg.Password != "" {
		config.Password = cfg.Password
	}
	if config.ConnectTimeout = cfg.ConnectTimeout; cfg.ConnectTimeout == 0 {
		config.ConnectTimeout = defaultConnectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "verenc"
	}
	if config.ValidateConnect == nil { // a standby can't be written; of several hosts, another one can
		config.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	connections := cfg.Connections
	if connections == 0 {
		connections = defaultConnections
	}
	d.isolation = sql.LevelSerializable
	connections = max(connections-1, 2) // one is the watch's
	d.whole = unmarshalWhole
	d.write = connectPostgres(config, connections/2, d.usable)
	d.read = connectPostgres(config, connections-connections/2, d.usable)
	if err := d.write.PingContext(ctx); err != nil {
		return advise(fmt.Errorf("open database %s: %w", name, err), adviceOn(err, config))
	}
	if err := d.migratePostgres(ctx, cfg.Create); err != nil {
		return advise(fmt.Errorf("open database %s: %w", name, err), adviceOn(err, config))
	}
	d.writers = newWriters(connections / 2)
	d.fresh = &freshness{grace: cfg.Grace, limit: max(cfg.Grace, promised)}
	for _, c := range []interface{ serveWhile(func() error) }{
		d.keys, d.aliases, d.accessKeys, d.grants, d.principals, d.certificates, d.guards,
	} {
		c.serveWhile(d.fresh.check)
	}
	w := &postgresWatch{d: d, db: connectPostgres(config, 1, func() error { return nil }), onChange: cfg.OnChange}
	if w.onChange == nil {
		w.onChange = func(error) {}
	}
	d.watch, d.unwatch = w.run, w.close
	return w.step(ctx)
}

// connectPostgres opens a pool, on which nothing is begun while usable says why not.
func connectPostgres(config *pgx.ConnConfig, connections int, usable func() error) *sql.DB {
	connector := stdlib.GetConnector(*config, stdlib.OptionAfterConnect(prepareSession))
	db := sql.OpenDB(postgresConnector{connector, usable})
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	db.SetConnMaxLifetime(connectionLife)
	return db
}

// prepareSession sets what a session needs, not in the packet that starts it, which connection poolers refuse.
func prepareSession(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SET idle_in_transaction_session_timeout = '"+idleInTransaction+"'")
	return err
}

// adviceOn says what to do about an error at the start; "" if nothing is known.
func adviceOn(err error, config *pgx.ConnConfig) string {
	var answer *pgconn.PgError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	user, database := pgx.Identifier{config.User}.Sanitize(), pgx.Identifier{config.Database}.Sanitize()
	switch {
	case errors.Is(err, ErrOutdated):
		return "" // it has its own
	case errors.As(err, &answer):
		switch {
		case strings.HasPrefix(answer.Code, "28") && config.Password == "": // invalid authorization
			return fmt.Sprintf("no password was given: if the server asks %s for one, put it into %s; "+
				"otherwise, does pg_hba.conf let it in from here?", config.User, passwordPlaces)
		case strings.HasPrefix(answer.Code, "28"):
			return fmt.Sprintf("is the password of %s right, and does pg_hba.conf let it in from here?", config.User)
		case answer.Code == "3D000": // no such database
			return fmt.Sprintf("create it: CREATE DATABASE %s OWNER %s", database, user)
		case answer.Code == "53300": // too many connections
			return "lower database_connections, or raise max_connections of the server: each verenc serve takes database_connections"
		case answer.Code == "42501": // insufficient privilege
			return fmt.Sprintf("make %s the owner of the database: ALTER DATABASE %s OWNER TO %[1]s", user, database)
		}
		return ""
	case errors.As(err, &authority):
		return "name the file with the authority of the server's certificate in the URL: sslrootcert=FILE"
	case errors.As(err, &host):
		return "connect by a name that the server's certificate has"
	case errors.As(err, &record), strings.Contains(err.Error(), "server refused TLS connection"):
		return "the server has no TLS: give it a certificate, with ssl = on; only where nobody else is on the network, sslmode=disable in the URL does without"
	case strings.Contains(err.Error(), "standby mode"): // of ValidateConnectTargetSessionAttrsPrimary
		return "name all servers in the URL, postgres://USER@HOST1,HOST2/DATABASE: the one that can be written is found"
	case classOf(err) == away:
		return "does the server run, and can this host reach it?"
	}
	return ""
}

// postgresClass reads a code of PostgreSQL (PostgreSQL documentation, appendix "Error Codes").
func postgresClass(code string) class {
	switch code {
	case "23505":
		return duplicate
	case "23503":
		return noParent
	case "40001", "40P01", "55P03": // serialisation failure, deadlock, lock not available
		return conflict
	case "40003", // CockroachDB: the connection to whoever makes the commit was lost, and nobody knows its outcome
		"57P01", "57P02", "57P03", // shut down, crashed, starting
		"53300",          // too many connections
		"25006",          // a standby now
		"25P03", "57014": // idleInTransaction is over, or the administrator's limit of a statement
		return away
	}
	if strings.HasPrefix(code, "08") { // connection exceptions
		return away
	}
	return otherError
}
