package tlsfiles_test

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/verenc/kms/service/certtest"
	"github.com/verenc/kms/transport/tlsfiles"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// host is the name of the servers.
const host = "kms.example.com"

// files are a folder with the files of a server.
type files struct {
	*testing.T
	tlsfiles.Config

	mu   sync.Mutex
	late time.Duration // guarded by mu: how far the clock is ahead
}

func (f *files) write(path, text string) { must(f.T, os.WriteFile(path, []byte(text), 0o600)) }

func (f *files) serverCertificate(c tls.Certificate) {
	f.write(f.Certificate, certtest.CertificatePEM(c.Leaf))
	f.write(f.Key, certtest.KeyPEM(f.T, c))
}

func newFiles(t *testing.T, a *certtest.Authority) *files {
	dir := t.TempDir()
	f := &files{T: t, Config: tlsfiles.Config{Certificate: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key"),
		ClientCA: filepath.Join(dir, "ca"), Required: true}}
	f.Now = func() time.Time {
		f.mu.Lock()
		defer f.mu.Unlock()
		return time.Now().Add(f.late)
	}
	f.serverCertificate(a.Issue(t, "server", host))
	f.write(f.ClientCA, certtest.CertificatePEM(a.Leaf))
	return f
}

func (f *files) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.late += d
}

// served is a server with the files, which verifies the client of each request.
type served struct {
	*testing.T
	*tlsfiles.Files
	url string
	of  *certtest.Authority
}

func serve(t *testing.T, a *certtest.Authority, f *files) *served {
	opened, err := tlsfiles.Open(f.Config)
	must(t, err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := opened.Verify(r.TLS); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	}))
	s.TLS = opened.TLS()
	s.StartTLS()
	t.Cleanup(s.Close)
	return &served{t, opened, s.URL, a}
}

// client is a client that keeps one connection.
func (s *served) client(certificates ...tls.Certificate) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.of.Pool(), Certificates: certificates,
		ServerName: host, ClientSessionCache: tls.NewLRUClientSessionCache(8)}}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get makes a request; the answer's text is its error unless it is 200.
func (s *served) get(c *http.Client) (resp *http.Response, problem string) {
	s.Helper()
	resp, err := c.Get(s.url)
	if err != nil {
		return nil, err.Error()
	}
	text, err := io.ReadAll(resp.Body)
	must(s.T, err)
	must(s.T, resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		problem = string(text)
	}
	return resp, problem
}

func (s *served) want(c *http.Client, problem string) *http.Response {
	s.Helper()
	resp, got := s.get(c)
	if (problem == "") != (got == "") || !strings.Contains(got, problem) {
		s.Errorf("%q, and not %q", got, problem)
	}
	return resp
}

// wantRefused expects that the server refuses a client's handshake. With TLS 1.3 a client learns that only after its
// own part of the handshake, and an HTTP client, which writes its request at once, may find a closed connection instead
// of the server's reason. So this one only reads.
func (s *served) wantRefused(c *http.Client) {
	s.Helper()
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), c.Transport.(*http.Transport).TLSClientConfig)
	must(s.T, err)
	defer conn.Close()
	must(s.T, conn.SetDeadline(time.Now().Add(time.Minute)))
	if _, err := conn.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "tls: ") {
		s.Errorf("%v, want a refused handshake", err)
	}
}

func (s *served) reload(changed bool, problem string) {
	s.Helper()
	got, err := s.Reload()
	if got != changed || (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
		s.Errorf("%v, %v", got, err)
	}
}

func TestRenewedCertificate(t *testing.T) {
	a := certtest.New(t, "authority")
	f := newFiles(t, a)
	s := serve(t, a, f)
	client := a.Issue(t, "client")
	open := s.client(client)
	first := s.want(open, "").TLS.PeerCertificates[0]
	s.reload(false, "")

	next := a.Issue(t, "renewed", host)
	f.write(f.Certificate, certtest.CertificatePEM(next.Leaf)) // its key is not there yet
	s.reload(false, "load tls_cert and tls_key")
	if got := s.want(s.client(client), "").TLS.PeerCertificates[0]; !got.Equal(first) {
		t.Errorf("served %s", got.Subject)
	}
	f.serverCertificate(next)
	s.reload(true, "")
	if got := s.want(s.client(client), "").TLS.PeerCertificates[0]; !got.Equal(next.Leaf) {
		t.Errorf("served %s", got.Subject)
	}
	s.want(open, "") // its connection goes on
	must(t, os.Remove(f.ClientCA))
	s.reload(false, "load tls_client_ca")
	s.want(s.client(client), "")
}

