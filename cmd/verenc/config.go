package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/verenc/kms/hsm/pkcs11uri"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/quota"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/transport/proxies"
)

// Config has every setting. Settings come from one YAML file, from environment variables and from
// flags; the later ones win. For a field with the path token.pin_file, the variable is
// VERENC_TOKEN_PIN_FILE and the flag --token-pin-file. The PIN itself is not a field: see readPIN.
type Config struct {
	Listen              string         `koanf:"listen" doc:"address of the AWS API, host:port"`
	PrivateListen       string         `koanf:"private_listen" doc:"address of /metrics, /healthz and /readyz for operators; empty for none"`
	Profiling           bool           `koanf:"profiling" doc:"serve profiles of the process, of Go's package net/http/pprof, at /debug/pprof/ of private_listen, to everybody who can reach it"`
	TLSCert             string         `koanf:"tls_cert" doc:"PEM file of the server certificate and its chain; empty serves plain HTTP"`
	TLSKey              string         `koanf:"tls_key" doc:"the certificate's private key: a PEM file, or the PKCS#11 URI (RFC 7512) of a key in the token, such as pkcs11:object=verenc%2Ftls%2Fkms, which verenc tls csr makes"`
	TLSClientCA         string         `koanf:"tls_client_ca" doc:"PEM file of the authorities whose client certificates are accepted; empty requests no certificates"`
	TLSClientCRL        []string       `koanf:"tls_client_crl" doc:"files, PEM or DER, with the revoked certificates of the authorities in tls_client_ca; with them, a certificate that no current list covers is refused"`
	TLSClientAuth       string         `koanf:"tls_client_auth" doc:"optional: a client may have a certificate instead of signing; required: none is served without one"`
	TrustedProxies      []string       `koanf:"trusted_proxies" doc:"networks and addresses of the load balancers, such as 10.0.0.0/28: they tell the client's address, for aws:SourceIp and records, in X-Forwarded-For or as proxy_protocol says, and nobody else is believed; none by default"`
	ProxyProtocol       bool           `koanf:"proxy_protocol" doc:"the trusted_proxies begin each connection to listen with the PROXY protocol (version 1 or 2); X-Forwarded-For is not read then"`
	Database            string         `koanf:"database" doc:"SQLite file of the metadata, which verenc init creates; or a PostgreSQL database that several servers may have, postgres://USER@HOST/DATABASE?sslmode=verify-full&sslrootcert=FILE, in which it makes the tables"`
	DatabasePassword    string         `koanf:"database_password_file" doc:"file with the password of the PostgreSQL user, readable by its owner only"`
	DatabaseConnections int            `koanf:"database_connections" doc:"connections to PostgreSQL at most"`
	DatabaseGrace       time.Duration  `koanf:"database_grace" doc:"how long keys that a server knows are used while PostgreSQL is away, which also is how long it may miss changes of other servers then; 0s: not at all"`
	DatabaseConnect     time.Duration  `koanf:"database_connect_timeout" doc:"most time for a connection to PostgreSQL"`
	Account             string         `koanf:"account" doc:"12-digit account of the first access key, and of the users and roles that commands name"`
	Regions             []string       `koanf:"regions" doc:"regions served, as in the clients' credential scope; * serves every region"`
	ARNFormat           string         `koanf:"arn_format" doc:"form of ARNs in answers to requests that name no key by an ARN, and in records: verenc (arn:verenc:ACCOUNT:key/ID) or aws (arn:aws:kms:REGION:ACCOUNT:key/ID), which clients that parse ARNs need; both are accepted"`
	Reconcile           time.Duration  `koanf:"reconcile_interval" doc:"how often the server looks for due deletions and for what a crash has left"`
	ShutdownTimeout     time.Duration  `koanf:"shutdown_timeout" doc:"how long requests in progress may take when the server ends"`
	CORSOrigins         []string       `koanf:"cors_origins" doc:"origins of web pages whose scripts may call the AWS API, such as https://app.example.com, or * for all; none by default"`
	Console             string         `koanf:"console" doc:"the documentation and Try it out, at /docs, and the console, at /console: on serves them beside the AWS API; private serves them, and the AWS API for them, at private_listen only; off serves none of them"`
	LogLevel            string         `koanf:"log_level" doc:"debug, info, warn or error; the lines of requests are info, and error for those that failed in the server. Commands other than serve log at warn unless it is set"`
	LogRequests         string         `koanf:"log_requests" doc:"which requests have a line in the log: all; errors: those that ended with an error; sampled: those, and of the others the first 100 in each second and then each 100th. Audit records are written for all"`
	Tracing             TracingConfig  `koanf:"tracing"`
	Quotas              QuotaConfig    `koanf:"quotas"`
	Approval            ApprovalConfig `koanf:"approval"`
	Token               TokenConfig    `koanf:"token"`
	Audit               AuditConfig    `koanf:"audit"`

	// OIDCIssuers are the issuers of web identities. Like KeyStores, they are in the file only.
	OIDCIssuers []IssuerConfig `koanf:"oidc_issuers" doc:"OpenID Connect issuers whose tokens AssumeRoleWithWebIdentity takes: a list of {url: https://..., audiences, ca_file, jwks_file}; only in the file"`
	OIDCSkew    time.Duration  `koanf:"oidc_skew" doc:"how much the clocks of the oidc_issuers may differ from this server's"`

	// commandLevel is the log level of commands. Their output, which may be a secret that is shown
	// only once, should not stand between log lines: unless log_level is set, they log only what is wrong.
	commandLevel string

	// KeyStores are the tokens of custom key stores. They have no flags and no environment
	// variables.
	KeyStores []KeyStoreConfig `koanf:"key_stores" doc:"tokens that CreateCustomKeyStore can name: a list of {cluster_id: cluster-..., module, label, serial, trust_anchor_file, sessions, residency}; only in the file"`

	run runOptions // not settings
}

