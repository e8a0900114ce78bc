package policy

import "strings"

// template is a text of a policy that may contain wildcards and variables (AWS page "IAM policy
// elements: Variables and tags").
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

// template compiles s. Wildcards have a meaning only if wild is set; ${*}, ${?} and ${$} are always
// literal.
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
	t := template{text: literal.String()}
	if parts == nil {
		t.fixed = newPattern(t.text)
	} else {
		t = template{parts: append(parts, part{text: t.text})}
	}
	return t, c.checkCost(&t)
}

// maxSearch limits how many bytes of a document may be in texts between two * that contain a ?.
// Searching for one takes time proportional to its length times that of the value, up to 8 KiB;
// everything else in a pattern is linear.
const maxSearch = 1024

func (c *compiler) checkCost(t *template) error {
	const variable = "\xfd" // stands for a variable; not UTF-8
	text := t.text
	for i := range t.parts {
		if t.parts[i].variable {
			text += variable
		} else {
			text += t.parts[i].text
		}
	}
	segments := strings.Split(text, anyRun)
	for i, segment := range segments {
		if i == 0 || i == len(segments)-1 || !strings.Contains(segment, anyRune) {
			continue
		}
		c.search += len(segment)
		if c.search > maxSearch || strings.Contains(segment, variable) {
			return malformed("A text between two * has a ? and is too long, or has a variable.")
		}
	}
	return nil
}

// newVariable parses what is between the braces: a key, or a key, a comma and a default in single
// quotes.
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

// expand returns the text for this request. The values of variables are literal and bring no
// wildcards. A variable without a value, or with several, makes the variables of the evaluation
// unresolved.
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
