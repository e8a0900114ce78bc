package policy

import (
	"slices"
	"sync"
)

// Policies are all policies and grants that apply to a request.
type Policies struct {
	Key      *Document   // the key's policy, or the trust policy of a role; nil for operations that have neither
	Identity []*Document // of the caller: the user's, or the role's
	Boundary []*Document // permissions boundaries of the user or role; no limit if empty
	Session  []*Document // session policies of the role session; no limit if empty
	Guard    []*Document // guards of the caller's account and of the resource's; see Evaluate
	Grants   []Grant     // on the key; those for other principals have no effect
}

// Source is a kind of policy, in the words of AWS's messages.
type Source string

// The sources of a decision.
const (
	FromKeyPolicy      Source = "resource-based policy"
	FromIdentityPolicy Source = "identity-based policy"
	FromBoundary       Source = "permissions boundary"
	FromSessionPolicy  Source = "session policy"
	FromGuard          Source = "guard"
	FromGrant          Source = "grant"
	FromRootUser       Source = "account root user" // the root user, who needs no identity policy
	FromBreakGlass     Source = "break-glass"       // see BreakGlass
)

// setIndex identifies the policies of one source.
type setIndex int

const (
	keySet setIndex = iota
	identitySet
	boundarySet
	sessionSet
	guardSet
	sets // how many
)

var sources = [sets]Source{FromKeyPolicy, FromIdentityPolicy, FromBoundary, FromSessionPolicy, FromGuard}

// Decision is the answer to a request.
type Decision struct {
	Allowed bool
	// Explicit reports that a Deny statement denied; otherwise no policy of kind By allowed.
	Explicit bool
	By       Source
	// Document and Statement are the indexes of the statement that decided: among the policies of
	// kind By, and in its document. They are -1 if no statement decided. Sid is the statement's, or
	// empty.
	Document  int
	Statement int
	Sid       string
	GrantID   string // the grant that allowed
}

func allowed(by setIndex, found found) Decision {
	d := denied(by, found)
	d.Allowed, d.Explicit = true, false
	return d
}

func allowedByGrant(g *Grant) Decision {
	return Decision{Allowed: true, By: FromGrant, Document: -1, Statement: -1, GrantID: g.ID}
}

// denied is a denial by a statement, or by the absence of one that allows.
func denied(by setIndex, found found) Decision {
	d := Decision{By: sources[by], Document: -1, Statement: -1}
	if s := found.statement; s != nil {
		d.Explicit, d.Document, d.Statement, d.Sid = true, found.document, s.index, s.sid
	}
	return d
}

// found is a statement that applies, or none.
type found struct {
	statement *statement
	document  int
	reach     reach
}

// find returns, among the statements of one effect, the first one with the closest reach.
func (e *evaluation) find(by setIndex, allow bool) (best found) {
	for i, d := range e.documents[by] {
		if d == nil {
			continue
		}
		statements := d.deny
		if allow {
			statements = d.allow
		}
		for _, s := range statements {
			if r, _, _ := s.match(e); r > best.reach {
				best = found{s, i, r}
				if r == reachCaller || !allow {
					return best
				}
			}
		}
	}
	return best
}

const retireGrant = "kms:retiregrant"

// Evaluate decides (AWS pages "Policy evaluation logic", "Cross-account policy evaluation logic", "Key policies in
// AWS KMS", "Troubleshooting AWS KMS permissions"):
//
//   - Break-glass is allowed everything, before any policy is looked at.
//   - For all others, a Deny statement that applies, in any policy, denies.
//   - Without a key, identity policies decide; the root user is allowed.
//   - In the key's account, a key policy or grant that names the caller allows. One that names the
//     caller's role allows within the permissions boundary and session policies. A statement that
//     names the account lets the account's identity policies allow.
//   - For a caller of another account, an identity policy must also allow what the key policy
//     allows, whomever the key policy names. A grant to such a caller needs no identity policy: it
//     takes its place (AWS page "Allowing users in other accounts to use a KMS key", step 2).
//   - Key policies can deny RetireGrant but not allow it (AWS page "Retiring and revoking grants"); see Grant.Retiring.
//   - Services have no identity policies; a key policy or grant that names a service allows.
//   - A guard only restricts, the root user too (as service control policies do in AWS). What a guard
//     with Allow statements does not allow is denied; one that has only Deny statements allows the rest.
func Evaluate(p *Policies, r *Request) Decision {
	e := newEvaluation(p, r)
	d := e.decide()
	*e = evaluation{}
	evaluations.Put(e)
	return d
}

