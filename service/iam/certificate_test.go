package iam_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/verenc/kms/service/certtest"
	"github.com/verenc/kms/service/iam"
)

func TestCertificatesOfUser(t *testing.T) {
	dir, _ := newDirectory(t)
	app, other := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "app")),
		createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "other"))
	fingerprint, err := iam.ParseCertificateName(strings.TrimSuffix(strings.Repeat("AB:", 32), ":"))
	if err != nil || fingerprint != strings.Repeat("ab", 32) {
		t.Fatal(fingerprint, err)
	}
	for _, text := range []string{"", "ab", strings.Repeat("xy", 32), strings.Repeat("ab", 33)} {
		_, err := iam.ParseCertificateName(text)
		wantWords(t, err, "is not the SHA-256 of a certificate", "openssl x509")
	}
	for range 2 {
		if err := dir.MapCertificate(t.Context(), fingerprint, app); err != nil {
			t.Error(err)
		}
	}
	wantWords(t, dir.MapCertificate(t.Context(), fingerprint, other), "is already mapped to "+app.ARN,
		"unmap "+fingerprint)
	if all, err := dir.Certificates(t.Context()); err != nil || len(all) != 1 || all[0].PrincipalARN != app.ARN {
		t.Errorf("%v, %v", all, err)
	}
	if err := dir.UnmapCertificate(t.Context(), fingerprint); err != nil {
		t.Error(err)
	}
	wantWords(t, dir.UnmapCertificate(t.Context(), fingerprint), "no principal has the certificate")
}

// TestCertificateNames: what certificates may be mapped by, and what of a certificate counts.
func TestCertificateNames(t *testing.T) {
	for text, want := range map[string]string{
		"spiffe://example.org/ns/shop/sa/orders":  "spiffe://example.org/ns/shop/sa/orders",
		"spiffe://example.org/ns/*":               "spiffe://example.org/ns/*",
		"dns:Orders.Example.ORG":                  "dns:orders.example.org",
		"subject:CN=orders,O=Example":             "subject:CN=orders,O=Example",
		"spiffe://example.org":                    "", // a trust domain has no identity
		"spiffe://example.org/*":                  "",
		"spiffe://example.org/":                   "",
		"spiffe://example.org/a/":                 "",
		"spiffe://example.org/a/../b":             "",
		"spiffe://example.org/a*":                 "",
		"spiffe://example.org/*/b":                "",
		"spiffe://Example.org/a":                  "",
		"spiffe://example.org:80/a":               "",
		"spiffe://a@example.org/a":                "",
		"spiffe://example.org/a?b":                "",
		"spiffe://example.org/a%2fb":              "",
		"SPIFFE://example.org/a":                  "",
		"dns:*.example.org":                       "",
		"dns:":                                    "",
		"dns:a b":                                 "",
		"subject:orders":                          "",
		"spiffe://e/" + strings.Repeat("a", 2048): "",
	} {
		if got, err := iam.ParseCertificateName(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	many := make([]string, 100)
	for i := range many {
		many[i] = fmt.Sprintf("host-%d.example.org", i)
	}
	uri := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	const id = "spiffe://example.org/ns/shop/sa/orders"
	authority := certtest.New(t, "authority")
	for name, test := range map[string]struct {
		template x509.Certificate
		want     []string // besides the fingerprint
	}{
		"all": {x509.Certificate{Subject: pkix.Name{CommonName: "orders, the", Organization: []string{"Example"}},
			DNSNames: []string{"Orders.example.org", "*.example.org"}, URIs: []*url.URL{uri(id)}},
			[]string{id, "spiffe://example.org/ns/shop/sa/*", "spiffe://example.org/ns/shop/*", "spiffe://example.org/ns/*",
				"dns:orders.example.org", `subject:CN=orders\, the,O=Example`}},
		"nothing":       {x509.Certificate{}, nil},
		"two URIs":      {x509.Certificate{URIs: []*url.URL{uri(id), uri("https://example.org")}}, nil},
		"no SPIFFE ID":  {x509.Certificate{URIs: []*url.URL{uri("https://example.org/ns")}}, nil},
		"trust domain":  {x509.Certificate{URIs: []*url.URL{uri("spiffe://example.org")}}, nil},
		"odd SPIFFE ID": {x509.Certificate{URIs: []*url.URL{uri("spiffe://example.org/a%2Fb")}}, nil},
		"dots":          {x509.Certificate{URIs: []*url.URL{uri("spiffe://example.org/a/../ns/shop")}}, nil},
		"short path":    {x509.Certificate{URIs: []*url.URL{uri("spiffe://example.org/a")}}, []string{"spiffe://example.org/a"}},
		"too many":      {x509.Certificate{DNSNames: many, Subject: pkix.Name{CommonName: "x"}}, nil},
	} {
		c := authority.IssueLike(t, test.template).Leaf
		if got := iam.CertificateNames(c); got[0] != iam.Fingerprint(c.Raw) || !slices.Equal(got[1:], test.want) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
