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
	c, err := s.iam.CallerNamed(ctx, p.ARN, "report")
	if err != nil {
		return nil, false, err
	}
	c.Region = k.Region
	for _, op := range keyPermissions {
		o := permissionOwners["kms:"+op]
		q := &question{access: s.keyAccess(ctx, keyRequest{
			operation:   o.Name,
			permission:  "kms:" + op,
			policyInput: policyInput{conditions: o.emptyConditions()},
		}, k)}
		d, _, err := s.evaluate(ctx, c, q, policy.Evaluate)
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