// evaluations are used again: each request needs one or more.
var evaluations = sync.Pool{New: func() any { return new(evaluation) }}

func (e *evaluation) decide() Decision {
	if e.Principal.Type == BreakGlass {
		return Decision{Allowed: true, By: FromBreakGlass, Document: -1, Statement: -1}
	}
	for by := range e.documents {
		if deny := e.find(setIndex(by), false); deny.statement != nil {
			return denied(setIndex(by), deny)
		}
	}
	d := e.decideUnguarded()
	if d.Allowed && !e.allowedByGuards() {
		return denied(guardSet, found{})
	}
	return d
}

// allowedByGuards reports whether each guard that allows anything allows this.
func (e *evaluation) allowedByGuards() bool {
	for _, guard := range e.documents[guardSet] {
		if len(guard.allow) > 0 && !slices.ContainsFunc(guard.allow, func(s *statement) bool {
			_, miss, _ := s.match(e)
			return miss == missNothing
		}) {
			return false
		}
	}
	return true
}

// decideUnguarded decides when no statement denies, without the guards.
func (e *evaluation) decideUnguarded() Decision {
	if e.Key == nil {
		return e.byIdentity()
	}
	foreign := e.foreign()
	if foreign && !e.CrossAccount {
		return denied(keySet, found{})
	}
	var allow found
	if e.action != retireGrant {
		allow = e.find(keySet, true)
	}
	if allow.reach == reachCaller && !foreign {
		return allowed(keySet, allow)
	}
	grant, granted := e.findGrant()
	switch {
	case granted == reachCaller && !foreign:
		return allowedByGrant(grant)
	case allow.reach == reachIssuer && !foreign:
		return e.limit(allowed(keySet, allow))
	case granted >= reachIssuer:
		return e.limit(allowedByGrant(grant))
	case allow.reach == reachNone && granted == reachNone:
		return denied(keySet, found{})
	}
	return e.byIdentity()
}

// foreign reports whether the caller belongs to another account than the resource.
func (e *evaluation) foreign() bool {
	return e.Principal.Type != AWSService && (e.Principal.Account == "" || e.Principal.Account != e.ResourceAccount)
}

// byIdentity decides by the caller's own policies alone.
func (e *evaluation) byIdentity() Decision {
	if e.Principal.Type == RootUser {
		return e.limit(Decision{Allowed: true, By: FromRootUser, Document: -1, Statement: -1})
	}
	allow := e.find(identitySet, true)
	if allow.statement == nil {
		return denied(identitySet, found{})
	}
	return e.limit(allowed(identitySet, allow))
}

// limit turns an allowing decision into a denial if there are permissions boundaries or session
// policies and none of them allows. A federated user without session policies is allowed nothing.
func (e *evaluation) limit(d Decision) Decision {
	for _, by := range [...]setIndex{boundarySet, sessionSet} {
		limited := len(e.documents[by]) > 0 || by == sessionSet && e.Principal.Type == FederatedUser
		if limited && e.find(by, true).statement == nil {
			return denied(by, found{})
		}
	}
	return d
}

// findGrant returns the first grant of the closest reach.
func (e *evaluation) findGrant() (best *Grant, closest reach) {
	for i := range e.Grants {
		if r, _ := e.Grants[i].match(e); r > closest {
			best, closest = &e.Grants[i], r
		}
	}
	return best, closest
}

// LeavesControl reports whether the key policy lets the request's caller replace the policy, which
// AWS requires of a new key policy unless BypassPolicyLockoutSafetyCheck is set (AWS page "Default
// key policy"). It is enough that the policy lets the caller's account allow it by identity
// policies, and that it is allowed with approvals.
func (d *Document) LeavesControl(r *Request) bool {
	put := r.withApprovals(MostApprovals)
	put.Action = "kms:PutKeyPolicy"
	e := newEvaluation(&Policies{Key: d}, put)
	return !e.foreign() && e.find(keySet, false).statement == nil && e.find(keySet, true).statement != nil
}
