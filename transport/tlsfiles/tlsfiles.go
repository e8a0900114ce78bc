// Package tlsfiles serves TLS with a certificate, and with authorities and revocation lists for
// client certificates, that are files and change while the server runs. The certificate's private key
// is a file, too, or something that signs.
//
// What it protects: only a client whose certificate is valid by the files of this moment is let in.
// That holds for the first request of a connection, for a session that is resumed, and, by Verify,
// for each request of an open connection. With revocation lists, a certificate that no current list
// covers is refused.
//
// What it trusts: whoever may write the files.
package tlsfiles

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// Config names the files. Members without a default are required.
type Config struct {
	Certificate string // PEM: the server's certificate and its chain
	Key         string // PEM: its private key; not with Signer
	// Signer returns a signer with the private key of a public key, which is not in a file. It is called when
	// the certificate has changed, and fails when it has another key. nil: Key is used.
	Signer func(public crypto.PublicKey) (crypto.Signer, error)
	// ClientCA is a PEM file of the authorities of client certificates. Empty: none is asked for.
	ClientCA string
	// ClientCRLs are files with the authorities' lists of revoked certificates, in PEM or DER
	// (RFC 5280 section 5). None: no certificate is revoked.
	ClientCRLs []string
	// Required refuses clients without a certificate.
	Required bool

	Now func() time.Time // default time.Now
}

// Files are the files as they were last read. The methods may be called concurrently.
type Files struct {
	cfg     Config
	current atomic.Pointer[contents]
}

// contents are what the files had in them at one time.
type contents struct {
	raw    [][]byte // of each file
	server *tls.Config
	*clients
}

// Open reads the files.
func Open(cfg Config) (*Files, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	f := &Files{cfg: cfg}
	if len(cfg.ClientCRLs) > 0 && cfg.ClientCA == "" {
		return nil, errors.New("tls_client_crl: set tls_client_ca, too: the lists are of its authorities")
	}
	_, err := f.Reload()
	return f, err
}

// Reload reads the files again, and tells whether one has changed. After an error, everything stays
// as it was.
func (f *Files) Reload() (changed bool, err error) {
	c := &contents{}
	read := func(setting, path string) []byte {
		text, failed := os.ReadFile(path)
		if failed != nil && err == nil {
			err = fmt.Errorf("load %s: %w", setting, failed)
		}
		c.raw = append(c.raw, text)
		return text
	}
	certificate := read("tls_cert", f.cfg.Certificate)
	var key []byte
	if f.cfg.Signer == nil {
		key = read("tls_key", f.cfg.Key)
	}
	var authorities []byte
	var lists []list
	if f.cfg.ClientCA != "" {
		authorities = read("tls_client_ca", f.cfg.ClientCA)
	}
	for _, path := range f.cfg.ClientCRLs {
		lists = append(lists, list{path, read("tls_client_crl", path)})
	}
	old := f.current.Load()
	if err != nil || old != nil && slices.EqualFunc(old.raw, c.raw, bytes.Equal) {
		return false, err
	}
	pair, err := f.pair(certificate, key)
	if err != nil {
		return false, fmt.Errorf("load tls_cert and tls_key: %w", err)
	}
	c.server = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair},
		NextProtos: []string{"h2", "http/1.1"}}
	if f.cfg.ClientCA != "" {
		if c.clients, err = parseClients(f.cfg.ClientCA, authorities, lists, f.cfg.Now); err != nil {
			return false, err
		}
		c.server.ClientCAs, c.server.ClientAuth = c.authorities, tls.VerifyClientCertIfGiven
		if f.cfg.Required {
			c.server.ClientAuth = tls.RequireAndVerifyClientCert
		}
		// A client that resumes a session shows no certificate; the session has it.
		c.server.VerifyConnection = func(state tls.ConnectionState) error { return c.verify(&state) }
	}
	f.current.Store(c)
	return true, nil
}

// pair returns the certificate in PEM, and its key in PEM or with Config.Signer.
func (f *Files) pair(certificate, key []byte) (pair tls.Certificate, err error) {
	if f.cfg.Signer == nil {
		return tls.X509KeyPair(certificate, key)
	}
	for block, rest := pem.Decode(certificate); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			pair.Certificate = append(pair.Certificate, block.Bytes)
		}
	}
	if len(pair.Certificate) == 0 {
		return pair, fmt.Errorf("%s holds no certificate in PEM", f.cfg.Certificate)
	}
	if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
		return pair, err
	}
	pair.PrivateKey, err = f.cfg.Signer(pair.Leaf.PublicKey)
	return pair, err
}

// TLS returns the configuration of a listener. Each handshake uses the files as they were last read.
func (f *Files) TLS() *tls.Config {
	first := f.current.Load().server.Clone()
	first.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current.Load().server, nil }
	return first
}

// Verify returns an error when the client of an open connection has a certificate that is no longer
// valid by the files as they were last read.
func (f *Files) Verify(state *tls.ConnectionState) error {
	c := f.current.Load()
	if c.clients == nil {
		return nil
	}
	return c.verify(state)
}
