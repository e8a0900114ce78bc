package service

import (
	"context"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

// The actions of Verenc's own operations, verenc:NAME, are allowed by identity policies, as most
// actions in AWS are; the root user of an account may perform all of them. A key policy can allow
// those that concern its key, too, and deny them. It need not let the account in, as it must for
// actions of AWS KMS: no key policy that was written for AWS names them.

// AuthoriseOwn decides on an own action that concerns the caller's account.
func (s *Service) AuthoriseOwn(ctx context.Context, c *iam.Caller, action string) error {
	r := keyRequest{permission: action}
	return s.decide(ctx, c, access{action: action, account: c.Account, arns: anyResource, request: r})
}

// KeyForOwn returns the key that a KeyId names, an alias too, when the caller may perform an own
// action on it. Its state does not matter. The key is shared; it must not be modified.
func (s *Service) KeyForOwn(ctx context.Context, c *iam.Caller, action, keyID string) (*Key, error) {
	r := keyRequest{operation: "DescribeKey", permission: action, keyID: keyID} // which takes every form of KeyId
	k, err := s.resolve(ctx, c, r)
	if err != nil {
		return nil, err
	}
	return k, s.recorded(ctx, c, k, s.decideBy(ctx, c, s.keyAccess(ctx, r, k), evaluateOwn))
}

// evaluateOwn lets either the key policy or the identity policies allow.
func evaluateOwn(p *policy.Policies, r *policy.Request) policy.Decision {
	d := policy.Evaluate(p, r)
	if d.Allowed || d.Explicit || r.Principal.Account != r.ResourceAccount {
		return d
	}
	identity := *p
	identity.Key = nil
	return policy.Evaluate(&identity, r)
}
