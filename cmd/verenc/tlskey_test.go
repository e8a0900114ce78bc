package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/certtest"
	"github.com/verenc/kms/softhsm/faults"
)

// issuer is an authority that signs certificate requests.
type issuer struct{ *certtest.Authority }

func newIssuer(t *testing.T) issuer { return issuer{certtest.New(t, "authority")} }

// issue makes the certificate that a request asks for, in PEM.
func (i issuer) issue(t *testing.T, request string) (certificate string, public crypto.PublicKey) {
	t.Helper()
	block, _ := pem.Decode([]byte(request))
	if block == nil {
		t.Fatalf("no request: %s", request)
	}
	asked, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = asked.CheckSignature()
	}
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{Subject: asked.Subject, DNSNames: asked.DNSNames, IPAddresses: asked.IPAddresses}
	return certtest.CertificatePEM(i.Sign(t, template, asked.PublicKey)), asked.PublicKey
}

var tlsKeyLine = regexp.MustCompile(`(?m)^tls_key: "(.*)"$`)

// tlsKey makes a key in the token with its certificate, and returns a site with the settings that verenc tls csr
// has said.
func (s *site) tlsKey(t *testing.T, i issuer, name, keyType string) *site {
	t.Helper()
	r := s.run(t, "tls", "csr", "--name", name, "--type", keyType, "--dns", "kms.example.com", "--ip", "127.0.0.1")
	line := tlsKeyLine.FindStringSubmatch(r.stderr)
	if r.code != 0 || line == nil {
		t.Fatal(r)
	}
	certificate, _ := i.issue(t, r.stdout)
	return s.with("VERENC_TLS_CERT="+s.write(t, name+".crt", certificate, 0o600), "VERENC_TLS_KEY="+line[1])
}

// over is an HTTP client that makes a TLS connection for each request.
func (i issuer) over(c *tls.Config) *http.Client {
	c.RootCAs = i.Pool()
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
}

// TestTLSKeyInToken: a server whose key is in the token serves TLS 1.2 and 1.3 to the SDK and to OpenSSL.
func TestTLSKeyInToken(t *testing.T) {
	s, i := initialised(t), newIssuer(t)
	for _, test := range []struct {
		keyType string
		ciphers []string // of OpenSSL with TLS 1.2
		schemes []string // signature algorithms of OpenSSL
	}{
		{"ec-p256", []string{"ECDHE-ECDSA-AES128-GCM-SHA256"}, []string{"ECDSA+SHA256"}},
		{"ec-p384", []string{"ECDHE-ECDSA-AES256-GCM-SHA384"}, []string{"ECDSA+SHA384"}},
		{"rsa-2048", []string{"ECDHE-RSA-AES128-GCM-SHA256"}, []string{"RSA+SHA256", "RSA-PSS+SHA384"}},
	} {
		t.Run(test.keyType, func(t *testing.T) {
			s := s.tlsKey(t, i, test.keyType, test.keyType)
			r := s.serve(t)
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				client := s.sdk(t, "https://"+r.api, i.over(&tls.Config{MinVersion: version, MaxVersion: version}))
				if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
					t.Errorf("%s: %v", tls.VersionName(version), err)
				}
			}
			authority := s.write(t, "authority.pem", certtest.CertificatePEM(i.Leaf), 0o600)
			openssl := func(args ...string) {
				cmd := exec.Command("openssl", append([]string{"s_client", "-connect", r.api, "-CAfile", authority,
					"-verify_return_error", "-verify_ip", "127.0.0.1", "-brief"}, args...)...)
				if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Verification: OK") {
					t.Errorf("openssl %v: %v\n%s", args, err, out)
				}
			}
			openssl("-tls1_3")
			for _, cipher := range test.ciphers {
				for _, scheme := range test.schemes {
					openssl("-tls1_2", "-cipher", cipher, "-sigalgs", scheme)
				}
			}
			if _, metrics := get(t, http.DefaultClient, "http://"+r.private+"/metrics"); !strings.Contains(metrics,
				`verenc_tls_signatures_total{outcome="signed"}`) {
				t.Error("no metric of signatures")
			}
		})
	}
}

