package service

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// access is what a caller wants to do, and to what.
type access struct {
	action  string // with its prefix: kms:Decrypt
	account string // of the resource
	arns    []string
	key     *Key // nil for what is no key
	use     keyUse

	externalID, sessionName string // of AssumeRole
}

// decide is the one decision on who may do what: key policy, identity policies, grants, and all that limits them.
func (s *Service) decide(ctx context.Context, c *Caller, a access) error {
	return s.decideBy(ctx, c, a, policy.Evaluate)
}

func (s *Service) decideBy(ctx context.Context, c *Caller, a access, evaluator func(*policy.Policies, *policy.Request) policy.Decision) error {
	d, r, err := s.evaluate(ctx, c, a, evaluator)
	switch {
	case err != nil || d.Allowed:
		return err
	case a.key != nil && a.account != c.Account && (d.Explicit || d.By == policy.FromKeyPolicy):
		return s.unknown(ctx, c, a.use, a.account, a.named()) // unless the key policy lets the caller's account in, it must not learn more
	}
	return apierror.New(apierror.AccessDenied, "%s", d.Message(r))
}

// named is the key as the request names it.
func (a *access) named() string {
	if alias := aliasIn(a.use.keyID); alias != "" {
		return alias
	}
	return "key/" + a.key.ID
}

// evaluate puts all that applies before an evaluator.
func (s *Service) evaluate(ctx context.Context, c *Caller, a access, evaluator func(*policy.Policies, *policy.Request) policy.Decision) (policy.Decision, *policy.Request, error) {
	w, err := s.standing(ctx, c)
	if err != nil {
		return policy.Decision{}, nil, err
	}
	p := policy.Policies{Identity: w.identity, Boundary: w.boundary, Session: w.session}
	r := &policy.Request{Action: a.action, CrossAccount: allowsOtherAccounts(a.action), Resources: a.arns, ResourceAccount: a.account, Principal: &w.principal,
		EncryptionContext: a.use.encryptionContext(), RequestTags: tagMap(a.use.tags), Lookup: s.conditions(ctx, c, &a)}
	if a.use.embedded {
		r.Shown = "the resource associated with this ciphertext"
	}
	if a.key != nil {
		r.ResourceTags = tagMap(a.key.Tags)
		if p.Key, err = s.document(policy.KeyPolicy, a.key.Policy); err != nil {
			return policy.Decision{}, nil, err
		}
		if p.Grants, err = s.grantsFor(ctx, &a, &w.principal); err != nil {
			return policy.Decision{}, nil, err
		}
	}
	return evaluator(&p, r), r, nil
}

func tagMap(tags []Tag) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[t.TagKey] = t.TagValue
	}
	return m
}

// encryptionContext is what policies see: for a grant that is made or retired, that of its constraints (AWS page
// "Condition keys for AWS KMS", kms:EncryptionContext).
func (u *keyUse) encryptionContext() map[string]string {
	if u.grant == nil {
		return u.context
	}
	all := maps.Clone(u.grant.Equals)
	if all == nil {
		return u.grant.Subset
	}
	maps.Copy(all, u.grant.Subset)
	return all
}

// grantsFor gives a key's grants that may be the caller's, and those whose tokens it has sent, should this node not know
// them yet. A grant lets its grantee create only grants that give no more than itself.
func (s *Service) grantsFor(ctx context.Context, a *access, p *policy.Principal) ([]policy.Grant, error) {
	all, err := s.store.GrantsOf(ctx, a.key.Region, a.key.ID)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if len(a.use.tokenGrants) > 0 {
		all = slices.Concat(all, a.use.tokenGrants)
	}
	var grants []policy.Grant
	for _, g := range all {
		if g.Region != a.key.Region || g.KeyID != a.key.ID || g.Grantee != p.ARN && g.Grantee != p.IssuerARN && g.Grantee != arn.Root(p.Account) {
			continue
		}
		grant := g.forPolicy()
		if a.use.grant != nil {
			if created := a.use.grant.forPolicy(); !grant.Covers(&created) {
				continue
			}
		}
		grants = append(grants, grant)
	}
	return grants, nil
}

