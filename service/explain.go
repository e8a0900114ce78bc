package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

// ExplainRequest describes the request to decide on.
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
	Open    string // see policy.Step
}

// Explain decides on a request as if it were made, and says what each statement and grant
// contributes. It does not look at the state of the key. A role session has no session policies,
// and members of requests that an ExplainRequest lacks are absent. What a grant lets its grantee
// grant is limited further, by checkNested. Operations on aliases need a second permission, on the
// alias, which it does not look at.
func (s *Service) Explain(ctx context.Context, in *ExplainRequest) (*Explanation, error) {
	c, err := s.callerOf(ctx, in)
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
	q := &question{access: *a}
	d, r, err := s.evaluate(ctx, c, q, func(p *policy.Policies, r *policy.Request) (d policy.Decision) {
		d, steps = policy.Explain(p, r)
		return d
	})
	if err != nil {
		return nil, fmt.Errorf("explain: %w", err)
	}
	names, err := s.iam.PolicyNames(ctx, c)
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
		x := ExplainedStep{
			Source:  string(step.By),
			Part:    "rule",
			Deny:    step.Deny,
			Applies: step.Applies,
			Reason:  step.Reason,
			Open:    step.Open,
		}
		if step.By == policy.FromIdentityPolicy && step.Document < len(identity) { // a policy may have come since
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

// callerOf returns the caller of a request to be explained.
func (s *Service) callerOf(ctx context.Context, in *ExplainRequest) (*iam.Caller, error) {
	if !principalARN.MatchString(in.Principal) {
		return nil, fmt.Errorf("%q is not the ARN of a principal, such as %s", in.Principal,
			iam.PrincipalARN("111122223333", iam.KindUser, "/", "app"))
	}
	c, err := s.iam.CallerNamed(ctx, in.Principal, "explain")
	if err != nil {
		return nil, err
	}
	c.Region, c.SourceIP = in.Region, in.SourceIP
	if in.TLS {
		c.TLS = &tls.ConnectionState{}
	}
	return c, nil
}

// accessTo returns what a request wants to do, and to what.
func (s *Service) accessTo(ctx context.Context, c *iam.Caller, in *ExplainRequest) (*access, error) {
	name := strings.TrimPrefix(in.Action, "kms:")
	o := permissionOwners["kms:"+name]
	switch {
	case o != nil && o.Resource == OnGrant:
		return nil, errors.New("kms:RetireGrant is decided by each grant: it is allowed to its retiring principal, " +
			"to its grantee if RetireGrant is among its operations, and to the account of the key")
	case name == "ReEncrypt":
		return nil, errors.New("ReEncrypt needs two permissions: kms:ReEncryptFrom on one key " +
			"and kms:ReEncryptTo on the other")
	case o == nil:
		return nil, fmt.Errorf("%q is not an action of AWS KMS; kms:Decrypt is one, and case matters", in.Action)
	case o.Resource == OnAccount && in.KeyID != "":
		return nil, fmt.Errorf("kms:%s concerns no key: leave the key out", name)
	case o.Resource != OnAccount && in.KeyID == "":
		return nil, fmt.Errorf("kms:%s concerns a key: name one", name)
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
	// The key is looked up for the root user of its account, who may know whether it exists.
	owner := &iam.Caller{Identity: iam.Identity{Account: c.Account}, Region: c.Region}
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
