package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	strict "github.com/go-json-experiment/json"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// claims are those of a token that count here (RFC 7519, section 4.1; OpenID Connect Core 1.0, section 2; AWS page
// "Passing session tags in AWS STS", passing session tags using AssumeRoleWithWebIdentity).
type claims struct {
	Issuer          string           `json:"iss"`
	Subject         string           `json:"sub"`
	Audience        texts            `json:"aud"`
	Expires         *float64         `json:"exp"` // seconds since 1970
	IssuedAt        *float64         `json:"iat"`
	NotBefore       *float64         `json:"nbf"`
	ID              string           `json:"jti"`
	AuthorizedParty string           `json:"azp"`
	Methods         texts            `json:"amr"`
	Tags            tagsClaim        `json:"https://aws.amazon.com/tags"`
	SourceIdentity  *json.RawMessage `json:"https://aws.amazon.com/source_identity"`
}

type tagsClaim struct {
	Principal  map[string]texts `json:"principal_tags"`
	Transitive []string         `json:"transitive_tag_keys"`
}

// texts is a string, or a list of strings.
type texts []string

// UnmarshalJSON implements json.Unmarshaler.
func (t *texts) UnmarshalJSON(text []byte) error {
	var one string
	if strict.Unmarshal(text, &one) == nil {
		*t = texts{one}
		return nil
	}
	return strict.Unmarshal(text, (*[]string)(t))
}

// Limits of claims that appear in answers (AWS STS API Reference, SubjectFromWebIdentityToken and Audience) and in
// records.
const (
	maxClaim = 255 // bytes
	maxList  = 32  // audiences, or authentication methods
)

// decode reads JSON. Members that are there twice are refused, and names that differ in case are different names: if
// two readers of a token could read different claims, one could be deceived.
func decode(text []byte, into any) error { return strict.Unmarshal(text, into) }

// read checks the claims of a token whose signature is valid.
func (v *Verifier) read(i *issuer, token *oidc.IDToken) (*iam.WebIdentity, error) {
	var text json.RawMessage
	if err := token.Claims(&text); err != nil {
		return nil, apierror.InternalError(err)
	}
	var c claims
	if err := decode(text, &c); err != nil {
		return nil, apierror.New(apierror.InvalidIdentityToken, msgNotJWT).WithCause(err)
	}
	if err := v.check(i, &c); err != nil {
		return nil, err
	}
	w := &iam.WebIdentity{Issuer: i.name, Subject: c.Subject, TokenID: c.ID, Audiences: c.Audience,
		AuthorizedParty: c.AuthorizedParty, Methods: c.Methods}
	var err error
	if w.SessionTags, err = c.Tags.tags(); err != nil {
		return nil, rejected("the session tags: %v", err)
	}
	w.TransitiveTags = c.Tags.Transitive
	return w, nil
}

// rejected is an error for what an issuer that is trusted has put into a token.
func rejected(format string, args ...any) error {
	return apierror.New(apierror.IDPRejectedClaim, "A claim of the token is not accepted: "+format, args...)
}

func (v *Verifier) check(i *issuer, c *claims) error {
	missing := func(claim string) error {
		return apierror.New(apierror.InvalidIdentityToken, msgMissingClaim, claim)
	}
	switch {
	case c.Issuer != i.URL: // as in the token before its signature was checked, unless two readers differ
		return apierror.New(apierror.InvalidIdentityToken, msgNoIssuer, shown(c.Issuer))
	case c.Subject == "":
		return missing("sub")
	case len(c.Audience) == 0:
		return missing("aud")
	case c.Expires == nil:
		return missing("exp")
	case c.IssuedAt == nil:
		return missing("iat")
	case !slices.ContainsFunc(c.Audience, func(a string) bool { return slices.Contains(i.Audiences, a) }),
		c.AuthorizedParty != "" && !slices.Contains(c.Audience, c.AuthorizedParty) &&
			!slices.Contains(i.Audiences, c.AuthorizedParty):
		return apierror.New(apierror.InvalidIdentityToken, msgAudience)
	case len(c.Subject) > maxClaim || len(c.ID) > maxClaim || len(c.AuthorizedParty) > maxClaim:
		return rejected("sub, jti and azp may have %d bytes", maxClaim)
	case len(c.Audience) > maxList || len(c.Methods) > maxList:
		return rejected("aud and amr may have %d values", maxList)
	case c.SourceIdentity != nil:
		return rejected("source identities are not supported")
	}
	return v.checkTimes(c)
}

func (v *Verifier) checkTimes(c *claims) error {
	now := v.now()
	expires, err := timeOf(*c.Expires)
	if err != nil {
		return rejected("exp: %v", err)
	}
	if !now.Add(-v.skew).Before(expires) {
		return apierror.New(apierror.ExpiredWebIdentity, msgExpired, now.Unix(), expires.Unix())
	}
	for name, seconds := range map[string]*float64{"iat": c.IssuedAt, "nbf": c.NotBefore} {
		if seconds == nil {
			continue
		}
		begins, err := timeOf(*seconds)
		if err != nil {
			return rejected("%s: %v", name, err)
		}
		if now.Add(v.skew).Before(begins) {
			return apierror.New(apierror.IDPRejectedClaim, msgNotYet, now.Unix(), begins.Unix())
		}
	}
	return nil
}

// timeOf is the time of a NumericDate (RFC 7519, section 2), to the second.
func timeOf(seconds float64) (time.Time, error) {
	if !(seconds >= 0 && seconds < 1<<36) { // until the year 4147
		return time.Time{}, errors.New("it is no time of these centuries")
	}
	return time.Unix(int64(math.Floor(seconds)), 0), nil
}

// tags returns the session tags, each of which has one value.
func (t *tagsClaim) tags() (map[string]string, error) {
	if len(t.Principal) == 0 && len(t.Transitive) == 0 {
		return nil, nil
	}
	all := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(t.Principal)) {
		if len(t.Principal[key]) != 1 {
			return nil, fmt.Errorf("%q has not one value", key)
		}
		all[key] = t.Principal[key][0]
	}
	seen := map[string]bool{}
	for _, key := range t.Transitive {
		if _, known := all[key]; !known || seen[key] {
			return nil, fmt.Errorf("%q is transitive and no tag, or is there twice", key)
		}
		seen[key] = true
	}
	return all, iam.CheckTags(all)
}
