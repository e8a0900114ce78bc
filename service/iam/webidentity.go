package iam

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
	"github.com/verenc/kms/service/record"
)

// Limits of AssumeRoleWithWebIdentity (AWS STS API Reference). Tags have the limits of principals' tags.
const (
	minWebIdentityToken = 4 // characters
	maxWebIdentityToken = 20_000
)

const assumeRoleWithWebIdentity = "sts:AssumeRoleWithWebIdentity" // the action

// AWS's messages.
const (
	msgTokenLength = "1 validation error detected: Value at 'webIdentityToken' failed to satisfy constraint: " +
		"Member must have length between %d and %d"
	msgNoIssuer         = "No OpenIDConnect provider found in your account for the issuer of the token"
	msgMayNotAssumeWith = "Not authorized to perform " + assumeRoleWithWebIdentity
	msgMayNotTag        = "Not authorized to perform sts:TagSession"
)

// WebIdentities verifies the tokens of OpenID Connect issuers. Its errors are of package apierror.
type WebIdentities interface {
	// Verify returns what a token proves: that a configured issuer has signed it for an audience that is accepted,
	// and that it is valid now.
	Verify(ctx context.Context, token string) (*WebIdentity, error)
}

// WebIdentity is what a verified token says.
type WebIdentity struct {
	Issuer          string // without https://, as AWS names providers: HOST or HOST/PATH
	Subject         string
	TokenID         string   // jti, or empty
	Audiences       []string // aud
	AuthorizedParty string   // azp, or empty
	Methods         []string // amr
	SessionTags     map[string]string
	TransitiveTags  []string // keys of SessionTags
}

// audience is the audience that policies and answers name (AWS page "Available keys for AWS OIDC federation": aud is
// azp if the token has it).
func (w *WebIdentity) audience() []string {
	if w.AuthorizedParty != "" {
		return []string{w.AuthorizedParty}
	}
	return w.Audiences
}

// providerARN is the ARN of an issuer as trust policies of an account name it.
func providerARN(account, issuer string) string {
	return "arn:aws:iam::" + account + ":oidc-provider/" + issuer
}

// name is how a web identity is called where others have an ARN (AWS page "CloudTrail userIdentity element").
func (w *WebIdentity) name() string {
	return w.Issuer + ":" + strings.Join(w.audience(), ",") + ":" + w.Subject
}

// person is who has the token, whatever audience it is for.
func (w *WebIdentity) person() string { return w.Issuer + ":" + w.Subject }

// Federation is where the identity of a session comes from.
type Federation struct {
	Provider string // ARN
	Subject  string
	Audience []string
}

// issuer is the provider as condition keys name it.
func (f *Federation) issuer() string {
	_, issuer, _ := strings.Cut(f.Provider, ":oidc-provider/")
	return issuer
}

// condition returns the values of a condition key of the session, which is in lower case: aws:FederatedProvider,
// HOST/PATH:sub or HOST/PATH:aud.
func (f *Federation) condition(key string) []string {
	if key == "aws:federatedprovider" {
		return []string{f.Provider}
	}
	name, ok := strings.CutPrefix(key, strings.ToLower(f.issuer())+":")
	switch {
	case !ok:
		return nil
	case name == "sub":
		return []string{f.Subject}
	case name == "aud":
		return f.Audience
	}
	return nil
}

// AssumeRoleWithWebIdentityRequest is the input of AssumeRoleWithWebIdentity (AWS STS API Reference), without its
// token.
type AssumeRoleWithWebIdentityRequest struct {
	RoleARN         string
	RoleSessionName string
	Policy          string
	DurationSeconds int32
}

// AssumeRoleWithWebIdentityResponse is the output of AssumeRoleWithWebIdentity.
type AssumeRoleWithWebIdentityResponse struct {
	AssumeRoleResponse
	Subject  string
	Audience string
	Provider string // ARN
}

