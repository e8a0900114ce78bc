package main

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/verenc/kms/transport/tlsfiles"
)

// startCheck is a check of something that a server reads when it starts. It needs no token, no network and no
// database.
type startCheck struct {
	name, cure string
	try        func(*Config) (found string, err error) // found says what is right; empty when the settings name nothing
}

const (
	moduleCure = "install the HSM's PKCS#11 client and set token.module to its library"
	pinCure    = "put the user PIN into a file of mode 600 and set token.pin_file"
)

// startChecks are the checks that the doctor makes, too.
var startChecks = []startCheck{
	{"TLS files", "correct tls_cert, tls_key and the other files of TLS", func(c *Config) (string, error) {
		if c.TLSCert == "" {
			return "", nil
		}
		files, found := tlsConfig(c, nil), c.TLSKey+" has the key of the certificate"
		if c.run.tlsKey != nil { // that it is the certificate's, only the token can tell
			files.Signer = func(crypto.PublicKey) (crypto.Signer, error) { return nil, nil }
			found = c.TLSCert + " has a certificate"
		}
		_, err := tlsfiles.Open(files)
		return found, err
	}},
	{"issuers", "correct oidc_issuers", func(c *Config) (string, error) {
		if v, err := c.webIdentities(); v == nil {
			return "", err
		}
		return fmt.Sprintf("the settings and files of %d OpenID Connect issuers are right", len(c.OIDCIssuers)), nil
	}},
	{"tracing", "correct tracing.headers_file", func(c *Config) (string, error) {
		file, err := c.tracingHeaders()
		if file == nil {
			return "", err
		}
		return file.path + " has the headers for the collector", nil
	}},
	{"outputs", "correct the outputs of the audit log in the section audit", func(c *Config) (string, error) {
		if c.Audit.Dir == noAudit {
			return "", nil
		}
		outputs, err := auditOutputs(c)
		if len(outputs) == 0 {
			return "", err
		}
		return fmt.Sprintf("the settings of %d outputs of the audit log are right", len(outputs)), nil
	}},
}

// openedByDoctor are the checks of what the doctor opens instead.
var openedByDoctor = []startCheck{
	{cure: moduleCure, try: func(c *Config) (string, error) {
		_, err := os.Stat(c.Token.Module)
		return "", err
	}},
	{cure: pinCure, try: func(c *Config) (string, error) {
		_, err := readPIN(c)
		return "", err
	}},
	{cure: "correct database_password_file", try: func(c *Config) (string, error) {
		return "", keepDatabasePassword(c)
	}},
}

// checkStart returns what would keep a server from starting, as far as that can be told without the token, the network
// and the database. check has found nothing.
func (c *Config) checkStart() error {
	var problems []error
	for _, check := range slices.Concat(openedByDoctor, startChecks) {
		if _, err := check.try(c); err != nil {
			problems = append(problems, fmt.Errorf("%w (%s)", err, check.cure))
		}
	}
	return errors.Join(problems...)
}