// AuditConfig says where the audit log is, and where else records go.
type AuditConfig struct {
	Dir                   string        `koanf:"dir" doc:"folder of the audit log, which verenc init creates; none: no log is kept"`
	Origin                string        `koanf:"origin" doc:"name of the log, part of its public keys"`
	SyncWithin            time.Duration `koanf:"sync_within" doc:"longest time between the answer to a request that changes nothing and the sync of its record; 0s syncs it before the answer, like the record of a change: at full load that can halve the rate of uses"`
	CheckpointWithin      time.Duration `koanf:"checkpoint_within" doc:"longest time that records wait for a checkpoint"`
	CheckpointEvery       int           `koanf:"checkpoint_every" doc:"records after which the token signs a checkpoint"`
	SegmentBytes          int           `koanf:"segment_bytes" doc:"size at which a file of records is full"`
	Stdout                bool          `koanf:"stdout" doc:"also write records to standard output"`
	StdoutRequired        bool          `koanf:"stdout_required" doc:"no request is served while standard output fails"`
	Syslog                string        `koanf:"syslog" doc:"also send records to a syslog server (RFC 5424): udp://host:514, tcp://host:601, unixgram:///dev/log"`
	SyslogRequired        bool          `koanf:"syslog_required" doc:"no request is served while syslog fails"`
	HTTP                  string        `koanf:"http" doc:"also POST records to this URL, as JSON lines"`
	HTTPRequired          bool          `koanf:"http_required" doc:"no request is served while this fails"`
	HTTPAuthorizationFile string        `koanf:"http_authorization_file" doc:"file with the value of the Authorization header for this URL"`
}

// QuotaConfig says how much of the service callers may take; more is answered with ThrottlingException.
type QuotaConfig struct {
	Account    []string `koanf:"account" doc:"requests a second of all principals of an account together, such as [symmetric=5500, rsa=500, ecc=300, data-key-pair-rsa-4096=0.1, CreateKey=5]: classes of cryptographic operations as in AWS, and the names of other operations; what is not named has no limit"`
	Principal  []string `koanf:"principal" doc:"the same for one user, and for all sessions of one role together"`
	Concurrent int      `koanf:"concurrent" doc:"requests of one user or role under way at a time; 0: no limit"`

	account, principal quota.Rates // once the settings were checked
}

// ApprovalConfig is about calls that need approvals; see docs/dual-control.md.
type ApprovalConfig struct {
	ExpiresAfter time.Duration `koanf:"expires_after" doc:"how long a call that needs approvals can be approved and made"`
}