// WebIdentity verifies a token, and returns who has it. Nobody is asked about a token that is too long, or whose
// issuer is not configured.
func (d *Directory) WebIdentity(ctx context.Context, token string, in *AssumeRoleWithWebIdentityRequest) (
	*Identity, error) {
	if len(token) < minWebIdentityToken || len(token) > maxWebIdentityToken {
		return nil, apierror.New(apierror.STSValidation, msgTokenLength, minWebIdentityToken, maxWebIdentityToken)
	}
	if err := in.assumeRole().check(); err != nil {
		return nil, err
	}
	if d.webIdentities == nil {
		return nil, apierror.New(apierror.InvalidIdentityToken, msgNoIssuer)
	}
	w, err := d.webIdentities.Verify(ctx, token)
	if err != nil {
		return nil, err
	}
	return &Identity{Principal: w.name(), Account: arn.AccountOf(in.RoleARN), WebIdentity: w}, nil
}

func (in *AssumeRoleWithWebIdentityRequest) assumeRole() *AssumeRoleRequest {
	return &AssumeRoleRequest{RoleARN: in.RoleARN, RoleSessionName: in.RoleSessionName, Policy: in.Policy,
		DurationSeconds: in.DurationSeconds}
}

// AssumeRoleWithWebIdentity gives temporary credentials of a role to a web identity that the role trusts.
func (d *Directory) AssumeRoleWithWebIdentity(ctx context.Context, c *Caller, in *AssumeRoleWithWebIdentityRequest) (
	*AssumeRoleWithWebIdentityResponse, error) {
	w := c.WebIdentity
	record.Add(ctx, "issuer", w.Issuer)
	record.Add(ctx, "subject", w.Subject)
	record.Add(ctx, "audience", w.audience())
	if w.TokenID != "" {
		record.Add(ctx, "tokenId", w.TokenID)
	}
	role, err := d.roleTrustingWebIdentity(ctx, c, in)
	if err != nil {
		return nil, err
	}
	request := in.assumeRole()
	duration, err := sessionDuration(c, role, request)
	if err != nil {
		return nil, err
	}
	out, err := d.issueRoleSession(ctx, role, request, duration, &Session{AssumedBy: []string{w.person()},
		Tags: w.SessionTags, TransitiveTags: w.TransitiveTags, Federation: &Federation{
			Provider: providerARN(role.Account, w.Issuer), Subject: w.Subject, Audience: w.audience()}})
	if err != nil {
		return nil, err
	}
	return &AssumeRoleWithWebIdentityResponse{AssumeRoleResponse: *out, Subject: w.Subject,
		Audience: w.audience()[0], Provider: providerARN(role.Account, w.Issuer)}, nil
}

// KnowsWebIdentity returns AccessDenied unless the trust policy of the role lets a web identity assume it. Guards and
// session tags are AssumeRoleWithWebIdentity's matter.
//
// It is asked before there is a record of the request: public issuers give tokens to anybody, who could fill the audit
// log otherwise.
func (d *Directory) KnowsWebIdentity(ctx context.Context, c *Caller, in *AssumeRoleWithWebIdentityRequest) error {
	_, _, err := d.roleKnowing(ctx, c, in)
	return err
}

// roleKnowing returns the role, and its trust policy, if that lets the web identity assume it. The answer does not tell
// a role that does not exist from one that does not trust.
func (d *Directory) roleKnowing(ctx context.Context, c *Caller, in *AssumeRoleWithWebIdentityRequest) (
	*Principal, *policy.Policies, error) {
	denied := apierror.New(apierror.AccessDeniedSTS, msgMayNotAssumeWith)
	role, trust, err := d.roleWithTrust(ctx, in.RoleARN, denied)
	if err != nil {
		return nil, nil, err
	}
	all := &policy.Policies{Key: trust}
	if !d.mayWithWebIdentity(c, in, assumeRoleWithWebIdentity, role, all) {
		return nil, nil, denied
	}
	return role, all, nil
}

