package service

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
	"github.com/verenc/kms/service/span"
)

// access is an action that a caller wants to perform on a resource.
type access struct {
	action  string   // with its prefix: kms:Decrypt
	account string   // that owns the resource
	arns    []string // of the resource, in all forms
	key     *Key     // nil for a resource that is not a key
	request keyRequest

	operator  bool       // runs a command: only guards limit it
	asked     bool       // a policy has asked for approvals
	approvals *approvals // of the call; nil unless it needs some
}

// question is what an evaluator is asked, in one piece of memory.
type question struct {
	access   access
	policies policy.Policies
	request  policy.Request
}

// keyAccess is the access that an operation asks for on a key.
func (s *Service) keyAccess(ctx context.Context, r keyRequest, k *Key) access {
	return access{
		action:  r.action(),
		account: k.Account,
		arns:    s.resourceARNs(ctx, k.Account, k.Region, "key/"+k.ID),
		key:     k,
		request: r,
	}
}

// evaluator decides on a request.
type evaluator func(*policy.Policies, *policy.Request) policy.Decision

// decide allows or denies an access, by the key's policy and grants, the caller's identity policies
// and what limits them.
func (s *Service) decide(ctx context.Context, c *iam.Caller, a access) error {
	return s.decideBy(ctx, c, a, policy.Evaluate)
}

// decideBy is decide by an evaluator. Of an operator's policies only the guard is asked: a Service that has one serves
// a command, never a client (Config.Operator), and whoever runs commands has the database and the token.
func (s *Service) decideBy(ctx context.Context, c *iam.Caller, a access, by evaluator) error {
	q := &question{access: a}
	q.access.operator = s.cfg.Operator != nil
	return s.decideAs(ctx, c, q, by)
}

// decideAs is decideBy for a caller who is no operator, unless the access says so.
func (s *Service) decideAs(ctx context.Context, c *iam.Caller, q *question, by evaluator) error {
	ctx, traced := span.Start(ctx, "authorise")
	err := s.decided(ctx, c, q, by)
	if traced != nil {
		traced.Set("verenc.action", q.access.action)
		traced.End(apierror.CodeOf(err))
	}
	return err
}

// decided is the decision of an evaluator.
func (s *Service) decided(ctx context.Context, c *iam.Caller, q *question, by evaluator) error {
	a := &q.access
	d, r, err := s.evaluate(ctx, c, q, by)
	switch {
	case err != nil:
		return err
	case d.Allowed:
		return s.spend(ctx, c, a.approvals)
	case a.approvals != nil:
		return s.askForApproval(ctx, c, a, d.Message(r))
	case a.key != nil && a.account != c.Account && (d.Explicit || d.By == policy.FromKeyPolicy):
		// A caller whose account the key policy does not let in must not learn whether the key
		// exists.
		return s.unknown(ctx, c, a.request, a.account, a.keyName())
	}
	return apierror.New(apierror.AccessDenied, "%s", d.Message(r))
}

// keyName is the key's resource name, in the form that the request uses.
func (a *access) keyName() string {
	if alias := aliasIn(a.request.keyID); alias != "" {
		return alias
	}
	return "key/" + a.key.ID
}