// runOptions are the options of one run of the program that are not settings.
type runOptions struct {
	forcePIN         bool          // --force-pin
	databaseChanged  func(error)   // is told when PostgreSQL is lost and when it is back
	databasePassword string        // once it was read
	connected        chan struct{} // receives a value for each connection to the token; nil in commands
	file             string        // of the settings; may be empty
	load             func() (*Config, error)
	reload           []reloadable    // what a server reads again
	trusted          proxies.Trusted // of trusted_proxies, once the settings were checked
	tlsKey           *pkcs11uri.Key  // of tls_key, once the settings were checked; nil for a file
	giveUp           func(error)     // ends a server whose PKCS#11 module can no longer be used; nil in commands

	// Of verenc dev, and nil in all other commands.
	token   service.Token                   // what the service uses in place of the opened token
	handler func(http.Handler) http.Handler // wraps that of the API's listener
	serving func(*Config, net.Addr)         // is told the address of that listener
}

// TokenConfig says which PKCS#11 token holds the keys.
type TokenConfig struct {
	Module                string        `koanf:"module" doc:"absolute path of the PKCS#11 module"`
	InitArguments         string        `koanf:"init_arguments" doc:"string passed to C_Initialize as pReserved of C_INITIALIZE_ARGS; most modules need none"`
	Label                 string        `koanf:"label" doc:"label of the token; label or serial is required"`
	Serial                string        `koanf:"serial" doc:"serial number of the token"`
	Replicas              []string      `koanf:"replicas" doc:"serial numbers of further tokens that hold the same keys, cloned by the HSM, with the same PIN; any one of them can serve"`
	Profile               string        `koanf:"profile" doc:"profile of the vendor's deviations from PKCS#11; empty chooses it by the manufacturer and model that the token reports"`
	PINFile               string        `koanf:"pin_file" doc:"file with the user PIN, readable by its owner only"`
	Residency             string        `koanf:"residency" doc:"where the material of new keys is kept: token (each is an object in the token) or wrapped (in the database, wrapped by the token, so that there can be millions)"`
	RequireHiddenDataKeys bool          `koanf:"require_hidden_data_keys" doc:"refuse GenerateDataKeyWithoutPlaintext and GenerateDataKeyPairWithoutPlaintext where the token can't keep the plaintext to itself, instead of making it in the server's memory"`
	HeldKeys              int           `koanf:"held_keys" doc:"how many wrapped keys may be held unwrapped in the token, as session objects; SoftHSM2 needs 9 kB for each"`
	Sessions              int           `koanf:"sessions" doc:"largest number of sessions; a lower limit of the token takes precedence"`
	Turns                 int           `koanf:"turns" doc:"how many calls of symmetric cryptography are inside the module at once, if its calls take less than 0.2 ms, as those of SoftHSM2 do; the others wait. 0 is half of the processors; as many as sessions: none wait"`
	Connect               time.Duration `koanf:"connect_timeout" doc:"longest time to connect to the token"`
	CallTimeout           time.Duration `koanf:"call_timeout" doc:"longest time for the calls of one request to the token"`
	GenerateTimeout       time.Duration `koanf:"generate_timeout" doc:"the same for the generation of a key pair, including the wait for other generations"`
	MaxStuck              int           `koanf:"max_stuck" doc:"how many calls may be past call_timeout and still inside the module; then new ones are refused at once"`
	Isolate               bool          `koanf:"isolate" doc:"run the PKCS#11 modules in processes of their own, which are restarted when they crash or are stuck; each call takes some tens of microseconds more"`
	RestartAfter          time.Duration `koanf:"restart_after" doc:"how long stuck calls may prevent the module from being initialised again while there is no connection; then the server exits with status 3, for its supervisor to restart it; 0s: never"`
}