// TestTLSKeyIsNoKMSKey: what compares the database with the token lists it as what it is.
func TestTLSKeyIsNoKMSKey(t *testing.T) {
	s, i := initialised(t), newIssuer(t)
	kept := s.tlsKey(t, i, "kept", "ec-p256")
	s.tlsKey(t, i, "other", "ec-p256")
	out := kept.succeeds(t, "doctor", "--reconcile")
	for _, line := range []string{`TLS key:   object verenc/tls/kept \(CKA_ID [0-9a-f]{32}\), that of tls_key`,
		`TLS key:   object verenc/tls/other \(CKA_ID [0-9a-f]{32}\), not that of tls_key`, "database and token agree"} {
		if !regexp.MustCompile("(?m)^" + line).MatchString(out) {
			t.Errorf("%s is not in\n%s", line, out)
		}
	}
	if out := kept.succeeds(t, "doctor"); !strings.Contains(out, "TLS key") ||
		!strings.Contains(out, "pkcs11:token="+s.soft.Label+";object=verenc%2Ftls%2Fkept") {
		t.Error(out)
	}
	r := kept.serve(t) // whose reconciler has run once when it ends
	ready(t, "http://"+r.private+"/readyz")
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if out := kept.succeeds(t, "doctor"); !strings.Contains(out, "TLS key") {
		t.Error(out)
	}
}

