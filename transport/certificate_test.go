package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/certtest"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/sdktest"
)

// tlsServer is a listener that asks for certificates of an authority.
type tlsServer struct {
	*server
	listener *httptest.Server
	revoked  atomic.Bool // every client's certificate
}

func (s *server) overTLS(t *testing.T, auth tls.ClientAuthType, a *certtest.Authority) *tlsServer {
	t.Helper()
	over := &tlsServer{server: s}
	verify := func(r *http.Request) error {
		if over.revoked.Load() {
			return errors.New("revoked")
		}
		return nil
	}
	h, err := transport.New(transport.Config{Service: s.Service, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		Regions: []string{region, otherRegion}, Now: s.Now, VerifyClient: verify})
	if err != nil {
		t.Fatal(err)
	}
	l := httptest.NewUnstartedServer(h)
	l.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	l.TLS = &tls.Config{ClientCAs: a.Pool(), ClientAuth: auth}
	l.StartTLS()
	t.Cleanup(l.Close)
	over.listener = l
	return over
}

// client is an AWS client that sends a certificate, if it has one, and signs if it has credentials.
func (l *tlsServer) client(t *testing.T, c aws.CredentialsProvider, certificates ...tls.Certificate) *kms.Client {
	t.Helper()
	trust := x509.NewCertPool()
	trust.AddCert(l.listener.Certificate())
	// With TLS 1.3 a client learns only after the handshake, and not for certain, that its certificate is refused.
	rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, MaxVersion: tls.VersionTLS12,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certificates) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certificates[0], nil // even if the server did not ask for its authority
		}}, ForceAttemptHTTP2: true}
	t.Cleanup(rt.CloseIdleConnections)
	return kms.New(kms.Options{BaseEndpoint: &l.listener.URL, Region: region, RetryMaxAttempts: 1, Credentials: c,
		HTTPClient: &http.Client{Transport: sdktest.Transport{Transport: rt}}})
}

func (s *server) mapCertificate(t *testing.T, c tls.Certificate, arn string) string {
	t.Helper()
	fingerprint := iam.Fingerprint(c.Certificate[0])
	if err := s.Store.PutCertificate(t.Context(),
		&iam.Certificate{Name: fingerprint, PrincipalARN: arn, CreatedAt: s.Now()}); err != nil {
		t.Fatal(err)
	}
	return fingerprint
}