func defaults() Config {
	return Config{
		Listen: "127.0.0.1:8600", PrivateListen: "127.0.0.1:8601", Database: "verenc.db", DatabaseConnections: 16,
		DatabaseGrace: 30 * time.Second, DatabaseConnect: 2 * time.Second, Account: "111122223333",
		Regions: []string{"us-east-1"}, ARNFormat: "verenc", TLSClientAuth: clientOptional, Reconcile: time.Minute,
		OIDCSkew: time.Minute, Approval: ApprovalConfig{ExpiresAfter: approval.ExpiresAfter},
		ShutdownTimeout: 15 * time.Second, Console: consoleOn, LogLevel: "info", LogRequests: logAll,
		Tracing: TracingConfig{Sample: 0.1},
		Audit: AuditConfig{Dir: "audit", Origin: "verenc-kms", CheckpointEvery: 4096,
			CheckpointWithin: 10 * time.Second, SegmentBytes: 64 << 20, SyncWithin: 50 * time.Millisecond},
		Token: TokenConfig{Label: "verenc", Residency: string(service.ResidencyToken), HeldKeys: 5_000, Sessions: 64,
			Connect: 10 * time.Second, CallTimeout: 5 * time.Second, GenerateTimeout: 30 * time.Second, MaxStuck: 16,
			RestartAfter: time.Minute},
	}
}

// Values of tls_client_auth.
const (
	clientOptional = "optional"
	clientRequired = "required"
)

// Values of console.
const (
	consoleOn      = "on"
	consolePrivate = "private"
	consoleOff     = "off"
)

// Values of log_requests.
const (
	logAll     = "all"
	logErrors  = "errors"
	logSampled = "sampled"
)

const envPrefix = "VERENC_"

// setting is one field of Config that is not a structure.
type setting struct {
	key   string // token.pin_file
	doc   string
	value reflect.Value // in the Config that it was made from
}

func (s setting) flag() string { return strings.NewReplacer(".", "-", "_", "-").Replace(s.key) }

func (s setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.key, ".", "_"))
}

// settings returns the settings of a Config in order.
func settings(c *Config) []setting { return leaves("", reflect.ValueOf(c).Elem()) }

func leaves(prefix string, v reflect.Value) (all []setting) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		key := prefix + f.Tag.Get("koanf")
		if f.Type.Kind() == reflect.Struct {
			all = append(all, leaves(key+".", v.Field(i))...)
			continue
		}
		if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct {
			continue // a list of structures: in the file only
		}
		all = append(all, setting{key: key, doc: f.Tag.Get("doc"), value: v.Field(i)})
	}
	return all
}

const forcePINFlag = "force-pin"

// addFlags declares a flag for every setting.
func addFlags(flags *pflag.FlagSet) {
	flags.Bool(forcePINFlag, false, "try the PIN although the token says that one more wrong one locks it")
	c := defaults()
	for _, s := range settings(&c) {
		doc := fmt.Sprintf("%s [%s]", s.doc, s.env())
		switch v := s.value.Interface().(type) {
		case string:
			flags.String(s.flag(), v, doc)
		case int:
			flags.Int(s.flag(), v, doc)
		case float64:
			flags.Float64(s.flag(), v, doc)
		case bool:
			flags.Bool(s.flag(), v, doc)
		case time.Duration:
			flags.Duration(s.flag(), v, doc)
		case []string:
			flags.StringSlice(s.flag(), v, doc)
		}
	}
}

// loadConfig is readConfig with all checks.
func loadConfig(path string, flags *pflag.FlagSet, environ func() []string) (*Config, error) {
	c, err := readConfig(path, flags, environ)
	if c == nil {
		return nil, err
	}
	return c, errors.Join(err, c.Token.check(), c.check())
}

// readConfig reads the file (if path is not empty), the environment, and the flags that were given. With an error
// about names that are no settings it returns the others, too.
func readConfig(path string, flags *pflag.FlagSet, environ func() []string) (*Config, error) {
	return readConfigOver(defaults(), path, flags, environ)
}

