package service

import (
	"context"
	"strconv"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

const (
	maxPolicy  = 32768     // bytes; AWS page "Resource quotas": key policy document size
	policyName = "default" // the only name a key policy may have
)

// defaultPolicy is the key policy of a key that was created without one (AWS page "Default key
// policy").
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + arn.Root(account) + `"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

// checkPolicy refuses a malformed key policy, one that names a principal who does not exist, and
// one that would keep the caller from changing it again.
func (s *Service) checkPolicy(ctx context.Context, c *iam.Caller, text string, bypass bool) error {
	if len(text) > maxPolicy {
		return apierror.New(apierror.LimitExceeded, "The policy has %d bytes; %d are the most that it can have.",
			len(text), maxPolicy)
	}
	d, err := policy.Parse(policy.KeyPolicy, text)
	if err != nil {
		return apierror.New(apierror.MalformedPolicyDocument, "%s", err)
	}
	for _, principal := range d.Principals() {
		if gone, err := s.iam.IsMissing(ctx, c.Account, principal); err != nil {
			return err
		} else if gone {
			return apierror.New(apierror.MalformedPolicyDocument, "%s", policy.ErrInvalidPrincipals)
		}
	}
	if bypass {
		return nil
	}
	own, err := s.iam.CallerPolicies(ctx, c)
	if err != nil {
		return err
	}
	// AWS page "Default key policy": the lockout safety check.
	if !d.LeavesControl(&policy.Request{
		ResourceAccount: c.Account,
		Principal:       &own.Principal,
		Resources:       anyResource,
		Lookup:          s.conditions(ctx, c, &access{}, &policy.Request{}),
	}) {
		return apierror.New(apierror.MalformedPolicyDocument,
			"The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

// GetKeyPolicyRequest is the input of GetKeyPolicy.
type GetKeyPolicyRequest struct {
	KeyId      string `shape:"KeyIdType" required:"true"`
	PolicyName string `shape:"PolicyNameType"`
}

// GetKeyPolicyResponse is the output of GetKeyPolicy.
type GetKeyPolicyResponse struct {
	Policy     string
	PolicyName string
}

// GetKeyPolicy returns a key's policy, byte for byte as it was given.
func (s *Service) GetKeyPolicy(
	ctx context.Context, c *iam.Caller, in *GetKeyPolicyRequest,
) (*GetKeyPolicyResponse, error) {
	k, err := s.keyFor(ctx, c, keyRequest{operation: "GetKeyPolicy", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	if in.PolicyName != "" && in.PolicyName != policyName {
		return nil, apierror.New(apierror.NotFound, "No such policy exists")
	}
	return &GetKeyPolicyResponse{Policy: k.Policy, PolicyName: policyName}, nil
}

// PutKeyPolicyRequest is the input of PutKeyPolicy.
type PutKeyPolicyRequest struct {
	KeyId                          string `shape:"KeyIdType" required:"true"`
	PolicyName                     string `shape:"PolicyNameType"`
	Policy                         string `shape:"PolicyType" required:"true"`
	BypassPolicyLockoutSafetyCheck bool   `shape:"BooleanType"`
}

// PutKeyPolicy replaces a key's policy.
func (s *Service) PutKeyPolicy(ctx context.Context, c *iam.Caller, in *PutKeyPolicyRequest) (*Empty, error) {
	if in.PolicyName != "" && in.PolicyName != policyName {
		return nil, apierror.New(apierror.UnsupportedOperation, "Policy name must be %s.", policyName)
	}
	r := keyRequest{operation: "PutKeyPolicy", keyID: in.KeyId, policyInput: policyInput{conditions: in}}
	k, err := s.keyFor(ctx, c, r)
	if err != nil {
		return nil, err
	}
	if err := s.checkPolicy(ctx, c, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
		return nil, err
	}
	return &Empty{}, s.updateKey(ctx, r.operation, k, func(k *Key) error {
		k.Policy = in.Policy
		return nil
	})
}

func (in *PutKeyPolicyRequest) condition(key string, _ *Key) []string {
	return bypassCondition(key, in.BypassPolicyLockoutSafetyCheck)
}

// bypassCondition is the condition key of the operations that take a key policy.
func bypassCondition(key string, bypass bool) []string {
	if key == "kms:bypasspolicylockoutsafetycheck" {
		return one(strconv.FormatBool(bypass))
	}
	return nil
}

// ListKeyPoliciesRequest is the input of ListKeyPolicies.
type ListKeyPoliciesRequest struct {
	KeyId  string `shape:"KeyIdType" required:"true"`
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// ListKeyPoliciesResponse is the output of ListKeyPolicies.
type ListKeyPoliciesResponse struct {
	PolicyNames []string
	NextMarker  string `json:",omitempty"`
	Truncated   bool
}

// ListKeyPolicies returns the names of a key's policies: there is one.
func (s *Service) ListKeyPolicies(
	ctx context.Context, c *iam.Caller, in *ListKeyPoliciesRequest,
) (*ListKeyPoliciesResponse, error) {
	if _, err := s.keyFor(ctx, c, keyRequest{operation: "ListKeyPolicies", keyID: in.KeyId}); err != nil {
		return nil, err
	}
	p, err := newPage("ListKeyPolicies", in.Limit, in.Marker)
	if err != nil {
		return nil, err
	}
	out := &ListKeyPoliciesResponse{}
	out.PolicyNames, out.NextMarker = pageOf(p, []string{policyName}, func(name string) string { return name })
	out.Truncated = out.NextMarker != ""
	return out, nil
}
