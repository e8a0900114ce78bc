package policy

import "strings"

// An ARN has six fields, arn:partition:service:region:account:resource, or, in the product's own form, four:
// arn:verenc:account:resource. The last one has all further colons.
const (
	arnFields    = 6
	verencFields = 4
)

type arnParts struct {
	fields [arnFields]string
	n      int // fields in use
}

// splitARN cuts s at its colons. What is not an ARN has other fields than any ARN pattern asks for.
func splitARN(s string) (a arnParts) {
	limit := arnFields
	for a.n < limit-1 {
		field, rest, more := strings.Cut(s, ":")
		if !more {
			break
		}
		a.fields[a.n], s = field, rest
		a.n++
		if a.n == 2 && field == "verenc" {
			limit = verencFields
		}
	}
	a.fields[a.n] = s
	a.n++
	return a
}

// arnPattern matches ARNs field by field, so that a wildcard does not reach over a colon but in the last field (AWS
// pages "IAM JSON policy elements: Resource" and "... Condition operators", ARN).
type arnPattern struct {
	any    bool // "*"
	fields []template
}

// arnPattern compiles s: "*" or the pattern of an ARN of either form.
func (c *compiler) arnPattern(s string) (p arnPattern, err error) {
	if s == "*" {
		return arnPattern{any: true}, nil
	}
	fields := c.splitPattern(s)
	for _, field := range fields {
		t, err := c.template(field, true)
		if err != nil {
			return p, err
		}
		p.fields = append(p.fields, t)
	}
	if fields[0] != "arn" || len(fields) != arnFields && (len(fields) != verencFields || fields[1] != "verenc") {
		return p, malformed(`A value must be in ARN format or "*".`)
	}
	return p, nil
}

// splitPattern is splitARN for patterns: colons inside a variable do not count.
func (c *compiler) splitPattern(s string) (fields []string) {
	limit, start := arnFields, 0
	for i := 0; i < len(s) && len(fields) < limit-1; i++ {
		if c.variables && strings.HasPrefix(s[i:], "${") {
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				break
			}
			i += end
			continue
		}
		if s[i] == ':' {
			fields = append(fields, s[start:i])
			start = i + 1
			if len(fields) == 2 && fields[1] == "verenc" {
				limit = verencFields
			}
		}
	}
	return append(fields, s[start:])
}

func (p *arnPattern) match(e *evaluation, a *arnParts) bool {
	if p.any {
		return true
	}
	if len(p.fields) != a.n {
		return false
	}
	// From the last, where patterns differ most.
	for i := a.n - 1; i >= 0; i-- {
		if !p.fields[i].match(e, a.fields[i]) {
			return false
		}
	}
	return true
}
