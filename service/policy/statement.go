package policy

import (
	"regexp"
	"strings"
)

// compiler holds what applies to all statements of a document.
type compiler struct {
	kind      Kind
	variables bool // whether the version has variables
	search    int  // bytes that count towards maxSearch
}

// statement is a compiled statement.
type statement struct {
	index        int
	sid          string
	allow        bool
	principals   *principals // nil in identity policies
	notActions   bool
	actions      []pattern // in lower case
	notResources bool
	resources    []template
	conditions   []condition
}

// statement compiles one statement (AWS page "Grammar of the IAM JSON policy language").
func (c *compiler) statement(n *node) (s statement, err error) {
	elements, err := n.object("The statement", "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction",
		"Resource", "NotResource", "Condition")
	if err != nil {
		return s, err
	}
	if sid := elements["Sid"]; sid != nil {
		if sid.kind != jsonString {
			return s, malformed("Sid must be a string.")
		}
		// Not in key policies (AWS page "Key policy overview").
		if c.kind == IdentityPolicy && strings.ContainsFunc(sid.text, notAlphanumeric) {
			return s, malformed("Sid must have only letters and digits.")
		}
		s.sid = sid.text
	}
	effect := elements["Effect"]
	if effect == nil || effect.kind != jsonString || effect.text != "Allow" && effect.text != "Deny" {
		return s, malformed("Effect must be Allow or Deny.")
	}
	s.allow = effect.text == "Allow"

	name, value, err := either(elements, "Principal", "NotPrincipal")
	if err != nil {
		return s, err
	}
	switch {
	case c.kind == IdentityPolicy && value != nil:
		return s, malformed("%s must not be in an identity policy.", name)
	case c.kind != IdentityPolicy && value == nil:
		return s, errNoPrincipal
	case value != nil:
		if s.principals, err = c.principals(name, value); err != nil {
			return s, err
		}
	}
	if name, value, err = required(elements, "Action", "NotAction"); err != nil {
		return s, err
	}
	s.notActions = name == "NotAction"
	if s.actions, err = actions(name, value); err != nil {
		return s, err
	}
	if s.resources, s.notResources, err = c.statementResources(elements); err != nil {
		return s, err
	}
	if value := elements["Condition"]; value != nil {
		s.conditions, err = c.conditions(value)
	}
	return s, err
}

// statementResources compiles Resource or NotResource. A trust policy has neither: its resource is the role.
func (c *compiler) statementResources(elements map[string]*node) (resources []template, not bool, err error) {
	if c.kind == TrustPolicy {
		if elements["Resource"] != nil || elements["NotResource"] != nil {
			return nil, true, malformed("Resource must not be in a trust policy.")
		}
		return nil, true, nil // all but none
	}
	name, value, err := required(elements, "Resource", "NotResource")
	if err != nil {
		return nil, false, err
	}
	resources, err = c.resources(name, value)
	return resources, name == "NotResource", err
}

func notAlphanumeric(r rune) bool {
	return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// either returns whichever of two elements a statement has.
func either(elements map[string]*node, a, b string) (name string, value *node, err error) {
	if elements[a] != nil && elements[b] != nil {
		return "", nil, malformed("A statement must not have both %s and %s.", a, b)
	}
	if elements[a] != nil {
		return a, elements[a], nil
	}
	return b, elements[b], nil
}

func required(elements map[string]*node, a, b string) (name string, value *node, err error) {
	if name, value, err = either(elements, a, b); err == nil && value == nil {
		err = malformed("A statement must have %s or %s.", a, b)
	}
	return name, value, err
}

var actionPattern = regexp.MustCompile(`^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$`)

func actions(name string, n *node) ([]pattern, error) {
	texts, err := n.strings(name)
	if err != nil {
		return nil, err
	}
	patterns := make([]pattern, len(texts))
	for i, text := range texts {
		if !actionPattern.MatchString(text) {
			return nil, malformed(`%s has a value that is not an action, such as kms:Decrypt, kms:* or "*".`, name)
		}
		patterns[i] = newPattern(wildcards.Replace(strings.ToLower(text)))
	}
	return patterns, nil
}

// resources compiles patterns of ARNs. Unlike in conditions, a wildcard here may match colons, and
// in identity policies the fields that an ARN lacks are wildcards (AWS pages "IAM JSON policy
// elements: Resource" and "IAM identifiers", IAM ARNs).
func (c *compiler) resources(name string, n *node) ([]template, error) {
	texts, err := n.strings(name)
	if err != nil {
		return nil, err
	}
	var templates []template
	for _, text := range texts {
		if text != "*" && !strings.HasPrefix(text, "arn:") {
			return nil, malformed(`%s must be in ARN format or "*".`, name)
		}
		forms := []string{text}
		if missing := missingFields(splitARN(text, c.variables)); c.kind == IdentityPolicy && text != "*" &&
			missing > 0 {
			forms = append(forms, text+strings.Repeat(":*", missing))
		}
		compiled, err := c.templates(forms, true)
		if err != nil {
			return nil, malformed("%s: %w", name, err)
		}
		templates = append(templates, compiled...)
	}
	return templates, nil
}

// mismatch is the reason why a statement does not apply.
type mismatch int

const (
	missNothing mismatch = iota // it applies
	missAction
	missPrincipal
	missResource
	missCondition
	missVariable
)

// match returns how closely the statement applies to the caller and, if it does not apply, why.
func (s *statement) match(e *evaluation) (reach, mismatch, *condition) {
	if s.matchAction(e) == s.notActions {
		return reachNone, missAction, nil
	}
	r := reachCaller
	if s.principals != nil {
		if r = s.principals.match(e.Principal, s.allow); r == reachNone {
			return reachNone, missPrincipal, nil
		}
	}
	e.unresolved = false
	matched := s.matchResource(e) != s.notResources
	if e.guesses() && e.unresolved {
		matched = e.assumed(s.allow)
	}
	if !matched {
		return reachNone, missResource, nil
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !e.holds(c, s.allow) {
			return reachNone, missCondition, c
		}
	}
	// A variable without a value makes an Allow invalid (AWS page "IAM policy elements: Variables
	// and tags", note). In a Deny it matches nothing, so that nobody escapes a negated condition by
	// having no value.
	if e.unresolved && s.allow && !e.guesses() {
		return reachNone, missVariable, nil
	}
	return r, missNothing, nil
}

func (s *statement) matchAction(e *evaluation) bool {
	for i := range s.actions {
		if s.actions[i].match(e.action) {
			return true
		}
	}
	return false
}

func (s *statement) matchResource(e *evaluation) bool {
	for i := range s.resources {
		for _, resource := range e.Resources {
			if s.resources[i].match(e, resource) {
				return true
			}
		}
	}
	return false
}