func TestClientCertificates(t *testing.T) {
	s := newServer(t, options{})
	a := certtest.New(t, "authority")
	tlsOptional := s.overTLS(t, tls.VerifyClientCertIfGiven, a)
	id, arn := s.newKey(t)
	alice := s.user(t, account, "alice", identityPolicy("kms:Encrypt"))
	encrypt := func(c *kms.Client) error {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		return err
	}
	describe := func(c *kms.Client) error {
		_, err := c.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
		return err
	}
	anonymous := aws.AnonymousCredentials{}
	mapped := a.IssueLike(t, x509.Certificate{NotAfter: time.Now().Add(time.Hour)})
	s.mapCertificate(t, mapped, alice.ARN)

	t.Run("mapped to a user", func(t *testing.T) {
		c := tlsOptional.client(t, anonymous, mapped)
		if err := encrypt(c); err != nil {
			t.Error(err)
		}
		wantError(t, describe(c), "AccessDeniedException",
			denial(alice.ARN, "DescribeKey", arn, noPolicy("identity-based", "DescribeKey")))
	})
	t.Run("mapped to a role", func(t *testing.T) {
		role := s.role(t, account, "machine",
			iam.PrincipalDetails{Policies: named([]string{identityPolicy("kms:DescribeKey")})})
		certificate := a.Issue(t, "client")
		session := "arn:aws:sts::" + account + ":assumed-role/machine/" + s.mapCertificate(t, certificate, role)
		c := tlsOptional.client(t, anonymous, certificate)
		if err := describe(c); err != nil {
			t.Error(err)
		}
		wantError(t, encrypt(c), "AccessDeniedException",
			denial(session, "Encrypt", arn, noPolicy("identity-based", "Encrypt")))
	})
	t.Run("mapped to root", func(t *testing.T) {
		certificate := a.Issue(t, "client")
		s.mapCertificate(t, certificate, iamARN(account, "root"))
		if err := describe(tlsOptional.client(t, anonymous, certificate)); err != nil {
			t.Error(err)
		}
	})
	t.Run("mapped to nobody any more", func(t *testing.T) {
		gone := s.user(t, account, "gone", identityPolicy("kms:*"))
		certificate := a.Issue(t, "client")
		s.mapCertificate(t, certificate, gone.ARN)
		c := tlsOptional.client(t, anonymous, certificate)
		if err := encrypt(c); err != nil {
			t.Error(err)
		}
		if err := s.Store.RemovePrincipal(t.Context(), gone.ARN); err != nil {
			t.Fatal(err)
		}
		wantError(t, encrypt(c), "UnrecognizedClientException", "The client certificate is mapped to no principal.")
	})
	t.Run("unmapped", func(t *testing.T) {
		wantError(t, encrypt(tlsOptional.client(t, anonymous, a.Issue(t, "client"))), "UnrecognizedClientException",
			"The client certificate is mapped to no principal.")
	})
	t.Run("a signature wins", func(t *testing.T) {
		signed := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return s.Secret, nil })
		if err := describe(tlsOptional.client(t, signed, mapped)); err != nil {
			t.Error(err)
		}
		forged := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.Secret.AccessKeyID, SecretAccessKey: "wrong"}, nil
		})
		wantError(t, encrypt(tlsOptional.client(t, forged, mapped)), "InvalidSignatureException", "*")
	})
	t.Run("none, optional", func(t *testing.T) {
		wantError(t, encrypt(tlsOptional.client(t, anonymous)), "MissingAuthenticationTokenException",
			"Missing Authentication Token")
		signed := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return alice.Secret, nil
		})
		if err := encrypt(tlsOptional.client(t, signed)); err != nil {
			t.Error(err)
		}
	})
	t.Run("none, required", func(t *testing.T) {
		signed := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return alice.Secret, nil
		})
		tlsRequired := s.overTLS(t, tls.RequireAndVerifyClientCert, a)
		wantTLSError(t, encrypt(tlsRequired.client(t, signed)), "handshake failure")
		if err := encrypt(tlsRequired.client(t, signed, mapped)); err != nil {
			t.Error(err)
		}
	})
	t.Run("of another authority", func(t *testing.T) {
		stranger := certtest.New(t, "authority").Issue(t, "client")
		s.mapCertificate(t, stranger, alice.ARN)
		wantTLSError(t, encrypt(tlsOptional.client(t, anonymous, stranger)), "unknown certificate authority")
	})
	t.Run("expired", func(t *testing.T) {
		old := a.IssueLike(t, x509.Certificate{NotAfter: time.Now().Add(-time.Hour)})
		s.mapCertificate(t, old, alice.ARN)
		wantTLSError(t, encrypt(tlsOptional.client(t, anonymous, old)), "expired certificate")
	})
	t.Run("another's certificate without its key", func(t *testing.T) {
		stolen := tls.Certificate{Certificate: mapped.Certificate, PrivateKey: a.Issue(t, "thief").PrivateKey}
		wantTLSError(t, encrypt(tlsOptional.client(t, anonymous, stolen)), "")
	})
	t.Run("plain HTTP", func(t *testing.T) {
		c := kms.New(kms.Options{BaseEndpoint: &s.URL, Region: region, RetryMaxAttempts: 1, HTTPClient: s.http,
			Credentials: anonymous})
		wantError(t, encrypt(c), "MissingAuthenticationTokenException", "Missing Authentication Token")
	})
	t.Run("is revoked on an open connection", func(t *testing.T) {
		signing := credentials.NewStaticCredentialsProvider(s.Secret.AccessKeyID, s.Secret.SecretAccessKey, "")
		without := tlsOptional.client(t, signing)
		clients := []*kms.Client{tlsOptional.client(t, anonymous, mapped), tlsOptional.client(t, signing, mapped)}
		for _, c := range clients {
			if err := encrypt(c); err != nil {
				t.Fatal(err)
			}
			tlsOptional.revoked.Store(true)
			wantError(t, encrypt(c), "UnrecognizedClientException", "The client certificate is no longer valid.")
			if err := encrypt(without); err != nil {
				t.Error(err)
			}
			tlsOptional.revoked.Store(false)
		}
	})
	t.Run("expires on an open connection", func(t *testing.T) { // last: it changes the clock
		c := tlsOptional.client(t, anonymous, mapped)
		if err := encrypt(c); err != nil {
			t.Fatal(err)
		}
		s.advance(61 * time.Minute)
		wantError(t, encrypt(c), "ExpiredTokenException", "The client certificate is expired.")
	})
}

