package policy

import "strings"

// template is a text of a policy that may have wildcards and variables (AWS page "IAM policy elements: Variables
// and tags").
type template struct {
	text  string  // without variables: with anyRun and anyRune for wildcards
	fixed pattern // of text
	parts []part  // with variables; else nil
}

// part is a literal text or a variable.
type part struct {
	text     string // or the variable's default
	variable bool
	key      key
	optional bool // has a default
}

// template compiles s. Wildcards are such only if wild is set; ${*}, ${?} and ${$} never are.
func (c *compiler) template(s string, wild bool) (template, error) {
	var parts []part
	var literal strings.Builder
	write := func(s string) {
		if wild {
			s = wildcards.Replace(s)
		}
		literal.WriteString(s)
	}
	for c.variables {
		before, rest, found := strings.Cut(s, "${")
		if !found {
			break
		}
		write(before)
		inner, after, closed := strings.Cut(rest, "}")
		if !closed {
			return template{}, malformed("A variable has no closing brace.")
		}
		s = after
		switch inner {
		case "*", "?", "$":
			literal.WriteString(inner)
			continue
		}
		v, err := newVariable(inner)
		if err != nil {
			return template{}, err
		}
		parts = append(parts, part{text: literal.String()}, v)
		literal.Reset()
	}
	write(s)
	if parts == nil {
		return template{text: literal.String(), fixed: newPattern(literal.String())}, nil
	}
	return template{parts: append(parts, part{text: literal.String()})}, nil
}

// newVariable parses what is between the braces: a key, or a key, a comma and a default in single quotes.
func newVariable(s string) (part, error) {
	name, fallback, optional := strings.Cut(s, ",")
	if optional {
		fallback = strings.TrimSpace(fallback)
		if len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
			return part{}, malformed("The default of a variable must be in single quotes.")
		}
		fallback = fallback[1 : len(fallback)-1]
	}
	if name = strings.TrimSpace(name); name == "" {
		return part{}, malformed("A variable has no name.")
	}
	return part{text: fallback, variable: true, key: newKey(name), optional: optional}, nil
}

// noWildcards is for values that may not be UTF-8.
var noWildcards = strings.NewReplacer(anyRun, "\uFFFD", anyRune, "\uFFFD")

// expand gives the text for this request. Values of variables are taken as they are: they bring no wildcards. A
// variable without a value, or with several, makes the evaluation's variables unresolved.
func (t *template) expand(e *evaluation) (string, bool) {
	if t.parts == nil {
		return t.text, true
	}
	var b strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if !p.variable {
			b.WriteString(p.text)
			continue
		}
		values := p.key.appendValues(nil, e)
		switch {
		case len(values) == 1:
			b.WriteString(noWildcards.Replace(values[0]))
		case len(values) == 0 && p.optional:
			b.WriteString(p.text)
		default:
			e.unresolved = true
			return "", false
		}
	}
	return b.String(), true
}

func (t *template) match(e *evaluation, s string) bool {
	if t.parts == nil {
		return t.fixed.match(s)
	}
	text, ok := t.expand(e)
	if !ok {
		return false
	}
	p := newPattern(text)
	return p.match(s)
}
