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
func (s *Service) PermissionsOn(ctx context.Context, c *iam.Caller, k *Key) (all []Permission, err error) {
	names, err := s.iam.PolicyNames(ctx, c)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	for _, op := range keyPermissions {
		o := permissionOwners["kms:"+op]
		if s.checkKind(ctx, o, k) != nil || s.checkUsage(ctx, o, k) != nil {
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
	best, r, err := s.evaluate(ctx, c, a, func(p *policy.Policies, r *policy.Request) (best policy.Decision) {
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
	for _, step := range steps {
		if step.Open != "" {
			effect := "allows"
			if step.Deny {
				effect = "denies"
			}
			on = append(on, strings.TrimSpace(step.Source+" "+step.Part)+" "+effect+" it under "+step.Open)
		}
	}
	return fmt.Sprintf("Depends on the request: %s", strings.Join(on, "; "))
}

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
		err = s.unknown(ctx, c, r, k.Account, "key/"+k.ID)
	}
	if err != nil {
		return nil, err
	}
	s.addKeyToRecord(ctx, k)
	return s.PermissionsOn(ctx, c, k)
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
