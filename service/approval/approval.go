// Package approval has requests for approval: what they are about, who has approved, and what becomes of them.
//
// What it protects: calls that one person must not make alone. An approval is for one call (Digest), counts once, and
// names nobody who is behind the call. A request is used once, and not after its time.
//
// What it trusts: the service to have found out who calls and who approves, and the Store to change a request in one
// transaction. It decides nothing about permissions, and knows no policies.
//
// A request is PENDING when a call was denied for want of approvals. Then it is one of
//
//	APPROVED   it has as many approvals as are needed; the service counts those that are still valid
//	REJECTED   by somebody who might have approved, or withdrawn by its requester
//	USED       by the call, which had its effect after that
//	EXPIRED    its time is over
//
// APPROVED and EXPIRED are not stored: they follow from the approvals and the time.
package approval

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/verenc/kms/service/iam"
)

// State is what has become of a request.
type State string

// The states.
const (
	Pending  State = "PENDING"
	Approved State = "APPROVED"
	Rejected State = "REJECTED"
	Used     State = "USED"
	Expired  State = "EXPIRED"
)

// Request asks for approvals of one call.
type Request struct {
	Number    int64
	Account   string // whose approvers are asked: that of the resource
	Digest    string // of the call
	Requester string // the stored principal who called, or the operator of a command
	Stored    State  // Pending, Rejected or Used
	CreatedAt time.Time
	ExpiresAt time.Time
	Details
	Approvals []*Approval // in the order in which they were given
}

// Details is the part of a request that no query asks for.
type Details struct {
	Call
	Needed int      // approvals, when the call was denied
	By     []string `json:",omitempty"` // whose, as policies have it; empty: anybody's who may approve

	EndedBy string    `json:",omitempty"` // who rejected or used it: the ARN
	EndedAt time.Time `json:",omitzero"`
	// Approvers are those whose approvals counted when it was used.
	Approvers []string `json:",omitempty"`
}

// Approval is one principal's.
type Approval struct {
	Request  int64
	Approver string // the stored principal
	At       time.Time
	Evidence
}

// Evidence is what an approval can be judged by when it is used.
type Evidence struct {
	Principal string // the ARN of who approved: that of a role session, too
	SourceIP  string
	TLS       bool
	Proof     *iam.Proof // of the request ApproveRequest
}

// State returns what has become of a request, when so many of its approvals are valid.
func (r *Request) State(now time.Time, valid int) State {
	switch {
	case r.Stored != Pending:
		return r.Stored
	case !now.Before(r.ExpiresAt):
		return Expired
	case valid >= r.Needed:
		return Approved
	}
	return Pending
}

// Open reports whether a request can still be approved, rejected or used.
func (r *Request) Open(now time.Time) bool { return r.Stored == Pending && now.Before(r.ExpiresAt) }

// Concerns reports whether somebody is behind the call of a request, and so can't approve of it; or may be, since it is
// not known who is behind one of the two.
func (r *Request) Concerns(who *iam.Identity) bool {
	behind := who.Behind()
	return !iam.Traced(r.Caller) || !iam.Traced(behind) || overlap(r.Caller, behind)
}

// IsOf reports whether somebody has made the call of a request, in the same way.
func (r *Request) IsOf(who *iam.Identity) bool {
	behind := who.Behind()
	return iam.Traced(behind) && slices.Equal(r.Caller, behind)
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}

// Statement is the body of the request by which somebody approves. It names the call, so that nobody approves of what
// they have not seen.
type Statement struct {
	RequestId int64
	Digest    string
}

// maxSkew is how far the clock of who signed may be away, as for every signature.
const maxSkew = 5 * time.Minute

// Proven reports whether an approval's proof is about the request, and was made in its time. Who made it, and whether
// the signature is valid, is iam's matter.
func (r *Request) Proven(a *Approval, now time.Time) bool {
	var s Statement
	return a.Proof != nil && json.Unmarshal(a.Proof.Body, &s) == nil && s.RequestId == r.Number &&
		s.Digest == r.Digest && a.Proof.At.After(r.CreatedAt.Add(-maxSkew)) &&
		a.Proof.At.Before(r.ExpiresAt.Add(maxSkew)) && a.Proof.At.Before(now.Add(maxSkew))
}

// Voters collects the approvers that count: each person once, whatever roles they have assumed.
type Voters struct {
	behind []string
	ARNs   []string // of the stored principals
}

// Add adds an approver, unless the same person is there already.
func (v *Voters) Add(who *iam.Identity) {
	if !overlap(v.behind, who.Behind()) {
		v.behind = append(v.behind, who.Behind()...)
		v.ARNs = append(v.ARNs, who.User())
	}
}

// Limits of requests.
const (
	// MaxOpen is how many open requests of one principal there can be, and MaxKept how many that were rejected or not
	// used in their time stay in the database. They bound what a hostile caller can put into it.
	MaxOpen = 100
	MaxKept = 1000
	// Kept is how long a request stays in the database after its time. The audit log keeps it for longer.
	Kept = 30 * 24 * time.Hour
	// ExpiresAfter is the default time of a request.
	ExpiresAfter = 24 * time.Hour
)

// Store keeps requests; its contract is that of service.Store.
type Store interface {
	// InsertApprovalRequest adds a request, and sets its Number; or returns the pending request of its digest whose
	// time is not over. ErrLimit if the requester has max open requests. It removes the requester's requests that were
	// over before a time, and the oldest of those that were rejected or not used in their time, beyond MaxKept.
	InsertApprovalRequest(ctx context.Context, r *Request, max int, over time.Time) (*Request, error)
	// OpenApprovalRequest returns the pending request of a digest whose time is not over, with its approvals;
	// ErrNoRow when there is none.
	OpenApprovalRequest(ctx context.Context, digest string, now time.Time) (*Request, error)
	// ApprovalRequest returns a request of an account with its approvals; ErrNoRow when there is none.
	ApprovalRequest(ctx context.Context, account string, number int64) (*Request, error)
	// ApprovalRequests returns up to limit requests of an account with their approvals, the newest first, from the
	// first number below before.
	ApprovalRequests(ctx context.Context, account string, before int64, limit int) ([]*Request, error)
	// PutApproval adds an approval to a pending request whose time is not over, in place of an earlier one of the same
	// approver, whose credential may be gone; ErrNoRow when there is no such request.
	PutApproval(ctx context.Context, a *Approval, now time.Time) error
	// RejectApprovalRequest ends a pending request whose time is not over; ErrNoRow when there is none.
	RejectApprovalRequest(ctx context.Context, account string, number int64, by string, now time.Time) error
	// SpendApprovals makes a pending request whose time is not over a used one, so that it is used once; ErrNoRow when
	// there is none.
	SpendApprovals(ctx context.Context, number int64, by string, approvers []string, now time.Time) error
}