// TestTLSKeyRefused: each mistake is told, by the server, by the doctor and by verenc tls csr.
func TestTLSKeyRefused(t *testing.T) {
	s, i := initialised(t), newIssuer(t)
	one, other := s.tlsKey(t, i, "one", "ec-p256"), s.tlsKey(t, i, "other", "ec-p256")
	mixed := one.with("VERENC_TLS_KEY=pkcs11:object=verenc%2Ftls%2Fother")
	refused(t, mixed.run(t, "serve"), "load tls_cert and tls_key", "it has another private key")
	if r := mixed.run(t, "doctor"); r.code != 1 || !strings.Contains(r.stdout, "BAD   TLS key") {
		t.Error(r)
	}
	for uri, words := range map[string]string{
		"pkcs11:object=nowhere":                                   "no private key has this label and id",
		"pkcs11:token=another;object=verenc%2Ftls%2Fone":          `the token has the label`,
		"pkcs11:object=verenc%2Ftls%2Fone?pin-value=hunter2":      "tls_key: read PKCS#11 URI: attribute pin-value",
		"pkcs11:object=verenc%2Ftls%2Fone;slot-id=0":              "slots are numbered anew",
		"pkcs11:object=verenc/tls/one":                            "must be written as %2F",
		"pkcs11:id=%00;object=verenc%2Ftls%2Fone":                 "no private key has this label and id",
		"pkcs11:serial=00;type=private;object=verenc%2Ftls%2Fone": "serial number",
	} {
		r := one.with("VERENC_TLS_KEY="+uri).run(t, "serve")
		if refused(t, r, words); strings.Contains(r.stderr, "hunter2") {
			t.Errorf("the PIN is told: %v", r)
		}
	}
	refused(t, s.run(t, "tls", "csr", "--name", "one", "--dns", "x"), "choose another --name")
	refused(t, s.run(t, "tls", "csr", "--name", "new"), "--dns or --ip")
	refused(t, s.run(t, "tls", "csr", "--name", "a/b", "--dns", "x"), "--name")
	refused(t, s.run(t, "tls", "csr", "--type", "dsa", "--dns", "x"), "--type")
	refused(t, s.run(t, "tls", "csr", "--renew"), "--renew needs")

	// Renewal has the key of the certificate, and its names.
	renewed, public := i.issue(t, one.succeeds(t, "tls", "csr", "--renew"))
	block, _ := pem.Decode([]byte(renewed))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil || certificate.VerifyHostname("kms.example.com") != nil ||
		certificate.VerifyHostname("127.0.0.1") != nil ||
		certificate.Subject.CommonName != "kms.example.com" {
		t.Errorf("%+v, %v", certificate, err)
	}
	old, _ := pem.Decode([]byte(read(t, s.path("one.crt"))))
	before, err := x509.ParseCertificate(old.Bytes)
	if err != nil || !before.PublicKey.(*ecdsa.PublicKey).Equal(public) {
		t.Error("renewal has another key", err)
	}
	// While a server runs, the certificate is renewed, and one of another key is not.
	r := one.serve(t)
	served := func() *x509.Certificate {
		c, err := tls.Dial("tcp", r.api, &tls.Config{RootCAs: i.Pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	s.write(t, "one.crt", read(t, other.path("other.crt")), 0o600)
	r.hangUp(t)
	r.await(t, "a changed file can't be used; its old contents stay in force", "what", "TLS certificates")
	if !served().Equal(before) {
		t.Error("another certificate is served")
	}
	s.write(t, "one.crt", renewed, 0o600)
	r.hangUp(t)
	if !served().Equal(certificate) {
		t.Error("the renewed certificate is not served")
	}
}

// TestTLSKeyAway: while the token is away handshakes fail and the server says that it is not ready; after that
// all is well, without a restart.
func TestTLSKeyAway(t *testing.T) {
	s, i := initialised(t), newIssuer(t)
	module := faults.New(t, s.soft)
	r := s.tlsKey(t, i, "kms", "ec-p256").with("VERENC_TOKEN_MODULE=" + module.Path).serve(t)
	handshake := func() error {
		c, err := tls.Dial("tcp", r.api, &tls.Config{RootCAs: i.Pool()})
		if err != nil {
			return err
		}
		return c.Close()
	}
	if err := handshake(); err != nil {
		t.Fatal(err)
	}
	module.Unplug()
	if err := handshake(); err == nil {
		t.Error("a handshake without the token")
	}
	eventually(t, "the loss is noticed", func() bool {
		status, body := get(t, http.DefaultClient, "http://"+r.private+"/readyz")
		return status != http.StatusOK && strings.Contains(body, "token")
	})
	if err := handshake(); err == nil {
		t.Error("a handshake without the token")
	}
	if !strings.Contains(r.text(t), "TLS handshake error") {
		t.Error("the log does not tell of the handshake")
	}
	module.Plug()
	ready(t, "http://"+r.private+"/readyz")
	eventually(t, "handshakes succeed", func() bool { return handshake() == nil })
}

// TestHandshakeFlood: handshakes that wait for the token leave room for operations.
func TestHandshakeFlood(t *testing.T) {
	s, i := initialised(t), newIssuer(t)
	module := faults.New(t, s.soft)
	r := s.tlsKey(t, i, "kms", "ec-p256").with("VERENC_TOKEN_MODULE="+module.Path, "VERENC_TOKEN_SESSIONS=4",
		"VERENC_AUDIT_CHECKPOINT_WITHIN=1h", "VERENC_AUDIT_CHECKPOINT_EVERY=1000000").serve(t)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: i.Pool()}} // keeps its connection
	t.Cleanup(transport.CloseIdleConnections)
	client := s.sdk(t, "https://"+r.api, &http.Client{Transport: transport})
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	module.Hang("C_Sign")
	var flood sync.WaitGroup
	for range 30 {
		flood.Go(func() {
			if c, err := tls.Dial("tcp", r.api, &tls.Config{RootCAs: i.Pool()}); err == nil {
				_ = c.Close()
			}
		})
	}
	if err := module.WaitHanging(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if _, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: made.KeyMetadata.KeyId,
			Plaintext: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	if n := module.Hanging(); n != 1 {
		t.Errorf("%d signatures are under way", n)
	}
	module.Release()
	flood.Wait()
}
