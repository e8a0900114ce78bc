package evidence

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// notPrefix marks what a statement excludes, by NotPrincipal or NotAction.
const notPrefix = "all but "

// statementsOf summarises a policy, with its conditions if they are asked for. Package policy, which decides by it,
// keeps none of its text.
func statementsOf(text string, conditions bool) ([]StatementSummary, error) {
	var document struct{ Statement oneOrMore[statementText] }
	if err := json.Unmarshal([]byte(text), &document); err != nil {
		return nil, fmt.Errorf("read key policy: %w", err)
	}
	var all []StatementSummary
	for _, s := range document.Statement {
		var condition bytes.Buffer
		if conditions && s.Condition != nil {
			if err := json.Compact(&condition, s.Condition); err != nil {
				return nil, fmt.Errorf("read condition: %w", err)
			}
		}
		all = append(all, StatementSummary{
			Sid: s.Sid, Effect: s.Effect, Conditional: s.Condition != nil, Condition: condition.String(),
			Principals: append(s.Principal.names(), prefixed(s.NotPrincipal.names())...),
			Actions:    append(s.Action, prefixed(s.NotAction)...),
		})
	}
	return all, nil
}

type statementText struct {
	Sid, Effect             string
	Principal, NotPrincipal principalText
	Action, NotAction       oneOrMore[string]
	Condition               json.RawMessage
}

func prefixed(names []string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = notPrefix + name
	}
	return all
}

// oneOrMore is a JSON value, or a list of them.
type oneOrMore[T any] []T

func (s *oneOrMore[T]) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte("[")) {
		return json.Unmarshal(b, (*[]T)(s))
	}
	*s = make([]T, 1)
	return json.Unmarshal(b, &(*s)[0])
}

// principalText is "*", or names by their kind: AWS, Service and so on.
type principalText struct{ byKind map[string]oneOrMore[string] }

func (p *principalText) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte(`"`)) {
		p.byKind = map[string]oneOrMore[string]{"": make(oneOrMore[string], 1)}
		return json.Unmarshal(b, &p.byKind[""][0])
	}
	return json.Unmarshal(b, &p.byKind)
}

func (p *principalText) names() (all []string) {
	for _, kind := range slices.Sorted(maps.Keys(p.byKind)) {
		all = append(all, p.byKind[kind]...)
	}
	return all
}
