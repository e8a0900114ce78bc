package policy

import (
	"slices"
	"strings"
)

// Condition keys of this service's own, besides Approvals and ApprovedBy, in lower case: when the credential of a
// request expires, and how many days old it is.
const (
	CredentialExpires = "verenc:credentialexpires"
	CredentialAge     = "verenc:credentialage"
)

// ownPrefix is what the condition keys and the actions of this service's own begin with.
const ownPrefix = "verenc:"

// ownKeys are all condition keys that begin with ownPrefix, as documents should have them.
var ownKeys = []string{"verenc:Approvals", "verenc:ApprovedBy", "verenc:CredentialAge", "verenc:CredentialExpires"}

// UnknownKeys returns the condition keys that begin with verenc: and that no request ever has, in lower case.
func (d *Document) UnknownKeys() (names []string) {
	for i := range d.statements {
		for _, c := range d.statements[i].conditions {
			name := c.key.name
			is := func(known string) bool { return strings.EqualFold(known, name) }
			if strings.HasPrefix(name, ownPrefix) && !slices.ContainsFunc(ownKeys, is) {
				names = append(names, name)
			}
		}
	}
	return names
}

// CheckNames returns an error for the first name that no request can have: a condition key that begins with verenc:, or
// an action that begins like one of the given ones, and matches none of them. A policy may have such names, as in AWS;
// where one means to forbid something, they are mistakes.
func (d *Document) CheckNames(actions []string) error {
	for _, name := range d.UnknownKeys() {
		return malformed("There is no condition key %s; the nearest is %s.", name, nearest(name, ownKeys))
	}
	for i := range d.statements {
		for _, p := range d.statements[i].actions {
			name := p.text()
			service, _, _ := strings.Cut(name, ":")
			var others []string // of the same service
			for _, action := range actions {
				if strings.HasPrefix(action, service+":") {
					others = append(others, action)
				}
			}
			matches := func(action string) bool { return p.match(strings.ToLower(action)) }
			if len(others) > 0 && !slices.ContainsFunc(others, matches) {
				return malformed("Statement %d: no action is named %s; the nearest is %s.", i+1, name,
					nearest(name, others))
			}
		}
	}
	return nil
}

// text is the pattern as its document has it, in lower case.
func (p *pattern) text() string {
	return strings.ReplaceAll(strings.Join(p.segments, "*"), anyRune, "?")
}

// nearest returns the name that differs the least from a name in lower case.
func nearest(name string, names []string) string {
	return slices.MinFunc(names, func(a, b string) int {
		return distance(name, strings.ToLower(a)) - distance(name, strings.ToLower(b))
	})
}

// distance is the number of bytes that have to be inserted, removed or replaced to make b of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
