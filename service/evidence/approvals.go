package evidence

import (
	"context"
	"math"

	"github.com/verenc/kms/service/statement"
)

// maxApprovals is how many requests a report has: more than people decide on in a month, for which they are kept.
const maxApprovals = 1000

// addApprovals reports on the guard of the account, and on the calls that needed approvals.
func (r *reporter) addApprovals(ctx context.Context) error {
	guard, err := r.Service.IAM().Guard(ctx, r.out.Account)
	if err != nil {
		return err
	}
	if guard.Document != "" {
		summary := GuardSummary{SHA256: statement.SHA256([]byte(guard.Document)), ChangedAt: guard.ChangedAt.UTC()}
		if summary.Statements, err = statementsOf(guard.Document, true); err != nil {
			return err
		}
		r.out.Guard = &summary
	}
	requests, err := r.Store.ApprovalRequests(ctx, r.out.Account, math.MaxInt64, maxApprovals)
	if err != nil {
		return err
	}
	for _, asked := range requests {
		counted, err := r.Service.CountApprovals(ctx, asked)
		if err != nil {
			return err
		}
		r.out.Approvals = append(r.out.Approvals, ApprovalSummary{Number: asked.Number, State: counted.State,
			Operation: asked.Operation, KeyID: asked.KeyID, Requester: asked.Requester,
			CreatedAt: asked.CreatedAt.UTC(), ExpiresAt: asked.ExpiresAt.UTC(), ApprovedBy: counted.Counts,
			EndedBy: asked.EndedBy, EndedAt: asked.EndedAt.UTC()})
	}
	return nil
}
