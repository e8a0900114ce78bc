package service

import (
	"context"
	"slices"
)

// access is what a caller wants to do, and to what.
type access struct {
	action   string // permission without "kms:"
	account  string // of the resource
	resource string // ARN, or *
	key      *Key   // nil for what is no key
	use      keyUse
}

// decide is the one decision on who may do what. It knows the account's root principal only, which may do
// everything in its own account.
func (s *Service) decide(_ context.Context, c *Caller, a access) error {
	if c.Account == a.account && c.Principal == rootARN(a.account) {
		return nil
	}
	return refuse(CodeAccessDenied, "User: %s is not authorized to perform: kms:%s on resource: %s because no resource-based policy allows the kms:%s action",
		c.Principal, a.action, a.resource, a.action)
}

// authorise decides on an operation on a key.
func (s *Service) authorise(ctx context.Context, c *Caller, use keyUse, k *Key) error {
	action := use.action
	if action == "" {
		action = use.op
	}
	return s.decide(ctx, c, access{action: action, account: k.Account, resource: s.arns.key(k), key: k, use: use})
}

// authoriseAccount decides on an operation that has no key.
func (s *Service) authoriseAccount(ctx context.Context, c *Caller, action string) error {
	return s.decide(ctx, c, access{action: action, account: c.Account, resource: "*"})
}

// authoriseAlias decides on the alias's half of an operation on an alias; the key's half is authorise.
func (s *Service) authoriseAlias(ctx context.Context, c *Caller, action, name string) error {
	return s.decide(ctx, c, access{action: action, account: c.Account, resource: s.arns.of(c.Account, c.Region, name)})
}

// authoriseNewKey decides on the making of a key, with its tags if it has any.
func (s *Service) authoriseNewKey(ctx context.Context, c *Caller, use keyUse) error {
	if err := s.decide(ctx, c, access{action: "CreateKey", account: c.Account, resource: "*", use: use}); err != nil {
		return err
	}
	if len(use.tags) == 0 {
		return nil
	}
	return s.decide(ctx, c, access{action: "TagResource", account: c.Account, resource: "*", use: use})
}

// mayRetire lets the principals retire a grant that the grant names, and the account of the key (AWS page "Retiring and
// revoking grants").
func (s *Service) mayRetire(_ context.Context, c *Caller, g *Grant) error {
	switch {
	case c.Principal == rootARN(g.Account), g.Retiring != "" && c.Principal == g.Retiring,
		c.Principal == g.Grantee && slices.Contains(g.Operations, "RetireGrant"):
		return nil
	}
	return refuse(CodeAccessDenied, "User: %s is not authorized to perform: kms:RetireGrant on resource: %s", c.Principal,
		s.arns.of(g.Account, g.Region, "key/"+g.KeyID))
}
