// Package oidc verifies the tokens of OpenID Connect issuers for AssumeRoleWithWebIdentity.
//
// What it protects: the roles that trust an issuer, from tokens that it has not signed, that were made for somebody
// else, or that are not valid now; and the issuer and this server, from callers who have no credentials yet. Only
// configured issuers are asked for keys, one question at a time, and seldom; their answers are bounded in size and
// time; redirections are not followed.
//
// What it trusts: the issuer's keys, as they come over HTTPS from the host that the configuration names, or from a
// file, for rooms without a network. What a token may be used for is decided by the trust policy of the role.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// Issuer is a configured issuer.
type Issuer struct {
	URL       string   // https://HOST or https://HOST/PATH, as in the tokens' claim iss
	Audiences []string // that are accepted, at least one
	CAFile    string   // authorities of the issuer's host, PEM; empty: those of the system
	JWKSFile  string   // the issuer's keys; empty: they are fetched
}

// Config is what a Verifier is made of. All members are required.
type Config struct {
	Issuers []Issuer
	Skew    time.Duration // between the issuers' clocks and this one's
	Now     func() time.Time
}

// Verifier verifies tokens. Its methods may be called concurrently.
type Verifier struct {
	issuers map[string]*issuer // by URL
	skew    time.Duration
	now     func() time.Time
}

// issuer is an issuer with its keys.
type issuer struct {
	Issuer
	name string // without https://
	keys *keySet
}

// algorithms are those that tokens may be signed with: asymmetric ones only. So alg: none is refused, and a public key
// can't be taken for the secret of an HMAC.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// AWS's messages, as far as AWS has them.
const (
	msgNotJWT = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
	msgNoKey  = "Couldn't retrieve verification key from your identity provider, please reference " +
		"AssumeRoleWithWebIdentity documentation for requirements"
	msgUnreachable  = "The keys of the identity provider can't be read. Retry the request."
	msgNoIssuer     = "No OpenIDConnect provider found in your account for %s"
	msgAudience     = "Incorrect token audience"
	msgSignature    = "The signature of the token is not valid"
	msgMissingClaim = "Missing a required claim: %s"
	msgExpired      = "Token expired: current date/time %d must be before the expiration date/time %d"
	msgNotYet       = "Token is not yet valid: current date/time %d must be after the date/time %d"
)

// New returns a Verifier. It reads files, and asks no issuer anything.
func New(cfg Config) (*Verifier, error) {
	v := &Verifier{issuers: map[string]*issuer{}, skew: cfg.Skew, now: cfg.Now}
	seen := map[string]bool{}
	for _, i := range cfg.Issuers {
		name, err := checkURL(i.URL)
		switch {
		case err != nil:
			return nil, err
		case seen[strings.ToLower(name)]: // condition keys ignore case
			return nil, fmt.Errorf("issuer %s is there twice", i.URL)
		case len(i.Audiences) == 0 || slices.Contains(i.Audiences, ""):
			return nil, fmt.Errorf("issuer %s: name the audiences of its tokens that are accepted", i.URL)
		}
		seen[strings.ToLower(name)] = true
		keys, err := newKeySet(&i, cfg.Now)
		if err != nil {
			return nil, fmt.Errorf("issuer %s: %w", i.URL, err)
		}
		v.issuers[i.URL] = &issuer{Issuer: i, name: name, keys: keys}
	}
	return v, nil
}

// checkURL checks the URL of an issuer (OpenID Connect Core 1.0, section 2, iss), and returns it without https://.
func checkURL(text string) (name string, err error) {
	u, err := url.Parse(text)
	name, isHTTPS := strings.CutPrefix(text, "https://")
	if err != nil || !isHTTPS || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.ContainsAny(text, "?#*$ ") || len(text) > 255 {
		return "", fmt.Errorf("issuer %q is not a URL such as https://HOST/PATH of at most 255 characters", text)
	}
	return strings.TrimSuffix(name, "/"), nil
}

// Reload reads the files of the issuers again, and reports whether one has changed.
func (v *Verifier) Reload() (changed bool, err error) {
	var errs []error
	for _, i := range v.issuers {
		of, err := i.keys.reload()
		if changed = changed || of; err != nil {
			errs = append(errs, fmt.Errorf("issuer %s: %w", i.URL, err))
		}
	}
	return changed, errors.Join(errs...)
}

// Verify implements iam.WebIdentities.
func (v *Verifier) Verify(ctx context.Context, token string) (*iam.WebIdentity, error) {
	parsed, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return nil, apierror.New(apierror.InvalidIdentityToken, msgNotJWT).WithCause(err)
	}
	var unverified struct {
		Issuer string `json:"iss"`
	}
	if err := decode(parsed.UnsafePayloadWithoutVerification(), &unverified); err != nil {
		return nil, apierror.New(apierror.InvalidIdentityToken, msgNotJWT).WithCause(err)
	}
	i := v.issuers[unverified.Issuer]
	if i == nil {
		return nil, apierror.New(apierror.InvalidIdentityToken, msgNoIssuer, shown(unverified.Issuer))
	}
	signature := &signatureCheck{keys: i.keys, parsed: parsed}
	names := make([]string, len(algorithms))
	for n, a := range algorithms {
		names[n] = string(a)
	}
	// The times, and the audiences, of which there may be several, are checked below.
	verified, err := oidc.NewVerifier(i.URL, signature, &oidc.Config{SupportedSigningAlgs: names,
		SkipClientIDCheck: true, SkipExpiryCheck: true}).Verify(ctx, token)
	if signature.err != nil {
		return nil, signature.err
	}
	if err != nil {
		return nil, apierror.New(apierror.InvalidIdentityToken, msgNotJWT).WithCause(err)
	}
	return v.read(i, verified)
}

// shown is an issuer as an answer and the log show it, which somebody unknown has sent.
func shown(issuer string) string {
	if len(issuer) > 255 || strings.ContainsFunc(issuer, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "the issuer of the token"
	}
	return issuer
}

// signatureCheck is the oidc.KeySet of one token. It keeps its error, of which go-oidc keeps the text only.
type signatureCheck struct {
	keys   *keySet
	parsed *jose.JSONWebSignature
	err    error
}

// VerifySignature implements oidc.KeySet.
func (s *signatureCheck) VerifySignature(ctx context.Context, _ string) (payload []byte, err error) {
	payload, s.err = s.verify(ctx)
	return payload, s.err
}

func (s *signatureCheck) verify(ctx context.Context) ([]byte, error) {
	header := s.parsed.Signatures[0].Protected
	keys, err := s.keys.find(ctx, header.KeyID, header.Algorithm)
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if payload, err := s.parsed.Verify(k.Key); err == nil {
			return payload, nil
		}
	}
	return nil, apierror.New(apierror.InvalidIdentityToken, msgSignature)
}
