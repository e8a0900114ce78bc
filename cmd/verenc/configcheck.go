package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/hsm/pkcs11uri"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/quota"
	"github.com/verenc/kms/transport/proxies"
)

// check returns what is wrong with the settings of the token, which not every command needs.
func (t *TokenConfig) check() error {
	var problems []error
	if !filepath.IsAbs(t.Module) {
		problems = append(problems, fmt.Errorf(
			"token.module: give the absolute path of the PKCS#11 module, not %q", t.Module))
	}
	if t.Label == "" && t.Serial == "" {
		problems = append(problems, errors.New("token.label: give the token's label or token.serial"))
	}
	if t.Turns < 0 {
		problems = append(problems, errors.New("token.turns: give 0 or more"))
	}
	if t.Sessions < 1 || t.MaxStuck < 1 || t.HeldKeys < 1 {
		problems = append(problems, errors.New("token.sessions, token.max_stuck and token.held_keys: give at least 1"))
	}
	return errors.Join(problems...)
}

// mayBeZero has the durations that may be 0s.
var mayBeZero = map[string]bool{"audit.sync_within": true, "database_grace": true, "oidc_skew": true,
	"token.restart_after": true}

func isAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// checkResidency checks a residency. The error begins with what.
func checkResidency(what, value string) error {
	if value == string(service.ResidencyToken) || value == string(service.ResidencyWrapped) {
		return nil
	}
	return fmt.Errorf("%s %q is neither %s nor %s", what, value, service.ResidencyToken, service.ResidencyWrapped)
}

// checkAddress finds out whether an address is one to listen at. It does not look its host up.
func checkAddress(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		err = fmt.Errorf("%w (give host:port, such as 127.0.0.1:8600)", err)
	}
	return err
}

// check returns what is wrong with the settings before anything is opened. Every error names its
// setting.
func (c *Config) check() error {
	var problems []error
	complain := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, origin := range c.CORSOrigins {
		if u, err := url.Parse(origin); origin != "*" &&
			(err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" ||
				u.Scheme+"://"+u.Host != origin) {
			complain("cors_origins: %q is neither * nor an origin such as https://app.example.com", origin)
		}
	}
	var err error
	if c.run.trusted, err = proxies.Parse(c.TrustedProxies); err != nil {
		complain("trusted_proxies: %w", err)
	} else if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		complain("proxy_protocol: name the trusted_proxies that may use it")
	}
	if _, err := parseLevel(c.LogLevel); err != nil {
		problems = append(problems, err)
	}
	if err := checkAddress(c.Listen); err != nil {
		complain("listen: %w", err)
	}
	if err := checkAddress(c.PrivateListen); err != nil && c.PrivateListen != "" {
		complain("private_listen: %w", err)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		complain("tls_cert and tls_key: give both or none")
	}
	if c.run.tlsKey = nil; pkcs11uri.Is(c.TLSKey) {
		if key, err := pkcs11uri.Parse(c.TLSKey); err != nil {
			complain("tls_key: %w", err)
			c.TLSKey = "" // which may hold a PIN, and verenc config prints settings
		} else {
			c.run.tlsKey = &key
		}
	}
	if len(c.TLSClientCRL) > 0 && c.TLSClientCA == "" {
		complain("tls_client_crl: set tls_client_ca, too: the lists are of its authorities")
	}
	if c.TLSClientCA != "" && c.TLSCert == "" {
		complain("tls_client_ca: give tls_cert and tls_key too")
	}
	switch c.TLSClientAuth {
	case clientOptional:
	case clientRequired:
		if c.TLSClientCA == "" {
			complain("tls_client_auth: required needs tls_client_ca")
		}
	default:
		complain("tls_client_auth: %q is neither %s nor %s", c.TLSClientAuth, clientOptional, clientRequired)
	}
	switch c.Console {
	case consoleOn, consoleOff:
	case consolePrivate:
		if c.PrivateListen == "" {
			complain("console: private needs private_listen")
		}
	default:
		complain("console: %q is none of %s, %s and %s", c.Console, consoleOn, consolePrivate, consoleOff)
	}
	if c.LogRequests != logAll && c.LogRequests != logErrors && c.LogRequests != logSampled {
		complain("log_requests: %q is none of %s, %s and %s", c.LogRequests, logAll, logErrors, logSampled)
	}
	if c.Profiling && c.PrivateListen == "" {
		complain("profiling: needs private_listen")
	}
	if !isAccount(c.Account) {
		complain("account: %q is not 12 digits", c.Account)
	}
	if c.DatabaseConnections < 3 {
		complain("database_connections: %d is not 3 or more: one to read, one to write, one to look for changes",
			c.DatabaseConnections)
	}
	if len(c.Regions) == 0 {
		complain("regions: name at least one")
	}
	if c.ARNFormat != "verenc" && c.ARNFormat != "aws" {
		complain("arn_format: %q is neither verenc nor aws", c.ARNFormat)
	}
	if err := checkResidency("token.residency:", c.Token.Residency); err != nil {
		problems = append(problems, err)
	}
	if c.Token.Profile != "" && !slices.Contains(hsm.Profiles(), c.Token.Profile) {
		complain("token.profile: %q is none of %s", c.Token.Profile, strings.Join(hsm.Profiles(), ", "))
	}
	if c.Audit.Dir == "" || c.Audit.Origin == "" || c.Audit.CheckpointEvery < 1 || c.Audit.SegmentBytes < 1 {
		complain("audit: dir, origin, checkpoint_every and segment_bytes must have values")
	}
	if c.Audit.SyncWithin < 0 || c.Audit.SyncWithin > time.Second {
		complain("audit.sync_within: %v is not 0s to 1s", c.Audit.SyncWithin)
	}
	if c.OIDCSkew > maxOIDCSkew {
		complain("oidc_skew: %v is more than %v", c.OIDCSkew, maxOIDCSkew)
	}
	if c.Quotas.account, err = quota.Parse(c.Quotas.Account, isQuotaClass); err != nil {
		complain("quotas.account: %w", err)
	}
	if c.Quotas.principal, err = quota.Parse(c.Quotas.Principal, isQuotaClass); err != nil {
		complain("quotas.principal: %w", err)
	}
	if c.Quotas.Concurrent < 0 {
		complain("quotas.concurrent: %d is negative", c.Quotas.Concurrent)
	}
	for _, s := range settings(c) {
		if d, ok := s.value.Interface().(time.Duration); ok && d <= 0 && !mayBeZero[s.key] || ok && d < 0 {
			complain("%s: %v is not a positive time", s.key, d)
		}
	}
	if err := c.Tracing.check(); err != nil {
		problems = append(problems, err)
	}
	if err := c.checkKeyStores(); err != nil {
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}
