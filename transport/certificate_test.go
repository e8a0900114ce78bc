package transport_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
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
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/transport"
	"github.com/verenc/kms/transport/sdktest"
)

// authority issues client certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newECKey(t)}
	a.certificate = parse(t,
		sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
			NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}, a, a.key))
	return a
}

func newECKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sign signs a certificate by an authority, which may be the certificate itself.
func sign(t *testing.T, c *x509.Certificate, by *authority, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	parent := by.certificate
	if parent == nil {
		parent = c
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore = serial, time.Now().Add(-2*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func parse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// issue makes a client certificate that is valid for a time.
func (a *authority) issue(t *testing.T, valid time.Duration) tls.Certificate {
	t.Helper()
	return a.issueFor(t, x509.Certificate{Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(valid)})
}

// issueFor makes a client certificate with some names.
func (a *authority) issueFor(t *testing.T, c x509.Certificate) tls.Certificate {
	t.Helper()
	key := newECKey(t)
	c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	der := sign(t, &c, a, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// tlsServer is a listener that asks for certificates of an authority.
type tlsServer struct {
	*server
	listener *httptest.Server
	revoked  atomic.Bool // every client's certificate
}

func (s *server) overTLS(t *testing.T, auth tls.ClientAuthType, a *authority) *tlsServer {
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
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	l.TLS = &tls.Config{ClientCAs: pool, ClientAuth: auth}
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
	a := newAuthority(t)
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
	mapped := a.issue(t, time.Hour)
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
		certificate := a.issue(t, time.Hour)
		session := "arn:aws:sts::" + account + ":assumed-role/machine/" + s.mapCertificate(t, certificate, role)
		c := tlsOptional.client(t, anonymous, certificate)
		if err := describe(c); err != nil {
			t.Error(err)
		}
		wantError(t, encrypt(c), "AccessDeniedException",
			denial(session, "Encrypt", arn, noPolicy("identity-based", "Encrypt")))
	})
	t.Run("mapped to root", func(t *testing.T) {
		certificate := a.issue(t, time.Hour)
		s.mapCertificate(t, certificate, iamARN(account, "root"))
		if err := describe(tlsOptional.client(t, anonymous, certificate)); err != nil {
			t.Error(err)
		}
	})
	t.Run("mapped to nobody any more", func(t *testing.T) {
		gone := s.user(t, account, "gone", identityPolicy("kms:*"))
		certificate := a.issue(t, time.Hour)
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
		wantError(t, encrypt(tlsOptional.client(t, anonymous, a.issue(t, time.Hour))), "UnrecognizedClientException",
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
		stranger := newAuthority(t).issue(t, time.Hour)
		s.mapCertificate(t, stranger, alice.ARN)
		wantTLSError(t, encrypt(tlsOptional.client(t, anonymous, stranger)), "unknown certificate authority")
	})
	t.Run("expired", func(t *testing.T) {
		old := a.issue(t, -time.Hour)
		s.mapCertificate(t, old, alice.ARN)
		wantTLSError(t, encrypt(tlsOptional.client(t, anonymous, old)), "expired certificate")
	})
	t.Run("another's certificate without its key", func(t *testing.T) {
		stolen := tls.Certificate{Certificate: mapped.Certificate, PrivateKey: newECKey(t)}
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
	a := newAuthority(t)
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
			test.certificate.NotAfter = time.Now().Add(time.Hour)
			for range 2 { // a renewed certificate is as good
				c := a.issueFor(t, test.certificate)
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
	stranger.NotAfter = time.Now().Add(time.Hour)
	c := over.client(t, aws.AnonymousCredentials{}, a.issueFor(t, stranger))
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
	forged := newAuthority(t).issueFor(t, both)
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