// TestRemovedAuthority: the clients of an authority that has gone from the file are refused, on
// connections that are open and with sessions that they resume, too.
func TestRemovedAuthority(t *testing.T) {
	a, b := certtest.New(t, "a"), certtest.New(t, "b")
	f := newFiles(t, a)
	f.write(f.ClientCA, certtest.CertificatePEM(a.Leaf)+certtest.CertificatePEM(b.Leaf))
	s := serve(t, a, f)
	ofA, ofB := s.client(a.Issue(t, "x")), s.client(b.Issue(t, "y"))
	s.want(ofA, "")
	s.want(ofB, "")
	f.write(f.ClientCA, certtest.CertificatePEM(a.Leaf))
	s.reload(true, "")
	s.want(ofA, "")
	s.want(ofB, "certificate signed by unknown authority")
	s.wantRefused(ofB) // the session is not resumed
}

func TestRevokedCertificates(t *testing.T) {
	a, other := certtest.New(t, "authority"), certtest.New(t, "other")
	f := newFiles(t, a)
	list := filepath.Join(t.TempDir(), "crl")
	f.ClientCRLs = []string{list}
	good, bad := a.Issue(t, "good"), a.Issue(t, "bad")
	tomorrow := time.Now().Add(23 * time.Hour)
	f.write(list, string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: a.Revoke(t, tomorrow, nil)})))
	s := serve(t, a, f)
	ofGood, ofBad := s.client(good), s.client(bad)
	s.want(ofGood, "")
	s.want(ofBad, "")

	must(t, os.WriteFile(list, a.Revoke(t, tomorrow, nil, bad), 0o600)) // DER
	s.reload(true, "")
	s.want(ofGood, "")
	s.want(ofBad, "it is revoked")
	s.wantRefused(ofBad) // the session is not resumed
	s.wantRefused(s.client(bad))
	s.want(s.client(good), "")

	partial := pkix.Extension{Id: []int{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 1}} // a delta CRL
	for problem, text := range map[string][]byte{
		"not a complete list": a.Revoke(t, tomorrow, []pkix.Extension{partial}),
		"no authority":        other.Revoke(t, tomorrow, nil),
		"malformed":           []byte("rubbish"),
		"it holds no list":    []byte(certtest.CertificatePEM(a.Leaf)),
	} {
		must(t, os.WriteFile(list, text, 0o600))
		s.reload(false, problem)
	}
	s.want(ofGood, "")
	f.pass(23*time.Hour + 30*time.Minute) // past the list, and before the end of the certificate
	s.want(ofGood, "has no current list of CN=authority")
}

func TestFilesThatAreRefused(t *testing.T) {
	a := certtest.New(t, "authority")
	for problem, change := range map[string]func(f *files){
		"load tls_cert":             func(f *files) { f.Certificate += "?" },
		"holds no certificate":      func(f *files) { f.ClientCA = f.Key },
		"set tls_client_ca, too":    func(f *files) { f.ClientCA, f.ClientCRLs = "", []string{"x"} },
		"load tls_client_crl: open": func(f *files) { f.ClientCRLs = []string{"/nowhere"} },
	} {
		f := newFiles(t, a)
		change(f)
		if _, err := tlsfiles.Open(f.Config); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", problem, err)
		}
	}
}

// TestSigner: the key of a certificate may be elsewhere than in a file. A certificate that its signer refuses
// changes nothing.
func TestSigner(t *testing.T) {
	a := certtest.New(t, "a")
	f := newFiles(t, a)
	must(t, os.Remove(f.Key))
	first := a.Issue(t, "server", host)
	keys := map[string]crypto.Signer{}
	known := func(c tls.Certificate) {
		keys[string(c.Leaf.RawSubjectPublicKeyInfo)] = c.PrivateKey.(crypto.Signer)
	}
	known(first)
	f.Signer = func(public crypto.PublicKey) (crypto.Signer, error) {
		spki, err := x509.MarshalPKIXPublicKey(public)
		must(t, err)
		if key := keys[string(spki)]; key != nil {
			return key, nil
		}
		return nil, errors.New("another key")
	}
	f.write(f.Certificate, certtest.CertificatePEM(first.Leaf))
	opened, err := tlsfiles.Open(f.Config)
	must(t, err)
	next := a.Issue(t, "server", host)
	f.write(f.Certificate, certtest.CertificatePEM(next.Leaf))
	for range 2 {
		if changed, err := opened.Reload(); changed || err == nil || !strings.Contains(err.Error(), "another key") {
			t.Error(changed, err)
		}
	}
	known(next)
	if changed, err := opened.Reload(); !changed || err != nil {
		t.Error(changed, err)
	}
	if changed, err := opened.Reload(); changed || err != nil {
		t.Error(changed, err)
	}
	for text, want := range map[string]string{"": "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n" +
		"-----END CERTIFICATE-----\n": "x509"} {
		must(t, os.WriteFile(f.Certificate, []byte(text), 0o600))
		if _, err := opened.Reload(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
