package service

import (
	"context"
	"encoding/json"
)

const (
	maxPolicy  = 32768     // bytes; AWS page "Resource quotas": key policy document size
	policyName = "default" // the only name a key policy may have
)

// defaultPolicy is the key policy of a key that was created without one (AWS page "Default key policy").
func defaultPolicy(account string) string {
	return `{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "` + rootARN(account) + `"
    },
    "Action" : "kms:*",
    "Resource" : "*"
  } ]
}`
}

func checkPolicy(text string) error {
	if len(text) > maxPolicy {
		return refuse(CodeLimitExceeded, "The policy has %d bytes; %d are the most that it can have.", len(text), maxPolicy)
	}
	var object map[string]json.RawMessage
	if text != "" && json.Unmarshal([]byte(text), &object) != nil {
		return refuse(CodeMalformedPolicyDocument, "The policy is not a JSON object.")
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
func (s *Service) GetKeyPolicy(ctx context.Context, c *Caller, in *GetKeyPolicyRequest) (*GetKeyPolicyResponse, error) {
	k, err := s.keyFor(ctx, c, keyUse{op: "GetKeyPolicy", keyID: in.KeyId})
	if err != nil {
		return nil, err
	}
	if in.PolicyName != "" && in.PolicyName != policyName {
		return nil, refuse(CodeNotFound, "No such policy exists")
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
func (s *Service) PutKeyPolicy(ctx context.Context, c *Caller, in *PutKeyPolicyRequest) (*Empty, error) {
	if in.PolicyName != "" && in.PolicyName != policyName {
		return nil, refuse(CodeUnsupportedOperation, "Policy name must be %s.", policyName)
	}
	if err := checkPolicy(in.Policy); err != nil {
		return nil, err
	}
	return s.change(ctx, c, keyUse{op: "PutKeyPolicy", keyID: in.KeyId, bypassLockout: in.BypassPolicyLockoutSafetyCheck}, func(k *Key) error {
		k.Policy = in.Policy
		return nil
	})
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
func (s *Service) ListKeyPolicies(ctx context.Context, c *Caller, in *ListKeyPoliciesRequest) (*ListKeyPoliciesResponse, error) {
	if _, err := s.keyFor(ctx, c, keyUse{op: "ListKeyPolicies", keyID: in.KeyId}); err != nil {
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
