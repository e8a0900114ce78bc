package policy

import (
	"slices"
	"strconv"
)

// MostApprovals is the greatest number of approvals that a policy can ask for.
const MostApprovals = 10

// Missing says which approvals would make a denied request an allowed one.
type Missing struct {
	Approvals int // how many are needed in all
	// By are the values of the conditions on verenc:ApprovedBy that the approvals must meet; empty: anybody's count.
	By []string
}

// MissingApprovals tells whether a request that is denied would be allowed with approvals, and with which. What the
// request has is otherwise as its Lookup says.
func MissingApprovals(p *Policies, r *Request) (Missing, bool) {
	for n := range MostApprovals + 1 {
		e := newEvaluation(p, r.withApprovals(n))
		if !e.decide().Allowed {
			continue
		}
		m := Missing{Approvals: max(n, 1)} // a condition on who approves needs an approval, too
		for _, c := range e.approvers {
			m.By = append(m.By, c.texts...)
		}
		slices.Sort(m.By)
		m.By = slices.Compact(m.By)
		return m, true
	}
	return Missing{}, false
}

// withApprovals returns the request with so many approvals, of whomever the policies want.
func (r *Request) withApprovals(n int) *Request {
	with := *r
	with.Assume = AnyApprovers
	with.Lookup = func(values []string, key string) []string {
		if key == Approvals {
			return append(values, strconv.Itoa(n))
		}
		if r.Lookup == nil {
			return values
		}
		return r.Lookup(values, key)
	}
	return &with
}