// readConfigOver is readConfig with other defaults.
func readConfigOver(base Config, path string, flags *pflag.FlagSet, environ func() []string) (*Config, error) {
	k := koanf.New(".")
	base.LogLevel = "" // to see whether it is set
	if err := k.Load(structs.Provider(base, "koanf"), nil); err != nil {
		return nil, fmt.Errorf("load defaults: %w", err)
	}
	if path != "" {
		if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
			return nil, fmt.Errorf("read configuration %s: %w", path, err)
		}
	}
	byEnv, byFlag := map[string]string{}, map[string]string{}
	for _, s := range settings(&base) {
		byEnv[s.env()], byFlag[s.flag()] = s.key, s.key
	}
	unknown := checkEnvironment(environ(), byEnv)
	err := k.Load(env.Provider(".", env.Opt{Prefix: envPrefix, EnvironFunc: environ,
		TransformFunc: func(name, value string) (string, any) {
			return byEnv[name], value // "" leaves it out
		}}), nil)
	if err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	err = k.Load(posflag.ProviderWithFlag(flags, ".", nil, func(f *pflag.Flag) (string, any) {
		if key := byFlag[f.Name]; key != "" && f.Changed {
			return key, posflag.FlagVal(flags, f)
		}
		return "", nil
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}

	var c Config
	var decoded mapstructure.Metadata
	err = k.UnmarshalWithConf("", &c, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		TagName: "koanf", Result: &c, Metadata: &decoded, WeaklyTypedInput: true,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(timesHaveUnits, mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(",")),
	}})
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w (verenc config lists the settings)", err)
	}
	slices.Sort(decoded.Unused)
	for _, name := range decoded.Unused {
		unknown = errors.Join(unknown, fmt.Errorf("read configuration: %s is not a setting (verenc config lists the settings)",
			name))
	}
	if len(c.KeyStores) == 0 {
		c.KeyStores = nil
	}
	if len(c.OIDCIssuers) == 0 {
		c.OIDCIssuers = nil
	}
	if store.IsURL(c.Database) { // before anything can print a password that is in it
		if err := store.CheckURL(c.Database); err != nil {
			return nil, fmt.Errorf("database: %w", err)
		}
	}
	if c.commandLevel = c.LogLevel; c.LogLevel == "" {
		c.LogLevel, c.commandLevel = defaults().LogLevel, "warn"
	}
	if f := flags.Lookup(forcePINFlag); f != nil {
		c.run.forcePIN = f.Value.String() == "true"
	}
	return &c, unknown
}

// timesHaveUnits refuses a number in a file for a time, which would be taken as nanoseconds.
func timesHaveUnits(from, to reflect.Type, value any) (any, error) {
	switch from.Kind() {
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		if to == reflect.TypeFor[time.Duration]() && from != to && fmt.Sprint(value) != "0" {
			return nil, fmt.Errorf("%v has no unit: write %vs for seconds", value, value)
		}
	}
	return value, nil
}

// nothingIsSet tells whether neither a flag nor a variable sets anything.
func nothingIsSet(flags *pflag.FlagSet, environ []string) bool {
	return flags.NFlag() == 0 &&
		!slices.ContainsFunc(environ, func(v string) bool { return strings.HasPrefix(v, envPrefix) })
}

// otherVariables are environment variables that are not settings.
var otherVariables = map[string]bool{envPrefix + "CONFIG": true, pinVariable: true,
	databasePasswordVariable: true, envPrefix + "SOFTHSM_MODULE": true, devAccessKeyVariable: true,
	devSecretKeyVariable: true, devPIDVariable: true}

// checkEnvironment refuses misspelt variables.
func checkEnvironment(environ []string, known map[string]string) error {
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, envPrefix) && known[name] == "" && !otherVariables[name] {
			return fmt.Errorf("read environment: %s is not a setting (verenc config lists the settings)", name)
		}
	}
	return nil
}

// describe prints the settings as a YAML file with their documentation.
func (c *Config) describe() string {
	var b strings.Builder
	section := ""
	for _, s := range settings(c) {
		key, indent := s.key, ""
		if name, rest, nested := strings.Cut(s.key, "."); nested {
			if section != name {
				fmt.Fprintf(&b, "%s:\n", name)
				section = name
			}
			key, indent = rest, "  "
		}
		value := fmt.Sprintf("%v", s.value.Interface())
		switch v := s.value.Interface().(type) {
		case string, []string:
			text, _ := json.Marshal(v) // which YAML reads, whatever they contain
			value = string(text)
		}
		fmt.Fprintf(&b, "%s# %s\n%s%s: %s\n", indent, s.doc, indent, key, value)
	}
	return b.String()
}
