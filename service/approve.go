package service

import (
	"context"
	"errors"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/iam"
)

// This file has what package inspect needs for requests for approval: they are shown to those who made them, and to
// those who may approve of them.

// CountedRequest is an approval request with what it comes to now.
type CountedRequest struct {
	*approval.Request
	State  approval.State
	Counts []string // the ARNs of those whose approvals count, or counted when the request was used
}

// ApprovalRequest returns a request of the caller's account.
func (s *Service) ApprovalRequest(ctx context.Context, c *iam.Caller, number int64) (*CountedRequest, error) {
	r, err := s.findApprovalRequest(ctx, c, number)
	if err != nil {
		return nil, err
	}
	if err := s.maySee(ctx, c, r); err != nil {
		return nil, err
	}
	return s.CountApprovals(ctx, r)
}

func (s *Service) findApprovalRequest(ctx context.Context, c *iam.Caller, number int64) (*approval.Request, error) {
	r, err := s.store.ApprovalRequest(ctx, c.Account, number)
	if errors.Is(err, ErrNoRow) {
		return nil, apierror.New(apierror.NotFound, "Approval request %d does not exist.", number)
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if k, err := s.keyOfRequest(ctx, r); err == nil && k != nil {
		s.addKeyToRecord(ctx, k)
	}
	return r, nil
}

// maySee lets the requester, and those who may approve, see a request.
func (s *Service) maySee(ctx context.Context, c *iam.Caller, r *approval.Request) error {
	if r.IsOf(&c.Identity) {
		return nil
	}
	return s.mayDecide(ctx, c, r)
}

// mayDecide lets those who may approve pass. When the key is gone, those of the account decide on what is left.
func (s *Service) mayDecide(ctx context.Context, c *iam.Caller, r *approval.Request) error {
	k, err := s.keyOfRequest(ctx, r)
	if err != nil && !errors.Is(err, ErrNoRow) {
		return apierror.FromStore(err)
	}
	return s.mayApprove(ctx, c, r, k)
}

// CountApprovals judges the approvals of a request as they are now. No policy is asked whether it may.
func (s *Service) CountApprovals(ctx context.Context, r *approval.Request) (*CountedRequest, error) {
	now := s.now()
	if !r.Open(now) {
		return &CountedRequest{r, r.State(now, 0), r.Approvers}, nil
	}
	counts, err := s.validApprovals(ctx, r, now)
	if err != nil {
		return nil, err
	}
	return &CountedRequest{r, r.State(now, len(counts)), counts}, nil
}

// mostLooked is how many requests a page of a list is searched in.
const mostLooked = 1000

// ApprovalRequests returns up to limit requests that the caller may see, the newest first, from the first number below
// before; and the number from which to go on, or 0 at the end. It looks at so many requests at most, and may return
// fewer for that.
func (s *Service) ApprovalRequests(ctx context.Context, c *iam.Caller, state approval.State, before int64, limit int) (
	seen []*CountedRequest, next int64, err error) {
	for looked := 0; looked < mostLooked; {
		batch, err := s.store.ApprovalRequests(ctx, c.Account, before, 100)
		if err != nil {
			return nil, 0, apierror.FromStore(err)
		}
		for _, r := range batch {
			looked, before = looked+1, r.Number
			err := s.maySee(ctx, c, r)
			if apierror.Is(err, apierror.AccessDenied) {
				continue
			}
			if err != nil {
				return nil, 0, err
			}
			counted, err := s.CountApprovals(ctx, r)
			if err != nil {
				return nil, 0, err
			}
			if state != "" && counted.State != state {
				continue
			}
			if seen = append(seen, counted); len(seen) == limit {
				return seen, before, nil
			}
		}
		if len(batch) < 100 {
			return seen, 0, nil
		}
	}
	return seen, before, nil
}

// Approve keeps the caller's approval of a request, with the signature of the caller's request. The digest is that of
// the call that the caller has seen.
func (s *Service) Approve(ctx context.Context, c *iam.Caller, number int64, digest string) (*CountedRequest, error) {
	r, err := s.findApprovalRequest(ctx, c, number)
	switch {
	case err != nil:
		return nil, err
	case r.Concerns(&c.Identity): // no permission would help
		return nil, apierror.New(apierror.AccessDenied,
			"User: %s is behind the call of approval request %d, and can't approve of it.", c.Principal, number)
	}
	if err = s.mayDecide(ctx, c, r); err == nil {
		err = s.checkOpen(r)
	}
	switch {
	case err != nil:
		return nil, err
	case r.Digest != digest:
		return nil, apierror.New(apierror.Validation, "The Digest is not that of approval request %d.", number)
	case !iam.Traced(r.Caller) || !iam.Traced(c.Behind()):
		return nil, apierror.New(apierror.AccessDenied, "It is not known who assumed the role in whose session approval "+
			"request %d was made, or is approved of: assume the role again.", number)
	case c.Signed == nil:
		return nil, apierror.New(apierror.AccessDenied, "An approval must be signed with an access key.")
	}
	now := s.now()
	a := &approval.Approval{Request: number, Approver: c.User(), At: now, Evidence: approval.Evidence{
		Principal: c.Principal, SourceIP: c.SourceIP, TLS: c.TLS != nil, Proof: c.Signed}}
	if !r.Proven(a, now) {
		return nil, apierror.New(apierror.Validation, "The signature is not one of this approval.")
	}
	if err := s.store.PutApproval(ctx, a, now); errors.Is(err, ErrNoRow) {
		return nil, apierror.New(apierror.InvalidState, "Approval request %d has ended meanwhile.", number)
	} else if err != nil {
		return nil, apierror.FromStore(err)
	}
	if r, err = s.findApprovalRequest(ctx, c, number); err != nil {
		return nil, err
	}
	return s.CountApprovals(ctx, r)
}

// Reject ends a request. Whoever may approve of it may reject it, and its requester may withdraw it.
func (s *Service) Reject(ctx context.Context, c *iam.Caller, number int64) (*CountedRequest, error) {
	r, err := s.findApprovalRequest(ctx, c, number)
	if err == nil && !r.IsOf(&c.Identity) {
		err = s.mayDecide(ctx, c, r)
	}
	if err == nil {
		err = s.checkOpen(r)
	}
	if err != nil {
		return nil, err
	}
	err = s.store.RejectApprovalRequest(ctx, c.Account, number, c.Principal, s.now())
	if errors.Is(err, ErrNoRow) {
		return nil, apierror.New(apierror.InvalidState, "Approval request %d has ended meanwhile.", number)
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if r, err = s.findApprovalRequest(ctx, c, number); err != nil {
		return nil, err
	}
	return s.CountApprovals(ctx, r)
}

func (s *Service) checkOpen(r *approval.Request) error {
	if now := s.now(); !r.Open(now) {
		return apierror.New(apierror.InvalidState, "Approval request %d is %s.", r.Number, r.State(now, 0))
	}
	return nil
}

// KeyOfRequest returns the key that a request is about; nil if it is about none, or the key is gone.
func (s *Service) KeyOfRequest(ctx context.Context, r *approval.Request) (*Key, error) {
	k, err := s.keyOfRequest(ctx, r)
	if errors.Is(err, ErrNoRow) {
		return nil, nil
	}
	return k, apierror.FromStore(err)
}

// ARNOf returns the ARN of a key, as records have it.
func (s *Service) ARNOf(k *Key) string { return k.ARN(s.canonical) }
