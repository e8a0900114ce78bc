package iam

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"regexp"
	"strings"
)

// A mapping names certificates in one of these forms:
//
//	0123...  64 hex digits        SHA-256 of the DER: this certificate
//	spiffe://TRUST-DOMAIN/PATH    the SPIFFE ID (SPIFFE X.509-SVID, section 2), in either case of a workload
//	spiffe://TRUST-DOMAIN/PATH/*  all SPIFFE IDs below a path
//	dns:HOST                      one of the DNS names, which may not be a wildcard
//	subject:CN=...,O=...          the subject, as a string of RFC 2253 (openssl x509 -nameopt RFC2253)
//
// All but the first are true of every certificate that the authorities in tls_client_ca issue with that name. So
// short-lived certificates need no mapping of their own.
const (
	spiffePrefix  = "spiffe://"
	dnsPrefix     = "dns:"
	subjectPrefix = "subject:"
)

// Limits of the names of a certificate.
const (
	maxCertificateName  = 2048 // bytes (SPIFFE ID, section 2.3)
	maxCertificateNames = 64   // that one certificate may be mapped by
)

var (
	fingerprintPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
	spiffePattern      = regexp.MustCompile(`^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)+$`)
	hostPattern        = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)
)

// ParseCertificateName reads the name of certificates that a mapping has. A fingerprint may be in either case, with or
// without colons.
func ParseCertificateName(text string) (string, error) {
	if len(text) > maxCertificateName {
		return "", fmt.Errorf("the name of a certificate has more than %d bytes", maxCertificateName)
	}
	if host, ok := strings.CutPrefix(text, dnsPrefix); ok {
		if host = strings.ToLower(host); len(host) > 253 || !hostPattern.MatchString(host) {
			return "", fmt.Errorf("%q is not a DNS name without wildcards", host)
		}
		return dnsPrefix + host, nil
	}
	if subject, ok := strings.CutPrefix(text, subjectPrefix); ok {
		if !strings.Contains(subject, "=") {
			return "", fmt.Errorf("%q is not a subject such as CN=app,O=Example (verenc certificate names prints "+
				"that of a certificate)", subject)
		}
		return text, nil
	}
	if strings.HasPrefix(text, spiffePrefix) {
		if !isSPIFFE(strings.TrimSuffix(text, "/*")) {
			return "", fmt.Errorf("%q is not a SPIFFE ID such as spiffe://example.org/ns/shop/sa/orders, or such a path "+
				"with /* for all below it", text)
		}
		return text, nil
	}
	fingerprint := strings.ToLower(strings.ReplaceAll(text, ":", ""))
	if !fingerprintPattern.MatchString(fingerprint) {
		return "", fmt.Errorf("%q is not the SHA-256 of a certificate in hex (openssl x509 -noout -fingerprint -sha256 "+
			"prints it), and does not begin with %s, %s or %s", text, spiffePrefix, dnsPrefix, subjectPrefix)
	}
	return fingerprint, nil
}

// HasNamePrefix reports whether a text is meant as a name other than a fingerprint.
func HasNamePrefix(text string) bool {
	return strings.HasPrefix(text, spiffePrefix) || strings.HasPrefix(text, dnsPrefix) ||
		strings.HasPrefix(text, subjectPrefix)
}

// isSPIFFE reports whether a text is a SPIFFE ID with a path (SPIFFE ID, section 2).
func isSPIFFE(text string) bool {
	if !spiffePattern.MatchString(text) {
		return false
	}
	for segment := range strings.SplitSeq(text[len(spiffePrefix):], "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}

// CertificateNames returns the names that a certificate may be mapped by, of which the first is its fingerprint, or
// none but that if they are too many.
func CertificateNames(c *x509.Certificate) []string {
	names := []string{Fingerprint(c.Raw)}
	// An X.509-SVID has one URI, or it is none (SPIFFE X.509-SVID, section 2).
	if len(c.URIs) == 1 {
		names = append(names, spiffeNames(c.URIs[0].String())...)
	}
	for _, host := range c.DNSNames {
		if name, err := ParseCertificateName(dnsPrefix + host); err == nil {
			names = append(names, name)
		}
	}
	var subject pkix.RDNSequence
	if rest, err := asn1.Unmarshal(c.RawSubject, &subject); err == nil && len(rest) == 0 && len(subject) > 0 {
		names = append(names, subjectPrefix+subject.String())
	}
	if len(names) > maxCertificateNames {
		return names[:1]
	}
	return names
}

// spiffeNames returns a SPIFFE ID, and the patterns of all paths that it is below.
func spiffeNames(id string) (names []string) {
	if len(id) > maxCertificateName || !isSPIFFE(id) {
		return nil
	}
	names = []string{id}
	for path := id; ; {
		path = path[:strings.LastIndexByte(path, '/')]
		if strings.Count(path, "/") < 3 {
			return names // of a trust domain: whoever means all of it names a path
		}
		names = append(names, path+"/*")
	}
}
