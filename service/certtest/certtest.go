// Package certtest has certificate authorities for tests.
package certtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Authority issues certificates, and lists of those that it has revoked.
type Authority struct {
	tls.Certificate // its own, with which a server of the hosts of New can also be run
}

// serial is the newest serial number of a certificate or a list.
var serial atomic.Int64

func nextSerial() *big.Int { return big.NewInt(serial.Add(1)) }

// New returns an authority that is valid for two days. hosts are DNS names and IP addresses.
func New(t testing.TB, name string, hosts ...string) *Authority {
	t.Helper()
	key := newKey(t)
	c := named(name, hosts)
	c.IsCA, c.BasicConstraintsValid, c.NotAfter = true, true, time.Now().Add(48*time.Hour)
	c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature
	a := &Authority{tls.Certificate{PrivateKey: key}}
	a.Leaf = a.Sign(t, c, key.Public())
	a.Certificate.Certificate = [][]byte{a.Leaf.Raw}
	return a
}

// Issue returns a certificate, with its key, for a server of some hosts or for a client.
func (a *Authority) Issue(t testing.TB, name string, hosts ...string) tls.Certificate {
	t.Helper()
	return a.IssueLike(t, named(name, hosts))
}

// IssueLike is Issue with a template, as Sign takes it.
func (a *Authority) IssueLike(t testing.TB, template x509.Certificate) tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := a.Sign(t, template, key.Public())
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Sign returns a certificate for a key. It is like the template, but for the serial number, the beginning and the use,
// which is TLS. It ends in a day if the template has no end.
func (a *Authority) Sign(t testing.TB, template x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotBefore = nextSerial(), time.Now().Add(-24*time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(24 * time.Hour)
	}
	if !template.IsCA {
		template.KeyUsage = x509.KeyUsageDigitalSignature
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	parent := a.Leaf
	if parent == nil {
		parent = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, public, a.PrivateKey)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	return c
}

// Revoke returns a list of revoked certificates, in DER.
func (a *Authority) Revoke(t testing.TB, until time.Time, extensions []pkix.Extension, of ...tls.Certificate) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: nextSerial(), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: until,
		ExtraExtensions: extensions}
	for _, c := range of {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.Leaf.SerialNumber, RevocationTime: time.Now()})
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, a.Leaf, a.PrivateKey.(crypto.Signer))
	must(t, err)
	return der
}

// Pool returns the authority as one that is trusted.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Leaf)
	return pool
}

// CertificatePEM returns a certificate in PEM.
func CertificatePEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// KeyPEM returns the private key of a certificate in PEM, as PKCS #8.
func KeyPEM(t testing.TB, c tls.Certificate) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func named(name string, hosts []string) x509.Certificate {
	c := x509.Certificate{Subject: pkix.Name{CommonName: name}}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, host)
		}
	}
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
