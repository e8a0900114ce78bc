package inspect

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/iam"
)

// actionApprove is the permission for all that concerns approvals, on the key or the account of the request.
const actionApprove = "verenc:Approve"

func approvalOperations() []service.Operation {
	deciding := func(o service.Operation) service.Operation {
		o.Permissions, o.Effect = []string{actionApprove}, service.Changes
		return o
	}
	list := ofCaller(service.Operation{
		Name:   "ListApprovalRequests",
		Page:   service.PageSize{Default: 20, Max: 50},
		Errors: service.ErrorCodes{apierror.InvalidMarker},
	}, (*Inspector).listApprovalRequests)
	get := ofCaller(service.Operation{
		Name:   "GetApprovalRequest",
		Errors: service.ErrorCodes{apierror.NotFound},
	}, (*Inspector).getApprovalRequest)
	errors := service.ErrorCodes{apierror.InvalidState, apierror.NotFound}
	return []service.Operation{
		list, get,
		deciding(ofCaller(service.Operation{Name: "ApproveRequest", Errors: errors, KeepsProof: true},
			(*Inspector).approveRequest)),
		deciding(ofCaller(service.Operation{Name: "RejectRequest", Errors: errors}, (*Inspector).rejectRequest)),
	}
}

// ListApprovalRequestsRequest is the input of ListApprovalRequests.
type ListApprovalRequestsRequest struct {
	State  string `shape:"ApprovalStateType"` // empty: any
	Limit  int32  `shape:"LimitType"`
	Marker string `shape:"MarkerType"`
}

// ListApprovalRequestsResponse is the output of ListApprovalRequests.
type ListApprovalRequestsResponse struct {
	Requests   []ApprovalRequestEntry // the newest first
	NextMarker string                 `json:",omitempty"`
	// Truncated tells that there may be more: also when fewer requests than Limit were found, since only so many are
	// looked at.
	Truncated bool
}

// ApprovalRequestEntry is a call that needs approvals.
type ApprovalRequestEntry struct {
	RequestId         int32
	State             string
	Digest            string // of the call; ApproveRequest takes it
	EventSource       string // of the operation: kms.amazonaws.com, or verenc for a command
	OperationName     string
	KeyArn            string   `json:",omitempty"`
	Region            string   `json:",omitempty"`
	Resources         []string `json:",omitempty"` // ARNs of what a command is about; "*": all accounts
	Requester         string   // ARN, or the operator of a command
	CallerChain       []string `json:",omitempty"` // whom the requester acts for
	CreationDate      service.Timestamp
	ExpirationDate    service.Timestamp
	ApprovalsNeeded   int32
	EligibleApprovers []string          `json:",omitempty"` // patterns of the policies; empty: all who may approve
	ApprovedBy        []string          // ARNs of those whose approvals count
	EndedBy           string            `json:",omitempty"`
	EndDate           service.Timestamp `json:",omitzero"`
}

// GetApprovalRequestRequest is the input of GetApprovalRequest.
type GetApprovalRequestRequest struct {
	RequestId int32 `shape:"ApprovalNumberType" required:"true"`
}

// GetApprovalRequestResponse is the output of GetApprovalRequest.
type GetApprovalRequestResponse struct {
	Request ApprovalRequestEntry
	// KeyDescription and KeyAliases are what the key is known by.
	KeyDescription string   `json:",omitempty"`
	KeyAliases     []string `json:",omitempty"`
	// BehindCall tells that the caller is behind the call, and so can't approve of it.
	BehindCall bool `json:",omitempty"`
	// Parameters are everything that the call has, as JSON. Plaintexts, ciphertexts and secrets are hashed.
	Parameters string
	Changes    []DocumentChange `json:",omitempty"` // of policies
}

// DocumentChange is what the call would make of a policy.
type DocumentChange struct {
	Document   string // which
	Difference string // as diff -u shows it, of the JSON with a member a line
}

// ApproveRequestRequest is the input of ApproveRequest.
type ApproveRequestRequest struct {
	RequestId int32  `shape:"ApprovalNumberType" required:"true"`
	Digest    string `shape:"ApprovalDigestType" required:"true"`
}

// RejectRequestRequest is the input of RejectRequest.
type RejectRequestRequest struct {
	RequestId int32 `shape:"ApprovalNumberType" required:"true"`
}

// ApproveRequestResponse is the output of ApproveRequest.
type ApproveRequestResponse struct{ Request ApprovalRequestEntry }

// RejectRequestResponse is the output of RejectRequest.
type RejectRequestResponse struct{ Request ApprovalRequestEntry }

func (i *Inspector) listApprovalRequests(ctx context.Context, c *iam.Caller, in *ListApprovalRequestsRequest) (
	*ListApprovalRequestsResponse, error) {
	before := int64(math.MaxInt64)
	if in.Marker != "" {
		var err error
		if before, err = strconv.ParseInt(in.Marker, 10, 64); err != nil || before < 1 {
			return nil, apierror.New(apierror.InvalidMarker, "The Marker is not one of ListApprovalRequests.")
		}
	}
	size := operations["ListApprovalRequests"].Page
	limit := cmp.Or(int(in.Limit), size.Default)
	if limit > size.Max {
		return nil, apierror.New(apierror.Validation, "1 validation error detected: Value '%d' at 'limit' failed to "+
			"satisfy constraint: Member must have value less than or equal to %d", limit, size.Max)
	}
	all, next, err := i.service.ApprovalRequests(ctx, c, approval.State(in.State), before, limit)
	if err != nil {
		return nil, err
	}
	out := &ListApprovalRequestsResponse{Requests: []ApprovalRequestEntry{}, Truncated: next != 0}
	if next != 0 {
		out.NextMarker = strconv.FormatInt(next, 10)
	}
	for _, r := range all {
		entry, _, err := i.approvalEntry(ctx, r)
		if err != nil {
			return nil, err
		}
		out.Requests = append(out.Requests, *entry)
	}
	return out, nil
}