// evaluate collects all policies and grants that apply to an access, for an evaluator.
func (s *Service) evaluate(
	ctx context.Context, c *iam.Caller, q *question, by evaluator,
) (policy.Decision, *policy.Request, error) {
	own, err := s.iam.CallerPolicies(ctx, c)
	if err != nil {
		return policy.Decision{}, nil, err
	}
	a, p, r := &q.access, &q.policies, &q.request
	*p = policy.Policies{Identity: own.Identity, Boundary: own.Boundary, Session: own.Session}
	if p.Guard, err = s.iam.GuardsOver(ctx, c.Account, a.account); err != nil {
		return policy.Decision{}, nil, err
	}
	*r = policy.Request{
		Action:            a.action,
		CrossAccount:      allowsOtherAccounts(a.action),
		Resources:         a.arns,
		ResourceAccount:   a.account,
		Principal:         &own.Principal,
		EncryptionContext: a.request.contextForPolicies(),
		RequestTags:       tagMap(a.request.tags),
	}
	r.Lookup = s.conditions(ctx, c, a, r)
	if a.request.fromCiphertext {
		r.Shown = "the resource associated with this ciphertext"
	}
	if a.key != nil && !a.operator {
		r.ResourceTags = tagMap(a.key.Tags)
		if p.Key, err = s.iam.ParsedPolicy(policy.KeyPolicy, a.key.Policy); err != nil {
			return policy.Decision{}, nil, err
		}
		if p.Grants, err = s.grantsFor(ctx, a, &own.Principal); err != nil {
			return policy.Decision{}, nil, err
		}
	}
	d := by(p, r)
	if a.asked && !d.Allowed {
		d, err = s.decideWithApprovals(ctx, c, q, d, by)
	}
	return d, r, err
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

// contextForPolicies is the encryption context that policies see. For a grant that is made or
// retired, it is that of the grant's constraints (AWS page "Condition keys for AWS KMS",
// kms:EncryptionContext).
func (in *policyInput) contextForPolicies() map[string]string {
	if in.grant == nil {
		return in.encryptionContext
	}
	all := maps.Clone(in.grant.Equals)
	if all == nil {
		return in.grant.Subset
	}
	maps.Copy(all, in.grant.Subset)
	return all
}

// grantsFor returns the grants on a key that may be for the caller, and those whose tokens the
// caller sent, which this node may not have seen yet. A grant allows CreateGrant only for grants
// that allow no more than itself.
func (s *Service) grantsFor(ctx context.Context, a *access, p *policy.Principal) ([]policy.Grant, error) {
	all, err := s.store.GrantsOf(ctx, a.key.Region, a.key.ID)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if len(a.request.tokenGrants) > 0 {
		all = slices.Concat(all, a.request.tokenGrants)
	}
	var grants []policy.Grant
	for _, g := range all {
		ofCaller := g.Grantee == p.ARN || g.Grantee == p.IssuerARN || g.Grantee == arn.Root(p.Account)
		if !ofCaller || g.Region != a.key.Region || g.KeyID != a.key.ID {
			continue
		}
		grant := g.forPolicy()
		if a.request.grant != nil {
			if created := a.request.grant.forPolicy(); !grant.Covers(&created) {
				continue
			}
		}
		grants = append(grants, grant)
	}
	return grants, nil
}

func (g *Grant) forPolicy() policy.Grant {
	return policy.Grant{
		ID:                      g.ID,
		Grantee:                 g.Grantee,
		Operations:              g.Operations,
		EncryptionContextEquals: g.Equals,
		EncryptionContextSubset: g.Subset,
		SourceARN:               g.SourceARN,
	}
}

// resourceARNs are the forms under which a policy may name a key or an alias; the first is shown.
func (s *Service) resourceARNs(ctx context.Context, account, region, resource string) []string {
	forms, n := [3]arn.Form{s.arns(ctx)}, 1
	for _, f := range [...]arn.Format{arn.AWS, arn.Verenc} {
		if other := f.Form(); other != forms[0] {
			forms[n] = other
			n++
		}
	}
	var room [256]byte
	all, ends := room[:0], [3]int{}
	for i, f := range forms[:n] {
		all = f.Append(all, account, region, resource)
		ends[i] = len(all)
	}
	arns, rest, begin := make([]string, n), string(all), 0 // they share the memory of one string
	for i := range arns {
		arns[i], begin = rest[begin:ends[i]], ends[i]
	}
	return arns
}

// authorise decides on an operation on a key.
func (s *Service) authorise(ctx context.Context, c *iam.Caller, r keyRequest, k *Key) error {
	return s.decide(ctx, c, s.keyAccess(ctx, r, k))
}

// action is the permission that is needed of the key.
func (r *keyRequest) action() string {
	if r.permission != "" {
		return r.permission
	}
	if o := operations[r.operation]; o != nil {
		return o.permission
	}
	return "kms:" + r.operation
}

// unknown is the error for a key, or an alias, that does not exist. In another account, it is the
// same as for one that the caller may not use, so that nobody learns which keys others have. For a
// key that only a ciphertext names, account is empty.
func (s *Service) unknown(ctx context.Context, c *iam.Caller, r keyRequest, account, resource string) error {
	if account == c.Account || c.BreakGlass != "" {
		return apierror.New(apierror.NotFound, "Key '%s' does not exist", s.arns(ctx).Of(account, c.Region, resource))
	}
	a := access{
		action:  r.action(),
		account: account,
		arns:    s.resourceARNs(ctx, account, c.Region, resource),
		key:     &Key{Account: account, Region: c.Region, Policy: denyAllPolicy},
		request: r,
	}
	d, decided, err := s.evaluate(ctx, c, &question{access: a}, policy.Evaluate)
	switch {
	case err != nil:
		return err
	case d.Allowed:
		return apierror.InternalError(errors.New("denyAllPolicy allowed a request"))
	}
	return apierror.New(apierror.AccessDenied, "%s", d.Message(decided))
}

// denyAllPolicy is a key policy that allows nothing: its only statement is about an action that
// does not exist.
const denyAllPolicy = `{"Statement":{"Effect":"Deny","Principal":"*","Action":"kms:Nothing","Resource":"*"}}`

// authoriseAccount decides on an operation that has no key.
func (s *Service) authoriseAccount(ctx context.Context, c *iam.Caller, operation string) error {
	r := keyRequest{operation: operation}
	return s.decide(ctx, c, access{action: r.action(), account: c.Account, arns: anyResource, request: r})
}

var anyResource = []string{"*"}

// authoriseAlias decides whether the caller may perform an operation on an alias; authorise decides
// on its key.
func (s *Service) authoriseAlias(ctx context.Context, c *iam.Caller, operation, name string) error {
	r := keyRequest{operation: operation}
	arns := s.resourceARNs(ctx, c.Account, c.Region, name)
	return s.decide(ctx, c, access{action: r.action(), account: c.Account, arns: arns, request: r})
}

// authoriseNewKey decides whether the caller may make a key, and give it its tags if it has any.
func (s *Service) authoriseNewKey(ctx context.Context, c *iam.Caller, in policyInput) error {
	r := keyRequest{operation: "CreateKey", policyInput: in}
	a := access{action: r.action(), account: c.Account, arns: anyResource, request: r}
	if err := s.decide(ctx, c, a); err != nil || len(in.tags) == 0 {
		return err
	}
	a.action = "kms:TagResource"
	return s.decide(ctx, c, a)
}

// mayRetire lets the retiring principal of a grant and the account of its key retire it, besides
// those whom the grant allows RetireGrant.
func (s *Service) mayRetire(ctx context.Context, c *iam.Caller, g *Grant, k *Key) error {
	r := keyRequest{operation: "RetireGrant", policyInput: policyInput{grant: g, conditions: g}}
	principals := []string{arn.Root(k.Account)}
	if g.Retiring != "" {
		principals = append(principals, g.Retiring)
	}
	grant := g.forPolicy()
	return s.decideBy(ctx, c, s.keyAccess(ctx, r, k), func(p *policy.Policies, r *policy.Request) policy.Decision {
		p.Grants = grant.Retiring(principals...)
		return policy.Evaluate(p, r)
	})
}