// TestCertificatesByName: all certificates of a name prove the user that the name is mapped to, without one mapping for
// each; one whose names are mapped to several principals proves none. The record says which certificate it was.
func TestCertificatesByName(t *testing.T) {
	records := &memoryAuditor{}
	s := newServer(t, options{service: func(c *service.Config) { c.Audit = records }})
	a := certtest.New(t, "authority")
	over := s.overTLS(t, tls.VerifyClientCertIfGiven, a)
	id, _ := s.newKey(t)
	users := map[string]string{}
	for name, certificates := range map[string]string{"orders": "spiffe://example.org/ns/shop/sa/orders",
		"batch": "spiffe://example.org/ns/batch/*", "host": "dns:host.example.org", "person": "subject:CN=person,O=Example"} {
		user := s.user(t, account, name, identityPolicy("kms:DescribeKey"))
		users[name] = user.ARN
		if err := s.Store.PutCertificate(t.Context(), &iam.Certificate{Name: certificates, PrincipalARN: user.ARN,
			CreatedAt: s.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	spiffe := func(id string) x509.Certificate {
		u, err := url.Parse(id)
		if err != nil {
			t.Fatal(err)
		}
		return x509.Certificate{URIs: []*url.URL{u}}
	}
	both := spiffe("spiffe://example.org/ns/shop/sa/orders")
	both.DNSNames = []string{"host.example.org"}
	const unmapped, several = "The client certificate is mapped to no principal.",
		"The client certificate is mapped to several principals."
	for _, test := range []struct {
		name        string
		certificate x509.Certificate
		user, error string
	}{
		{"SPIFFE ID", spiffe("spiffe://example.org/ns/shop/sa/orders"), "orders", ""},
		{"another SPIFFE ID", spiffe("spiffe://example.org/ns/shop/sa/order"), "", unmapped},
		{"a longer SPIFFE ID", spiffe("spiffe://example.org/ns/shop/sa/orders/x"), "", unmapped},
		{"another trust domain", spiffe("spiffe://example.com/ns/shop/sa/orders"), "", unmapped},
		{"below a path", spiffe("spiffe://example.org/ns/batch/sa/night"), "batch", ""},
		{"the path itself", spiffe("spiffe://example.org/ns/batch"), "", unmapped},
		{"beside the path", spiffe("spiffe://example.org/ns/batch2/sa/night"), "", unmapped},
		{"DNS name", x509.Certificate{DNSNames: []string{"a.example.org", "HOST.example.org"}}, "host", ""},
		{"common name like the DNS name", x509.Certificate{Subject: pkix.Name{CommonName: "host.example.org"}}, "",
			unmapped},
		{"wildcard", x509.Certificate{DNSNames: []string{"*.example.org"}}, "", unmapped},
		{"subject", x509.Certificate{Subject: pkix.Name{CommonName: "person", Organization: []string{"Example"}}}, "person",
			""},
		{"a part of the subject", x509.Certificate{Subject: pkix.Name{CommonName: "person"}}, "", unmapped},
		{"a subject that contains it", x509.Certificate{Subject: pkix.Name{CommonName: "person,O=Example"}}, "",
			unmapped},
		{"two users", both, "", several},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // a renewed certificate is as good
				c := a.IssueLike(t, test.certificate)
				err := describeWith(t, over.client(t, aws.AnonymousCredentials{}, c), id)
				if test.error != "" {
					wantError(t, err, "UnrecognizedClientException", test.error)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSpace(records.String()), "\n")
				last := lines[len(lines)-1]
				for _, part := range []string{`"arn":"` + users[test.user] + `"`, `"clientCertificate":{"sha256":"` +
					iam.Fingerprint(c.Certificate[0]) + `","serialNumber":"`} {
					if !strings.Contains(last, part) {
						t.Errorf("%s is not in %s", part, last)
					}
				}
			}
		})
	}
	// A changed mapping counts at once, and a certificate that was unknown before is known then.
	stranger := spiffe("spiffe://example.org/ns/new/sa/x")
	c := over.client(t, aws.AnonymousCredentials{}, a.IssueLike(t, stranger))
	wantError(t, describeWith(t, c, id), "UnrecognizedClientException", unmapped)
	mapping := &iam.Certificate{Name: "spiffe://example.org/ns/new/*", PrincipalARN: users["orders"],
		CreatedAt: s.Now()}
	if err := s.Store.PutCertificate(t.Context(), mapping); err != nil {
		t.Fatal(err)
	}
	if err := describeWith(t, c, id); err != nil {
		t.Error(err)
	}
	if err := s.Store.RemoveCertificate(t.Context(), mapping.Name); err != nil {
		t.Fatal(err)
	}
	wantError(t, describeWith(t, c, id), "UnrecognizedClientException", unmapped)
	// Of another authority, the same name proves nothing.
	forged := certtest.New(t, "authority").IssueLike(t, both)
	wantTLSError(t, describeWith(t, over.client(t, aws.AnonymousCredentials{}, forged), id), "certificate")
}

// wantTLSError expects a failed handshake whose reason the server has sent.
func wantTLSError(t *testing.T, err error, reason string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "tls: ") || !strings.Contains(err.Error(), reason) ||
		strings.Contains(err.Error(), "Exception") {
		t.Errorf("%v, want a TLS error: %s", err, reason)
	}
}