func resourcesOf(r *approval.Request) []string {
	if r.Everywhere {
		return []string{"*"}
	}
	return r.Resources
}

func (i *Inspector) approvalEntry(ctx context.Context, r *service.CountedRequest) (
	*ApprovalRequestEntry, *service.Key, error) {
	e := &ApprovalRequestEntry{
		RequestId: int32(r.Number), State: string(r.State), Digest: r.Digest, EventSource: r.Source,
		OperationName: r.Operation, Region: r.Region, Resources: resourcesOf(r.Request), Requester: r.Requester,
		CallerChain: r.Caller[min(1, len(r.Caller)):], CreationDate: service.Timestamp(r.CreatedAt),
		ExpirationDate: service.Timestamp(r.ExpiresAt), ApprovalsNeeded: int32(r.Needed), EligibleApprovers: r.By,
		ApprovedBy: append([]string{}, r.Counts...), EndedBy: r.EndedBy,
	}
	if !r.EndedAt.IsZero() {
		e.EndDate = service.Timestamp(r.EndedAt)
	}
	k, err := i.service.KeyOfRequest(ctx, r.Request)
	if k != nil {
		e.KeyArn = i.service.ARNOf(k)
	}
	return e, k, err
}

func (i *Inspector) getApprovalRequest(ctx context.Context, c *iam.Caller, in *GetApprovalRequestRequest) (
	*GetApprovalRequestResponse, error) {
	r, err := i.service.ApprovalRequest(ctx, c, int64(in.RequestId))
	if err != nil {
		return nil, err
	}
	entry, k, err := i.approvalEntry(ctx, r)
	if err != nil {
		return nil, err
	}
	out := &GetApprovalRequestResponse{Request: *entry, Parameters: indented(string(r.Parameters)),
		BehindCall: r.Concerns(&c.Identity)}
	if k != nil {
		out.KeyDescription = k.Description
		if out.KeyAliases, err = i.service.AliasesOf(ctx, k); err != nil {
			return nil, err
		}
	}
	out.Changes, err = i.documentChanges(ctx, r.Request, k)
	return out, err
}

func (i *Inspector) approveRequest(ctx context.Context, c *iam.Caller, in *ApproveRequestRequest) (
	*ApproveRequestResponse, error) {
	r, err := i.service.Approve(ctx, c, int64(in.RequestId), in.Digest)
	if err != nil {
		return nil, err
	}
	entry, _, err := i.approvalEntry(ctx, r)
	if err != nil {
		return nil, err
	}
	return &ApproveRequestResponse{*entry}, nil
}

func (i *Inspector) rejectRequest(ctx context.Context, c *iam.Caller, in *RejectRequestRequest) (
	*RejectRequestResponse, error) {
	r, err := i.service.Reject(ctx, c, int64(in.RequestId))
	if err != nil {
		return nil, err
	}
	entry, _, err := i.approvalEntry(ctx, r)
	if err != nil {
		return nil, err
	}
	return &RejectRequestResponse{*entry}, nil
}

// policyParameters are the members of calls that are policies.
type policyParameters struct {
	Policy     string // of PutKeyPolicy
	Parameters struct {
		PolicyDocument string            `json:"policyDocument"` // of PutGuard
		Policies       map[string]string `json:"policies"`       // of a user or a role
		Boundary       string            `json:"permissionsBoundary"`
		Trust          string            `json:"assumeRolePolicyDocument"`
	}
}

// documentChanges compares the policies of a call with those that there are now.
func (i *Inspector) documentChanges(ctx context.Context, r *approval.Request, k *service.Key) (
	changes []DocumentChange, err error) {
	var in policyParameters
	if err := json.Unmarshal(r.Parameters, &in); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("read the parameters of approval request %d: %w", r.Number, err))
	}
	add := func(document, before, after string) {
		if difference := udiff.Unified("before", "after", indented(before), indented(after)); difference != "" {
			changes = append(changes, DocumentChange{document, difference})
		}
	}
	switch r.Operation {
	case "PutKeyPolicy":
		if k != nil {
			add("key policy", k.Policy, in.Policy)
		}
	case "PutGuard":
		g, err := i.service.IAM().Guard(ctx, r.Account)
		if err != nil {
			return nil, apierror.FromStore(err)
		}
		add("guard", g.Document, in.Parameters.PolicyDocument)
	case "CreateUser", "CreateRole", "UpdateUser", "UpdateRole":
		old := &iam.Principal{}
		all, err := i.service.IAM().Principals(ctx)
		if err != nil {
			return nil, apierror.FromStore(err)
		}
		for _, p := range all {
			if slices.Contains(r.Resources, p.ARN) {
				old = p
			}
		}
		names := maps.Clone(in.Parameters.Policies)
		if names == nil {
			names = map[string]string{}
		}
		maps.Copy(names, old.Policies)
		for _, name := range slices.Sorted(maps.Keys(names)) {
			add("identity policy "+name, old.Policies[name], in.Parameters.Policies[name])
		}
		add("permissions boundary", old.Boundary, in.Parameters.Boundary)
		add("trust policy", old.Trust, in.Parameters.Trust)
	}
	return changes, nil
}

// indented is JSON with a member a line, so that a difference shows members. What is no JSON stays as it is.
func indented(text string) string {
	var b bytes.Buffer
	if text == "" || json.Indent(&b, []byte(text), "", "  ") != nil {
		return text
	}
	return strings.TrimSpace(b.String()) + "\n"
}
