package service

import (
	"context"
	"crypto/tls"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
	"github.com/verenc/kms/service/record"
)

// This file decides on calls whose policies ask for approvals, by the condition keys verenc:Approvals and
// verenc:ApprovedBy. A call of which no policy asks costs nothing here.

// approve is the action of those who approve.
const approve = "verenc:Approve"

// approvals is what is known of the approvals of a call that a policy asks for.
type approvals struct {
	call    approval.Call
	digest  string
	request *approval.Request // that is open for the call; nil: there is none
	by      []string          // whose approvals count
	missing policy.Missing    // what would make the call allowed
}

// approvalCondition returns the values of the two condition keys. Until approvals are needed, or where there is no
// call, nobody has approved.
func (a *access) approvalCondition(c *iam.Caller, r *policy.Request, key string) []string {
	a.asked = true
	switch {
	case a.approvals != nil && key == policy.ApprovedBy:
		return a.approvals.by
	case a.approvals != nil:
		return one(strconv.Itoa(len(a.approvals.by)))
	case key == policy.Approvals && (c.Call.Input != nil || r.Assume == policy.AbsentIsAbsent):
		return one("0")
	}
	return nil
}

// decideWithApprovals decides again, with approvals, on a call that was denied, if approvals can help. Only then the
// call is described, which takes time for one with secrets.
//
// On a resource of another account, approvals are those of that account's people. So they count for its policies and
// its guard, and the caller's own have to allow the call without.
func (s *Service) decideWithApprovals(ctx context.Context, c *iam.Caller, q *question, d policy.Decision,
	by evaluator) (policy.Decision, error) {
	if c.Call.Input == nil { // no call that can be approved of
		return d, nil
	}
	a, p, r := &q.access, &q.policies, &q.request
	missing, helps := policy.MissingApprovals(p, r)
	if !helps {
		return d, nil
	}
	if c.Account != a.account {
		guards, err := s.iam.GuardsOver(ctx, c.Account, c.Account)
		if err != nil {
			return d, err
		}
		own := &policy.Policies{Identity: p.Identity, Boundary: p.Boundary, Session: p.Session, Guard: guards}
		if !policy.Evaluate(own, r).Allowed {
			return d, nil
		}
	}
	found, err := s.approvalsOf(ctx, c, a)
	if err != nil {
		return d, err
	}
	found.missing, a.approvals = missing, found
	return by(p, r), nil
}

// approvalsOf looks up the approvals of a call, and counts those that are valid now.
func (s *Service) approvalsOf(ctx context.Context, c *iam.Caller, a *access) (*approvals, error) {
	p := &approvals{call: approval.Call{Source: eventSource, Operation: c.Call.Operation, Region: c.Region,
		Caller: c.Behind()}}
	if s.cfg.Operator != nil {
		p.call.Caller = []string{operatorName(s.cfg.Operator)}
	}
	if a.key != nil {
		p.call.KeyID = a.key.ID
	}
	err := s.describeCall(ctx, c, a, &p.call)
	if err == nil {
		p.digest, err = p.call.Digest(a.account)
	}
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	now := s.now()
	p.request, err = s.store.OpenApprovalRequest(ctx, p.digest, now)
	switch {
	case errors.Is(err, ErrNoRow):
		p.request = nil
		return p, nil
	case err != nil:
		return nil, apierror.FromStore(err)
	}
	p.by, err = s.validApprovals(ctx, p.request, now)
	return p, err
}

// operatorName is who calls when an operator runs a command.
func operatorName(o *record.Operator) string { return "operator " + o.Name + "@" + o.Host }

