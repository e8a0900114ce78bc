package main

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/store"
	"github.com/verenc/kms/transport/sdktest"
)

// TestClientCertificates: a client with a mapped certificate needs no access key, and with
// tls_client_auth: required none is served without a certificate.
func TestClientCertificates(t *testing.T) {
	s := initialised(t)
	certificate, key, pool := selfSigned(t, s) // the server's, its authority's and the client's in one
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), store.Config{Path: s.path("kms.db")})
	if err != nil {
		t.Fatal(err)
	}
	err = db.PutCertificate(t.Context(), &iam.Certificate{Name: iam.Fingerprint(pair.Certificate[0]),
		PrincipalARN: "arn:aws:iam::111122223333:root", CreatedAt: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	served := func(auth string) (anonymous, signed func(...tls.Certificate) error, stop func()) {
		r := s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY="+key, "VERENC_TLS_CLIENT_CA="+certificate,
			"VERENC_TLS_CLIENT_AUTH="+auth).serve(t)
		call := func(credentials aws.CredentialsProvider) func(...tls.Certificate) error {
			return func(certificates ...tls.Certificate) error {
				// With TLS 1.3 a client learns only after the handshake, and not for certain, that
				// its certificate is refused.
				transport := &http.Transport{
					TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12,
						Certificates: certificates}}
				t.Cleanup(transport.CloseIdleConnections)
				c := kms.New(kms.Options{BaseEndpoint: aws.String("https://" + r.api), Region: "us-east-1",
					RetryMaxAttempts: 1, Credentials: credentials,
					HTTPClient: &http.Client{Transport: sdktest.Transport{Transport: transport}}})
				_, err := c.ListKeys(t.Context(), &kms.ListKeysInput{})
				return err
			}
		}
		return call(aws.AnonymousCredentials{}),
			call(s.sdk(t, "https://"+r.api, http.DefaultClient).Options().Credentials), func() {
				if code := r.stop(t); code != 0 {
					t.Errorf("exit code %d", code)
				}
			}
	}

	anonymous, signed, stop := served("optional")
	if err := anonymous(pair); err != nil {
		t.Error(err)
	}
	if err := signed(); err != nil {
		t.Error(err)
	}
	if err := anonymous(); err == nil || !strings.Contains(err.Error(), "MissingAuthenticationTokenException") {
		t.Error(err)
	}
	stop()
	anonymous, signed, stop = served("required")
	if err := anonymous(pair); err != nil {
		t.Error(err)
	}
	if err := signed(pair); err != nil {
		t.Error(err)
	}
	if err := signed(); err == nil || !strings.Contains(err.Error(), "handshake failure") {
		t.Error(err)
	}
	stop()

	refused(t, s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY="+key, "VERENC_TLS_CLIENT_CA=/nowhere/ca").run(t,
		"serve"), "load tls_client_ca", "/nowhere/ca")
	refused(t, s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY="+key, "VERENC_TLS_CLIENT_CA="+key).run(t,
		"serve"), "load tls_client_ca", "holds no certificate")
}
