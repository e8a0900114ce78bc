package tlsfiles

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// clients decide on client certificates.
type clients struct {
	authorities *x509.CertPool
	revoked     []revocations
	checked     bool // there are lists
	now         func() time.Time

	// verified has the certificates that were found valid, since a verification takes some 100 us of
	// a request. Lists and certificates expire, so each entry has its time.
	verified *lru.Cache[[sha256.Size]byte, time.Time]
}

// verifiedAtMost is how many certificates are remembered.
const verifiedAtMost = 10_000

// list is a file of revoked certificates.
type list struct {
	path string
	text []byte
}

// revocations are the certificates that one authority has revoked.
type revocations struct {
	issuer     *x509.Certificate
	nextUpdate time.Time // zero: the list does not say
	serials    map[string]bool
}

func parseClients(path string, text []byte, lists []list, now func() time.Time) (*clients, error) {
	c := &clients{authorities: x509.NewCertPool(), checked: len(lists) > 0, now: now}
	var err error
	if c.verified, err = lru.New[[sha256.Size]byte, time.Time](verifiedAtMost); err != nil {
		return nil, err
	}
	var issuers []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		issuer, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("load tls_client_ca: %s: %w", path, err)
		}
		issuers = append(issuers, issuer)
		c.authorities.AddCert(issuer)
	}
	if len(issuers) == 0 {
		return nil, fmt.Errorf("load tls_client_ca: %s holds no certificate in PEM", path)
	}
	for _, l := range lists {
		if err := c.addLists(l.text, issuers); err != nil {
			return nil, fmt.Errorf("load tls_client_crl: %s: %w", l.path, err)
		}
	}
	return c, nil
}

// addLists adds the lists of one file.
func (c *clients) addLists(text []byte, issuers []*x509.Certificate) error {
	if bytes.Contains(text, []byte("-----BEGIN")) {
		found := false
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if block.Type == "X509 CRL" {
				found = true
				if err := c.addList(block.Bytes, issuers); err != nil {
					return err
				}
			}
		}
		if !found {
			return errors.New("it holds no list of revoked certificates (X509 CRL)")
		}
		return nil
	}
	return c.addList(text, issuers)
}

func (c *clients) addList(der []byte, issuers []*x509.Certificate) error {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	for _, extension := range parsed.Extensions {
		if extension.Critical { // of a list of some certificates only, or of the changes since another one
			return fmt.Errorf("it is not a complete list: critical extension %s", extension.Id)
		}
	}
	for _, issuer := range issuers {
		if !bytes.Equal(issuer.RawSubject, parsed.RawIssuer) || parsed.CheckSignatureFrom(issuer) != nil {
			continue
		}
		r := revocations{issuer: issuer, nextUpdate: parsed.NextUpdate, serials: map[string]bool{}}
		for _, entry := range parsed.RevokedCertificateEntries {
			r.serials[string(entry.SerialNumber.Bytes())] = true
		}
		c.revoked = append(c.revoked, r)
		return nil
	}
	return fmt.Errorf("no authority of tls_client_ca has signed the list of %s", parsed.Issuer)
}

// verify checks the certificate of a connection's client, if it has one.
func (c *clients) verify(state *tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	leaf, now := state.PeerCertificates[0], c.now()
	id := sha256.Sum256(leaf.Raw)
	if until, known := c.verified.Get(id); known && now.Before(until) {
		return nil
	}
	options := x509.VerifyOptions{Roots: c.authorities, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, other := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(other)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return fmt.Errorf("client certificate: %w", err)
	}
	for _, chain := range chains {
		var until time.Time
		if until, err = c.current(chain, now); err == nil {
			c.verified.Add(id, until)
			return nil
		}
	}
	return fmt.Errorf("client certificate %s: %w", leaf.Subject, err)
}

// current returns until when a chain is known to be valid: every certificate of it, and the list of
// every authority in it.
func (c *clients) current(chain []*x509.Certificate, now time.Time) (time.Time, error) {
	until := chain[0].NotAfter
	earliest := func(t time.Time) {
		if t.Before(until) {
			until = t
		}
	}
	for i, certificate := range chain {
		earliest(certificate.NotAfter)
		if !c.checked || i == len(chain)-1 { // a root is revoked only by taking it out of the file
			continue
		}
		lists := 0
		for _, r := range c.revoked {
			if !bytes.Equal(r.issuer.RawSubject, certificate.RawIssuer) ||
				!bytes.Equal(r.issuer.RawSubjectPublicKeyInfo, chain[i+1].RawSubjectPublicKeyInfo) {
				continue
			}
			if r.serials[string(certificate.SerialNumber.Bytes())] {
				return time.Time{}, errors.New("it is revoked")
			}
			if !r.nextUpdate.IsZero() {
				if now.After(r.nextUpdate) {
					continue
				}
				earliest(r.nextUpdate)
			}
			lists++
		}
		if lists == 0 {
			return time.Time{}, fmt.Errorf("tls_client_crl has no current list of %s", certificate.Issuer)
		}
	}
	return until, nil
}
