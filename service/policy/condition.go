package policy

import (
	"slices"
	"strings"
)

// set is how a condition treats a key with many values (AWS page "Set operators for multivalued context keys").
type set int

const (
	single set = iota // no set operator
	forAllValues
	forAnyValue
)

// condition is one key of one operator in a Condition element.
type condition struct {
	operator string   // as the policy has it, for Explain
	texts    []string // the values, as the policy has them
	key      key
	set      set
	ifExists bool
	negated  bool
	null     []bool // of the operator Null: whether the key must be absent
	values   matcher
}

// matcher reports whether a value of the request matches any of the policy's values.
type matcher interface {
	match(e *evaluation, value string) bool
}

// operator makes a matcher from a policy's values.
type operator struct {
	negated bool
	compile func(c *compiler, values []string) (matcher, error)
}

// The operators, in lower case (AWS page "IAM JSON policy elements: Condition operators").
var operators = map[string]operator{
	"stringequals":              {compile: (*compiler).texts},
	"stringnotequals":           {compile: (*compiler).texts, negated: true},
	"stringequalsignorecase":    {compile: (*compiler).folded},
	"stringnotequalsignorecase": {compile: (*compiler).folded, negated: true},
	"stringlike":                {compile: (*compiler).globs},
	"stringnotlike":             {compile: (*compiler).globs, negated: true},
	"numericequals":             {compile: numbers(equal)},
	"numericnotequals":          {compile: numbers(equal), negated: true},
	"numericlessthan":           {compile: numbers(less)},
	"numericlessthanequals":     {compile: numbers(lessOrEqual)},
	"numericgreaterthan":        {compile: numbers(greater)},
	"numericgreaterthanequals":  {compile: numbers(greaterOrEqual)},
	"dateequals":                {compile: dates(equal)},
	"datenotequals":             {compile: dates(equal), negated: true},
	"datelessthan":              {compile: dates(less)},
	"datelessthanequals":        {compile: dates(lessOrEqual)},
	"dategreaterthan":           {compile: dates(greater)},
	"dategreaterthanequals":     {compile: dates(greaterOrEqual)},
	"bool":                      {compile: bools},
	"binaryequals":              {compile: binaries},
	"ipaddress":                 {compile: networks},
	"notipaddress":              {compile: networks, negated: true},
	"arnequals":                 {compile: (*compiler).arns},
	"arnlike":                   {compile: (*compiler).arns},
	"arnnotequals":              {compile: (*compiler).arns, negated: true},
	"arnnotlike":                {compile: (*compiler).arns, negated: true},
}

// conditions compiles a Condition element.
func (c *compiler) conditions(n *node) ([]condition, error) {
	if n.kind != jsonObject {
		return nil, malformed("Condition must be an object.")
	}
	var conditions []condition
	seen := make(map[string]bool)
	for i := range n.members {
		name, keys := n.members[i].name, &n.members[i].value
		template, op, err := c.operator(name)
		if err != nil {
			return nil, err
		}
		if keys.kind != jsonObject || len(keys.members) == 0 {
			return nil, malformed("Condition: %s must be an object with at least one key.", name)
		}
		for j := range keys.members {
			m := &keys.members[j]
			cond := template
			cond.key = newKey(m.name)
			id := strings.ToLower(name) + " " + cond.key.name
			if m.name == "" || seen[id] {
				return nil, malformed("Condition: %s has a key twice, or an empty one.", name)
			}
			seen[id] = true
			if err := c.conditionValues(&cond, op, &m.value); err != nil {
				return nil, err
			}
			conditions = append(conditions, cond)
		}
	}
	return conditions, nil
}

// operator finds the operator of a name with its prefix and suffix. For Null there is no operator.
func (c *compiler) operator(name string) (condition, *operator, error) {
	cond := condition{operator: name}
	base := strings.ToLower(name)
	if rest, ok := strings.CutPrefix(base, "forallvalues:"); ok {
		base, cond.set = rest, forAllValues
	} else if rest, ok := strings.CutPrefix(base, "foranyvalue:"); ok {
		base, cond.set = rest, forAnyValue
	}
	if base == "null" && cond.set == single {
		return cond, nil, nil
	}
	base, cond.ifExists = strings.CutSuffix(base, "ifexists")
	op, ok := operators[base]
	if !ok {
		return cond, nil, malformed("Condition: the operator %s is not known.", printable(name))
	}
	cond.negated = op.negated
	return cond, &op, nil
}

func (c *compiler) conditionValues(cond *condition, op *operator, n *node) error {
	items, err := n.list("Condition: "+cond.operator, jsonString, jsonNumber, jsonBool)
	if err != nil {
		return err
	}
	values := make([]string, len(items))
	for i := range items {
		values[i] = items[i].text
	}
	if op == nil {
		for _, value := range values {
			absent, err := parseBool(value)
			if err != nil {
				return malformed("Condition: Null: %w", err)
			}
			cond.null = append(cond.null, absent)
		}
		return nil
	}
	// AWS page "AWS KMS condition keys", using set operators with condition keys.
	if c.kind == KeyPolicy && cond.set == forAllValues &&
		(cond.key.source == fromEncryptionContext || cond.key.source == fromRequestTag) {
		return malformed("OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the specified encryption context or tag, or with an unspecified one. To fix, remove ForAllValues.")
	}
	cond.texts = values
	if cond.values, err = op.compile(c, values); err != nil {
		return malformed("Condition: %s: %w", cond.operator, err)
	}
	return nil
}

// isOpen reports whether the condition depends on what is not known of the request and, if it does
// not, whether it holds.
func (c *condition) isOpen(e *evaluation, allow bool) (holds, open bool) {
	switch c.key.source {
	case fromLookup, fromTagKeys, fromEncryptionContextKeys, fromRequestTag, fromEncryptionContext:
		if len(c.key.appendValues(e.valueSpace[:0], e)) == 0 {
			return false, true
		}
	}
	e.unresolved = false
	holds = c.holds(e, allow)
	return holds, e.unresolved
}

// holds evaluates the condition in a statement that allows or denies.
//
// AWS requires a set operator for a key with many values but does not say what happens without one.
// Here such a condition must hold for every value in an Allow, and for any value in a Deny. The
// same applies to pairs of an encryption context whose keys differ only in case.
func (c *condition) holds(e *evaluation, allow bool) bool {
	values := c.key.appendValues(e.valueSpace[:0], e)
	if c.null != nil {
		return slices.Contains(c.null, len(values) == 0)
	}
	if len(values) == 0 && c.ifExists {
		return true
	}
	all := c.set == forAllValues
	if c.set == single {
		if len(values) == 0 {
			return c.negated
		}
		all = allow
	} else if len(values) == 1 && values[0] == "" {
		values = nil // an empty string is an empty set
	}
	for _, value := range values {
		if holds := c.values.match(e, value) != c.negated; holds != all {
			return holds
		}
	}
	return all
}
