package service

import (
	"context"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

// AllowedOperations returns the permissions on a key that a user or role has, without their prefix
// kms:, all policies and grants taken together, when it gives no encryption context and meets no other
// condition. all tells whether these are all permissions that exist on a key.
func (s *Service) AllowedOperations(
	ctx context.Context, k *Key, p *iam.Principal,
) (operations []string, all bool, err error) {
	c := &iam.Caller{Identity: iam.Identity{Principal: p.ARN, Account: p.Account}, Region: k.Region}
	if p.Kind == iam.KindRole {
		c.Session = &iam.Session{RoleARN: p.ARN, Name: "report", IssuedAt: s.now()}
		c.Principal = iam.SessionARN(p.ARN, c.Session.Name)
	}
	for _, op := range keyPermissions {
		o := permissionOwners["kms:"+op]
		a := s.keyAccess(ctx, keyRequest{
			operation:   o.Name,
			permission:  "kms:" + op,
			policyInput: policyInput{conditions: o.emptyConditions()},
		}, k)
		d, _, err := s.evaluate(ctx, c, a, policy.Evaluate)
		if err != nil {
			return nil, false, err
		}
		if d.Allowed {
			operations = append(operations, op)
		}
	}
	return operations, len(operations) == len(keyPermissions), nil
}

// IdentityPoliciesMayAllow tells whether a key's policy leaves it to identity policies to allow
// something, without conditions. It is tried with a user whom nothing names.
func (s *Service) IdentityPoliciesMayAllow(k *Key) (bool, error) {
	d, err := s.iam.ParsedPolicy(policy.KeyPolicy, k.Policy)
	if err != nil {
		return false, err
	}
	all, err := policy.Parse(policy.IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)
	if err != nil {
		return false, err
	}
	nobody := &policy.Principal{Type: policy.User, ARN: "arn:aws:iam::" + k.Account + ":user/-", Account: k.Account}
	for _, op := range keyPermissions {
		r := &policy.Request{
			Action: "kms:" + op, CrossAccount: allowsOtherAccounts("kms:" + op), ResourceAccount: k.Account,
			Principal: nobody,
			Resources: []string{k.ARN(arn.Verenc.Form()), k.ARN(arn.AWS.Form())},
		}
		with := policy.Policies{Key: d, Identity: []*policy.Document{all}}
		if policy.Evaluate(&with, r).Allowed && !policy.Evaluate(&policy.Policies{Key: d}, r).Allowed {
			return true, nil
		}
	}
	return false, nil
}

// MissingPrincipals returns those principals that name a user or a role that does not exist, of an
// account whose principals are kept here. Whoever creates a user or role of that name gets the
// rights.
func (s *Service) MissingPrincipals(
	ctx context.Context, account string, principals ...string,
) (missing []string, err error) {
	for _, principal := range principals {
		gone, err := s.iam.IsMissing(ctx, account, principal)
		if err != nil {
			return nil, err
		}
		if gone {
			missing = append(missing, principal)
		}
	}
	return missing, nil
}