func (g *Grant) forPolicy() policy.Grant {
	return policy.Grant{ID: g.ID, Grantee: g.Grantee, Operations: g.Operations, EncryptionContextEquals: g.Equals,
		EncryptionContextSubset: g.Subset, SourceARN: g.SourceARN}
}

// resourceARNs are the forms under which a policy may name a key or an alias; the first is shown.
func (s *Service) resourceARNs(ctx context.Context, account, region, resource string) []string {
	shown := s.arns(ctx)
	arns := []string{shown.Of(account, region, resource)}
	for _, f := range [...]arn.Format{arn.AWS, arn.Verenc} {
		if other := f.Form(); other != shown {
			arns = append(arns, other.Of(account, region, resource))
		}
	}
	return arns
}

// authorise decides on an operation on a key.
func (s *Service) authorise(ctx context.Context, c *Caller, use keyUse, k *Key) error {
	return s.decide(ctx, c, access{action: use.permission(), account: k.Account, arns: s.resourceARNs(ctx, k.Account, k.Region, "key/"+k.ID), key: k, use: use})
}

func (u keyUse) permission() string {
	if u.action != "" {
		return "kms:" + u.action
	}
	return "kms:" + u.op
}

// unknown is the answer for a key, or an alias, that is not there. In another account (also in "", for the key of a ciphertext) it is
// the same as for one that the caller may not use, so that nobody learns which keys others have.
func (s *Service) unknown(ctx context.Context, c *Caller, use keyUse, account, resource string) error {
	if account == c.Account {
		return apierror.New(apierror.NotFound, "Key '%s' does not exist", s.arns(ctx).Of(account, c.Region, resource))
	}
	nobodys := &Key{Account: account, Region: c.Region, Policy: lettingNobody}
	d, r, err := s.evaluate(ctx, c, access{action: use.permission(), account: account, arns: s.resourceARNs(ctx, account, c.Region, resource), key: nobodys, use: use}, policy.Evaluate)
	switch {
	case err != nil:
		return err
	case d.Allowed:
		return apierror.InternalError(errors.New("the policy that lets nobody do anything let somebody"))
	}
	return apierror.New(apierror.AccessDenied, "%s", d.Message(r))
}

// lettingNobody is a key policy.
const lettingNobody = `{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:Nothing","Resource":"*"}}`

// authoriseAccount decides on an operation that has no key.
func (s *Service) authoriseAccount(ctx context.Context, c *Caller, action string) error {
	return s.decide(ctx, c, access{action: "kms:" + action, account: c.Account, arns: anyResource})
}

var anyResource = []string{"*"}

// authoriseAlias decides on the alias's half of an operation on an alias; the key's half is authorise.
func (s *Service) authoriseAlias(ctx context.Context, c *Caller, action, name string) error {
	return s.decide(ctx, c, access{action: "kms:" + action, account: c.Account, arns: s.resourceARNs(ctx, c.Account, c.Region, name)})
}

// authoriseNewKey decides on the making of a key, with its tags if it has any.
func (s *Service) authoriseNewKey(ctx context.Context, c *Caller, use keyUse) error {
	use.op = "CreateKey"
	a := access{action: use.permission(), account: c.Account, arns: anyResource, use: use}
	if err := s.decide(ctx, c, a); err != nil || len(use.tags) == 0 {
		return err
	}
	a.action = "kms:TagResource"
	return s.decide(ctx, c, a)
}

// mayRetire lets the principals retire a grant that the grant names, and the account of the key.
func (s *Service) mayRetire(ctx context.Context, c *Caller, g *Grant, k *Key) error {
	a := access{action: "kms:RetireGrant", account: k.Account, arns: s.resourceARNs(ctx, k.Account, k.Region, "key/"+k.ID), key: k,
		use: keyUse{op: "RetireGrant", grant: g}}
	principals := []string{arn.Root(k.Account)}
	if g.Retiring != "" {
		principals = append(principals, g.Retiring)
	}
	grant := g.forPolicy()
	return s.decideBy(ctx, c, a, func(p *policy.Policies, r *policy.Request) policy.Decision {
		p.Grants = grant.Retiring(principals...)
		return policy.Evaluate(p, r)
	})
}
