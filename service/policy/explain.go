package policy

import (
	"fmt"
	"strings"
)

// Step is what one statement or grant contributed to a decision.
type Step struct {
	By        Source
	Document  int // index among the policies of this source
	Statement int // index in the document, or of the grant; -1 for a rule of the service
	Sid       string
	GrantID   string
	Deny      bool // the statement's effect
	Applies   bool
	Reason    string // how it applies, or the first thing that does not match
	// Open are the conditions on which it depends whether it applies, when the Request assumes
	// something.
	Open string
}

// Explain is Evaluate with an explanation for every statement and grant, in the order of the
// policies.
func Explain(p *Policies, r *Request) (Decision, []Step) {
	e := newEvaluation(p, r)
	var steps []Step
	for by, documents := range e.documents {
		for i, d := range documents {
			if d == nil {
				continue
			}
			for j := range d.statements {
				s := &d.statements[j]
				reach, miss, condition := s.match(e)
				steps = append(steps, Step{By: sources[by], Document: i, Statement: j, Sid: s.sid, Deny: !s.allow,
					Applies: miss == missNothing, Reason: reason(s, reach, miss, condition), Open: s.open(e, miss)})
			}
		}
	}
	for i := range p.Grants {
		g := &p.Grants[i]
		reach, reason := g.match(e)
		step := Step{By: FromGrant, Statement: i, GrantID: g.ID, Applies: reach != reachNone, Reason: reason}
		if e.Assume == Favourable && step.Applies && g.isConstrained(e) {
			step.Open = "its constraints"
		}
		steps = append(steps, step)
	}
	if e.Key != nil && e.foreign() && !e.CrossAccount {
		steps = append(steps, Step{By: FromKeyPolicy, Statement: -1, Deny: true, Applies: true,
			Reason: "the operation is not for callers of other accounts"})
	}
	if e.Key != nil && e.action == retireGrant {
		steps = append(steps, Step{By: FromKeyPolicy, Statement: -1, Reason: "key policies cannot allow the operation"})
	}
	return e.decide(), steps
}

func reason(s *statement, reach reach, miss mismatch, c *condition) string {
	switch miss {
	case missAction:
		return "does not have the action"
	case missPrincipal:
		return "does not have the principal"
	case missResource:
		return "does not have the resource"
	case missCondition:
		return fmt.Sprintf("the condition %s on %s does not hold", c.operator, c.key.name)
	case missVariable:
		return "has a variable without a value"
	}
	if s.principals == nil {
		return "applies"
	}
	return reach.String()
}

// open names the conditions of a statement that depend on what is not known of the request, when
// the statement would apply otherwise.
func (s *statement) open(e *evaluation, miss mismatch) string {
	if !e.guesses() || miss != missNothing && miss != missCondition {
		return ""
	}
	var names []string
	for i := range s.conditions {
		c := &s.conditions[i]
		holds, open := c.isOpen(e, s.allow)
		if open {
			names = append(names, "the condition "+c.operator+" on "+c.key.name)
		} else if !holds {
			return ""
		}
	}
	return strings.Join(names, " and ")
}

func (r reach) String() string {
	switch r {
	case reachAccount:
		return "names the caller's account"
	case reachIssuer:
		return "names the role or user behind the session"
	case reachCaller:
		return "names the caller, or everyone"
	}
	return "does not name the caller"
}