// describeCall sets what a call has besides its caller. A key that it names is the one that is found now, so that an
// alias which is moved after an approval makes it another call.
func (s *Service) describeCall(ctx context.Context, c *iam.Caller, a *access, call *approval.Call) (err error) {
	in := c.Call.Input
	if command, ok := in.(*record.Command); ok {
		call.Source, call.Everywhere = "verenc", command.Everywhere
		for _, about := range command.About {
			call.Resources = append(call.Resources, about.ARN)
		}
		call.Parameters, err = canonicalCommand(command)
		return err
	}
	if len(c.Call.KeyMembers) > 0 && a.key != nil {
		named := reflect.New(reflect.TypeOf(in).Elem())
		named.Elem().Set(reflect.ValueOf(in).Elem())
		for _, i := range c.Call.KeyMembers {
			member := named.Elem().Field(i)
			switch k, err := s.resolve(ctx, c, keyRequest{operation: c.Call.Operation, keyID: member.String()}); {
			case member.String() == "":
			case len(c.Call.KeyMembers) == 1, err == nil && k.ID == a.key.ID && k.Account == a.key.Account:
				member.SetString(a.key.ID)
			case err == nil:
				member.SetString(k.Account + ":" + k.ID)
			}
		}
		in = named.Interface()
	}
	call.Parameters, err = approval.Canonical(in)
	return err
}

