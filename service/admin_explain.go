package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// ExplainRequest is a request that somebody might make.
type ExplainRequest struct {
	Principal         string // ARN of a user, a role, a role session or an account's root
	Action            string // kms:Decrypt
	KeyID             string // id, ARN, alias name or alias ARN; empty for an operation that has no key
	Region            string
	EncryptionContext map[string]string
	SourceIP          string
	TLS               bool
	GrantTokens       []string
}

// Explanation is what would be decided on a request, and why.
type Explanation struct {
	Allowed bool
	Message string // AWS's, of a denial
	By      string // the statement, grant or rule that decides
	Steps   []ExplainedStep
}

// ExplainedStep is what one statement, grant or rule contributes.
type ExplainedStep struct {
	Source  string // the policy with its name, or the grant with its id
	Part    string // the statement, from 1, with its Sid
	Deny    bool   // the effect
	Applies bool
	Decides bool
	Reason  string
}

// Explain decides as a request would be decided on, and accounts for every statement and grant. It does not look at the
// key's state; a role session has no session policies, and members of requests that it does not have are absent. What a
// grant lets its grantee grant is limited further, by checkNested. Of the operations on aliases it has the key's half.
func (s *Service) Explain(ctx context.Context, in *ExplainRequest) (*Explanation, error) {
	c, err := s.callerNamed(ctx, in)
	if err != nil {
		return nil, err
	}
	a, err := s.accessTo(ctx, c, in)
	if err != nil {
		return nil, err
	}
	for _, token := range in.GrantTokens { // grants are in force at once, so that a token adds nothing but may be wrong
		if _, err := s.grantOfToken(ctx, token); err != nil {
			return nil, fmt.Errorf("grant token: %w", err)
		}
	}
	var steps []policy.Step
	d, r, err := s.evaluate(ctx, c, *a, func(p *policy.Policies, r *policy.Request) (d policy.Decision) {
		d, steps = policy.Explain(p, r)
		return d
	})
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	names, err := s.policyNames(ctx, c)
	if err != nil {
		return nil, err
	}
	return explanation(&d, r, steps, names), nil
}

func explanation(d *policy.Decision, r *policy.Request, steps []policy.Step, identity []string) *Explanation {
	e := &Explanation{Allowed: d.Allowed, By: "no " + string(d.By) + " allows it"}
	if !d.Allowed {
		e.Message = d.Message(r)
	} else if d.By == policy.FromRootUser {
		e.By = string(d.By) + ", who needs no identity-based policy"
	}
	for _, step := range steps {
		x := ExplainedStep{Source: string(step.By), Part: "rule", Deny: step.Deny, Applies: step.Applies, Reason: step.Reason}
		if step.By == policy.FromIdentityPolicy {
			x.Source += " " + identity[step.Document]
		}
		switch {
		case step.By == policy.FromGrant:
			x.Source, x.Part = "grant "+step.GrantID, ""
			x.Decides = d.By == policy.FromGrant && d.GrantID == step.GrantID
		case step.Statement >= 0:
			x.Part = strings.TrimSpace(fmt.Sprintf("statement %d %s", step.Statement+1, step.Sid))
			x.Decides = d.By == step.By && d.Document == step.Document && d.Statement == step.Statement
		default:
			x.Decides = !d.Allowed && step.Deny && d.By == step.By && d.Statement < 0
		}
		if x.Decides {
			e.By = strings.TrimSpace(strings.Join([]string{x.Source, x.Part}, " "))
		}
		e.Steps = append(e.Steps, x)
	}
	return e
}

// callerNamed makes the caller that a principal would be.
func (s *Service) callerNamed(ctx context.Context, in *ExplainRequest) (*Caller, error) {
	c := &Caller{Identity: Identity{Principal: in.Principal, Account: arn.AccountOf(in.Principal)}, Region: in.Region, SourceIP: in.SourceIP}
	if in.TLS {
		c.TLS = &tls.ConnectionState{}
	}
	if !principalARN.MatchString(in.Principal) {
		return nil, fmt.Errorf("%q is not the ARN of a principal, such as %s", in.Principal, PrincipalARN("111122223333", KindUser, "/", "app"))
	}
	principal, session := in.Principal, "explain"
	_, name, isSession := strings.Cut(in.Principal, ":assumed-role/")
	switch {
	case in.Principal == arn.Root(c.Account):
		return c, nil
	case isSession:
		name, session, _ = strings.Cut(name, "/")
		role, err := s.FindPrincipal(ctx, c.Account, KindRole, name)
		if err != nil {
			return nil, err
		}
		principal = role.ARN
	}
	p, err := s.store.Principal(ctx, principal)
	if errors.Is(err, ErrNoRow) {
		return nil, fmt.Errorf("there is no %s (verenc user list and verenc role list show all)", principal)
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", principal, err)
	}
	if p.Kind == KindRole {
		now := s.now()
		c.Principal, c.Session = sessionARN(p.ARN, session), &Session{RoleARN: p.ARN, Name: session, IssuedAt: now, ExpiresAt: now.Add(defaultSession * time.Second)}
	}
	return c, nil
}

// accessTo finds what a request is for.
func (s *Service) accessTo(ctx context.Context, c *Caller, in *ExplainRequest) (*access, error) {
	name := strings.TrimPrefix(in.Action, "kms:")
	o := permissionOwners["kms:"+name]
	switch {
	case o != nil && o.Resource == OnGrant:
		return nil, errors.New("kms:RetireGrant is decided by each grant: its retiring principal, its grantee if RetireGrant is among its operations, and the account of the key")
	case name == "ReEncrypt":
		return nil, errors.New("ReEncrypt needs two permissions: kms:ReEncryptFrom on one key and kms:ReEncryptTo on the other")
	case o == nil:
		return nil, fmt.Errorf("%q is no action of AWS KMS: actions are such as kms:Decrypt, in this writing", in.Action)
	case o.Resource == OnAccount && in.KeyID != "":
		return nil, fmt.Errorf("kms:%s is for no key: leave it out", name)
	case o.Resource != OnAccount && in.KeyID == "":
		return nil, fmt.Errorf("kms:%s is for a key: name it", name)
	}
	r := keyRequest{
		operation:   o.Name,
		permission:  "kms:" + name,
		keyID:       in.KeyID,
		policyInput: policyInput{encryptionContext: in.EncryptionContext, conditions: o.emptyConditions()},
	}
	if o.Resource == OnAccount {
		return &access{action: r.action(), account: c.Account, arns: anyResource, request: r}, nil
	}
	// The key is looked for as its own account's root user, who is told whether it exists.
	owner := &Caller{Identity: Identity{Account: c.Account}, Region: c.Region}
	if a, ok := arn.Parse(in.KeyID); ok {
		owner.Account = a.Account
	}
	k, err := s.resolve(ctx, owner, keyRequest{operation: "DescribeKey", keyID: in.KeyID})
	if err != nil {
		return nil, fmt.Errorf("find the key: %w", err)
	}
	a := s.keyAccess(ctx, r, k)
	return &a, nil
}

// policyNames are the names of a caller's identity policies, in the order of standing.
func (s *Service) policyNames(ctx context.Context, c *Caller) ([]string, error) {
	principal := c.Principal
	if c.Session != nil {
		principal = c.Session.RoleARN
	}
	p, err := s.store.Principal(ctx, principal)
	if errors.Is(err, ErrNoRow) {
		return nil, nil // the root user
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", principal, err)
	}
	return slices.Sorted(maps.Keys(p.Policies)), nil
}