// roleTrustingWebIdentity returns the role if its trust policy and the guards let the web identity assume it and, if
// the token has session tags, let it set them.
func (d *Directory) roleTrustingWebIdentity(ctx context.Context, c *Caller, in *AssumeRoleWithWebIdentityRequest) (
	*Principal, error) {
	role, all, err := d.roleKnowing(ctx, c, in)
	if err != nil {
		return nil, err
	}
	if all.Guard, err = d.GuardsOver(ctx, role.Account, role.Account); err != nil {
		return nil, err
	}
	if !d.mayWithWebIdentity(c, in, assumeRoleWithWebIdentity, role, all) {
		return nil, apierror.New(apierror.AccessDeniedSTS, msgMayNotAssumeWith)
	}
	if len(c.WebIdentity.SessionTags) > 0 && !d.mayWithWebIdentity(c, in, "sts:TagSession", role, all) {
		return nil, apierror.New(apierror.AccessDeniedSTS, msgMayNotTag)
	}
	return role, nil
}

// mayWithWebIdentity reports whether policies allow a web identity an action on a role.
func (d *Directory) mayWithWebIdentity(c *Caller, in *AssumeRoleWithWebIdentityRequest, action string, role *Principal,
	all *policy.Policies) bool {
	w := c.WebIdentity
	return policy.Evaluate(all, &policy.Request{Action: action, Resources: []string{role.ARN},
		ResourceAccount: role.Account, RequestTags: w.SessionTags, Lookup: d.webIdentityConditions(c, in),
		Principal: &policy.Principal{Type: policy.WebIdentity, Account: role.Account,
			ARN: providerARN(role.Account, w.Issuer)}}).Allowed
}

// webIdentityConditions gives the values of condition keys for AssumeRoleWithWebIdentity (AWS page "Available keys for
// AWS OIDC federation").
func (d *Directory) webIdentityConditions(c *Caller, in *AssumeRoleWithWebIdentityRequest) func(
	[]string, string) []string {
	w := c.WebIdentity
	prefix := strings.ToLower(w.Issuer) + ":"
	return func(values []string, key string) []string {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			switch name {
			case "aud":
				return append(values, w.audience()...)
			case "oaud":
				return append(values, w.Audiences...)
			case "azp":
				return appendNonEmpty(values, w.AuthorizedParty)
			case "sub":
				return append(values, w.Subject)
			case "amr":
				return append(values, w.Methods...)
			}
			return values
		}
		switch key {
		case "aws:federatedprovider":
			return append(values, providerARN(arn.AccountOf(in.RoleARN), w.Issuer))
		case "sts:rolesessionname":
			return append(values, in.RoleSessionName)
		case policy.Approvals:
			return append(values, "0") // nobody can approve of a session
		case "sts:transitivetagkeys":
			return append(values, w.TransitiveTags...)
		}
		values, _ = d.GlobalConditions(values, c, key)
		return values
	}
}

func appendNonEmpty(values []string, value string) []string {
	if value == "" {
		return values
	}
	return append(values, value)
}

// passedOn are the tags that a session gives to those of the roles that it assumes (AWS page "Passing session tags in
// AWS STS", chaining roles with session tags).
func (s *Session) passedOn() (tags map[string]string, transitive []string) {
	if s == nil || len(s.TransitiveTags) == 0 {
		return nil, nil
	}
	tags = map[string]string{}
	for _, key := range s.TransitiveTags {
		tags[key] = s.Tags[key]
	}
	return tags, s.TransitiveTags
}

// withTags returns the tags of a role, with those of a session in place of the ones that differ in case only.
func (s *Session) withTags(ofRole map[string]string) map[string]string {
	if len(s.Tags) == 0 {
		return ofRole
	}
	all := maps.Clone(s.Tags)
	keys := slices.Collect(maps.Keys(s.Tags))
	for key, value := range ofRole {
		if !slices.ContainsFunc(keys, func(own string) bool { return strings.EqualFold(own, key) }) {
			all[key] = value
		}
	}
	return all
}