// validApprovals returns whose approvals count now: those with a valid signature, of a principal who still may approve
// and is not behind the call.
func (s *Service) validApprovals(ctx context.Context, r *approval.Request, now time.Time) ([]string, error) {
	k, err := s.keyOfRequest(ctx, r)
	if errors.Is(err, ErrNoRow) {
		return nil, nil
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	var voters approval.Voters
	for _, a := range r.Approvals {
		if !r.Proven(a, now) {
			continue
		}
		who, err := s.iam.Proven(ctx, a.Proof)
		if errors.Is(err, iam.ErrNotProven) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &iam.Caller{Identity: *who, SourceIP: a.SourceIP, TLS: secured(a.TLS)}
		if r.Concerns(who) || who.User() != a.Approver {
			continue
		}
		err = s.mayApprove(ctx, c, r, k)
		switch {
		case err == nil:
			voters.Add(who)
		case !apierror.Is(err, apierror.AccessDenied) && !apierror.Is(err, apierror.UnrecognizedClient):
			return nil, err
		}
	}
	return voters.ARNs, nil
}

// secured is the state of a connection of which nothing else is known.
func secured(overTLS bool) *tls.ConnectionState {
	if !overTLS {
		return nil
	}
	return &tls.ConnectionState{}
}

// keyOfRequest returns the key that a request is about; nil if it is about none.
func (s *Service) keyOfRequest(ctx context.Context, r *approval.Request) (*Key, error) {
	if r.KeyID == "" {
		return nil, nil
	}
	return s.key(ctx, r.Region, r.KeyID)
}

// mayApprove decides whether a caller may approve of a request: on its key, or on the account.
func (s *Service) mayApprove(ctx context.Context, c *iam.Caller, r *approval.Request, k *Key) error {
	local := *c
	local.Region = r.Region
	a := access{action: approve, account: r.Account, arns: anyResource, request: keyRequest{permission: approve}}
	if k != nil {
		a = s.keyAccess(ctx, a.request, k)
	} else if c.Account != r.Account {
		return apierror.New(apierror.AccessDenied, "The request is one of another account.")
	}
	return s.decideAs(ctx, &local, &question{access: a}, evaluateOwn)
}

// spend has the approvals of an allowed call used up before it has any effect.
func (s *Service) spend(ctx context.Context, c *iam.Caller, p *approvals) error {
	if p == nil || p.request == nil || slices.Contains(c.Call.Approved, p.request.Number) {
		return nil
	}
	n := p.request.Number
	c.Call.Approved, c.Call.ApprovedBy = append(c.Call.Approved, n), append(c.Call.ApprovedBy, p.by...)
	record.Set(ctx, "approvalRequests", slices.Clone(c.Call.Approved))
	record.Set(ctx, "approvedBy", slices.Clone(c.Call.ApprovedBy))
	return record.BeforeEffect(ctx, func(ctx context.Context) error {
		err := s.store.SpendApprovals(ctx, n, p.call.Caller[0], p.by, s.now())
		if errors.Is(err, ErrNoRow) {
			return apierror.New(apierror.AccessDenied,
				"Approval request %d was used, was rejected or has expired meanwhile.", n)
		}
		return apierror.FromStore(err)
	})
}

// askForApproval makes the approval request of a call that was denied for want of approvals, unless there is one, and
// returns the denial with what the caller has to know of it.
func (s *Service) askForApproval(ctx context.Context, c *iam.Caller, a *access, denial string) error {
	p, now := a.approvals, s.now()
	if p.request == nil {
		var err error
		p.request, err = s.store.InsertApprovalRequest(ctx, &approval.Request{
			Account: a.account, Digest: p.digest, Requester: p.call.Caller[0], Stored: approval.Pending,
			CreatedAt: now, ExpiresAt: now.Add(s.cfg.ApprovalsExpire),
			Details: approval.Details{Call: p.call, Needed: p.missing.Approvals, By: p.missing.By},
		}, approval.MaxOpen, now.Add(-approval.Kept))
		if errors.Is(err, ErrLimit) {
			return apierror.New(apierror.AccessDenied, "%s. It needs approval, and %s has %d approval requests that "+
				"are open, the most that there can be: withdraw some, or wait for their end.", denial, p.call.Caller[0],
				approval.MaxOpen)
		}
		if err != nil {
			return apierror.FromStore(err)
		}
	}
	c.Call.Asked = append(c.Call.Asked, p.request.Number)
	record.Set(ctx, "approvalRequests", slices.Concat(c.Call.Approved, c.Call.Asked))
	on := "the account"
	if a.key != nil {
		on = "the key"
	}
	who, have, is := "principals who have", "have", "are"
	if p.missing.Approvals == 1 {
		who, have, is = "principal who has", "has", "is"
	}
	who += " verenc:Approve on " + on
	if len(p.missing.By) > 0 {
		who += " and " + is + " among " + strings.Join(p.missing.By, ", ")
	}
	return apierror.New(apierror.AccessDenied, "%s. Approval request %d: the same call is allowed, once, when %d %s %s "+
		"approved, until %s (%d so far).", denial, p.request.Number, p.missing.Approvals, who, have,
		p.request.ExpiresAt.UTC().Format(time.RFC3339), len(p.by))
}

// canonicalCommand returns the parameters of a command as JSON.
func canonicalCommand(c *record.Command) ([]byte, error) {
	members := map[string]any{}
	for _, m := range c.Parameters {
		if !slices.Contains(c.Drawn, m.Name) {
			members[m.Name] = m.Value
		}
	}
	return approval.Canonical(&struct{ Parameters map[string]any }{members})
}

// authoriseCommand decides on a command by the guard of the account that it concerns, or by those of all. Operations on
// keys are decided on when they are carried out.
func (s *Service) authoriseCommand(ctx context.Context, command *record.Command) error {
	if operations[command.Name] != nil {
		return nil
	}
	if command.Account == "" && !command.Everywhere { // it concerns no account
		return nil
	}
	if err := checkCommand(command); err != nil {
		return err
	}
	var accounts []string
	if command.Account != "" {
		accounts = []string{command.Account}
	}
	if command.Everywhere {
		all, err := s.iam.Guards(ctx)
		if err != nil {
			return err
		}
		for _, g := range all {
			accounts = append(accounts, g.Account)
		}
	}
	r := keyRequest{permission: commandAction(command.Name)}
	call := iam.Call{Operation: command.Name, Input: command}
	var denials []error // all at once, so that one round of approvals is enough
	for _, account := range accounts {
		c := operatorOf(account, "")
		c.Call = call
		a := access{action: r.permission, account: account, arns: anyResource, request: r}
		denials = append(denials, s.decide(ctx, c, a))
		call = c.Call
	}
	return errors.Join(denials...)
}

// operatorOf is the caller of what an operator does in an account: its root user.
func operatorOf(account, region string) *iam.Caller {
	return &iam.Caller{Identity: iam.Identity{Principal: arn.Root(account), Account: account}, Region: region}
}
