package policy

import "strings"

// An ARN has six fields, arn:partition:service:region:account:resource, or, in the product's own
// form, four: arn:verenc:account:resource. The last field contains all further colons.
const (
	arnFields    = 6
	verencFields = 4
)

// splitARN splits s at its colons, except those inside a variable if s may have variables.
func splitARN(s string, variables bool) []string {
	fields := make([]string, 0, arnFields)
	limit, start := arnFields, 0
	for i := 0; i < len(s) && len(fields) < limit-1; i++ {
		if variables && strings.HasPrefix(s[i:], "${") {
			end := strings.IndexByte(s[i:], '}')
			if end < 0 {
				break
			}
			i += end
		} else if s[i] == ':' {
			fields = append(fields, s[start:i])
			start = i + 1
			if len(fields) == 2 && fields[1] == "verenc" {
				limit = verencFields
			}
		}
	}
	return append(fields, s[start:])
}

// missingFields returns how many fields an incomplete ARN lacks.
func missingFields(fields []string) int {
	if len(fields) > 1 && fields[1] == "verenc" {
		return verencFields - len(fields)
	}
	return arnFields - len(fields)
}

// arnPattern matches ARNs field by field: only in the last field can a wildcard match a colon (AWS
// page "IAM JSON policy elements: Condition operators", ARN).
type arnPattern struct {
	any    bool // "*"
	fields []template
}

// arnPattern compiles s: "*" or the pattern of an ARN of either form.
func (c *compiler) arnPattern(s string) (p arnPattern, err error) {
	if s == "*" {
		return arnPattern{any: true}, nil
	}
	fields := splitARN(s, c.variables)
	for _, field := range fields {
		t, err := c.template(field, true)
		if err != nil {
			return p, err
		}
		p.fields = append(p.fields, t)
	}
	if fields[0] != "arn" || missingFields(fields) != 0 {
		return p, malformed(`A value must be in ARN format or "*".`)
	}
	return p, nil
}

func (p *arnPattern) match(e *evaluation, fields []string) bool {
	if p.any {
		return true
	}
	if len(p.fields) != len(fields) {
		return false
	}
	for i := range fields {
		if !p.fields[i].match(e, fields[i]) {
			return false
		}
	}
	return true
}
