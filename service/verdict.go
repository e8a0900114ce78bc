package service

import (
	"context"
	"fmt"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

// Verdict is what is known of a permission before there is a request.
type Verdict string

// The verdicts.
const (
	Allowed Verdict = "ALLOWED" // whatever the request has
	Denied  Verdict = "DENIED"  // whatever the request has
	Depends Verdict = "DEPENDS" // on an encryption context, a tag, an address or another thing of the request
)

// Permission is one that a principal has, or has not.
type Permission struct {
	Operation string // the permission without kms:
	Verdict   Verdict
	Reason    string // which statement, grant or rule decides, and on what it depends
	Message   string // of a denial, as AWS words it
}

// PermissionsOn tells which permissions a caller has on a key: of those that apply to such a key, in
// order. Neither the state of the key nor that of an alias is looked at.
func (s *Service) PermissionsOn(ctx context.Context, c *iam.Caller, k *Key) ([]Permission, error) {
	return s.permissionsOn(ctx, c, k, false)
}

// permissionsOn also tells of permissions that do not apply to such a key, if anyKind is set.
func (s *Service) permissionsOn(ctx context.Context, c *iam.Caller, k *Key, anyKind bool) (
	all []Permission, err error) {
	names, err := s.iam.PolicyNames(ctx, c)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	for _, op := range keyPermissions {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		o := permissionOwners["kms:"+op]
		if !anyKind && (s.checkKind(ctx, o, k) != nil || s.checkUsage(ctx, o, k) != nil) {
			continue
		}
		a := s.keyAccess(ctx, keyRequest{operation: o.Name, permission: "kms:" + op}, k)
		p, err := s.permission(ctx, c, a, op, names)
		if err != nil {
			return nil, err
		}
		all = append(all, *p)
	}
	return all, nil
}

// permission decides on an access for the best and for the worst of what its request can have. names are
// those of the caller's identity policies.
func (s *Service) permission(ctx context.Context, c *iam.Caller, a access, operation string, names []string) (
	*Permission, error) {
	var worst policy.Decision
	var worstSteps, steps []policy.Step
	q := &question{access: a}
	best, r, err := s.evaluate(ctx, c, q, func(p *policy.Policies, r *policy.Request) (best policy.Decision) {
		r.Assume = policy.Unfavourable
		worst, worstSteps = policy.Explain(p, r)
		r.Assume = policy.Favourable
		best, steps = policy.Explain(p, r)
		return best
	})
	if err != nil {
		return nil, err
	}
	known := &Permission{Operation: operation, Verdict: Depends}
	switch {
	case worst.Allowed:
		known.Verdict, known.Reason = Allowed, "Allowed by "+explanation(&worst, r, worstSteps, names).By
	case !best.Allowed:
		e := explanation(&best, r, steps, names)
		known.Verdict, known.Message = Denied, e.Message
		if known.Reason = "Not allowed: " + e.By; best.Explicit {
			known.Reason = "Denied by " + e.By
		}
	default:
		known.Reason = dependence(explanation(&best, r, steps, names).Steps)
	}
	return known, nil
}

// dependence says on what it depends whether something is allowed.
func dependence(steps []ExplainedStep) string {
	var on []string
	more := 0
	for _, step := range steps {
		switch {
		case step.Open == "":
		case len(on) == mostReasons:
			more++
		default:
			effect := "allows"
			if step.Deny {
				effect = "denies"
			}
			on = append(on, strings.TrimSpace(step.Source+" "+step.Part)+" "+effect+" it under "+step.Open)
		}
	}
	if more > 0 {
		on = append(on, fmt.Sprintf("and %d more", more))
	}
	return "Depends on the request: " + strings.Join(on, "; ")
}

// mostReasons is how many statements and grants a reason names: a key may have 50,000 grants.
const mostReasons = 5

// PermissionsOfCaller is PermissionsOn for whoever asks, or for the operations that have no key if
// keyID is empty. No permission is needed for it. For that it tells no more than the errors of the
// operations would: no reason but AWS's message, and of a key of another account nothing.
func (s *Service) PermissionsOfCaller(ctx context.Context, c *iam.Caller, keyID string) ([]Permission, error) {
	all, err := s.permissionsOfCaller(ctx, c, keyID)
	for i := range all {
		all[i].Reason = ""
		if all[i].Verdict == Depends {
			all[i].Verdict = Allowed
		}
	}
	return all, err
}

func (s *Service) permissionsOfCaller(ctx context.Context, c *iam.Caller, keyID string) ([]Permission, error) {
	if keyID == "" {
		return s.permissionsWithoutKey(ctx, c)
	}
	r := keyRequest{operation: "DescribeKey", keyID: keyID}
	k, err := s.resolve(ctx, c, r)
	if err == nil && k.Account != c.Account {
		a := s.keyAccess(ctx, r, k)
		err = s.unknown(ctx, c, r, k.Account, a.keyName())
	}
	if err != nil {
		return nil, err
	}
	s.addKeyToRecord(ctx, k)
	// Who may not describe the key does not learn of what kind it is from what applies to it.
	err = s.decide(ctx, c, s.keyAccess(ctx, r, k))
	if err != nil && !apierror.Is(err, apierror.AccessDenied) {
		return nil, err
	}
	return s.permissionsOn(ctx, c, k, err != nil)
}

func (s *Service) permissionsWithoutKey(ctx context.Context, c *iam.Caller) (all []Permission, err error) {
	names, err := s.iam.PolicyNames(ctx, c)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	for _, op := range operationNames {
		if operations[op].Resource != OnAccount {
			continue
		}
		r := keyRequest{operation: op}
		p, err := s.permission(ctx, c,
			access{action: r.action(), account: c.Account, arns: anyResource, request: r}, op, names)
		if err != nil {
			return nil, err
		}
		all = append(all, *p)
	}
	return all, nil
}
