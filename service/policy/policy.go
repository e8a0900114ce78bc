// Package policy parses and evaluates the policies that decide who may use a key: key policies, identity policies,
// permissions boundaries, session policies (all in the IAM JSON policy language) and grants.
//
// It protects keys from callers whom no policy allows, and callers' permissions from hostile policy
// texts. An explicit Deny anywhere wins; the key policy is the root of trust; what is not allowed
// is denied. Where AWS leaves a case open, this package denies.
//
// It trusts the Request and the Policies that it is given, which must be those of the caller and
// the key. It trusts no policy text. It is pure: no input or output, no clock, no state between
// calls. A *Document is immutable and may be shared by goroutines.
//
// Sources are pages of AWS's IAM User Guide and AWS KMS Developer Guide. Comments quote their
// titles.
package policy

import (
	"fmt"
	"unicode/utf8"
)

// Kind says what a policy is attached to.
type Kind int

const (
	// KeyPolicy is the policy of a key: every statement has a Principal or NotPrincipal.
	KeyPolicy Kind = iota
	// IdentityPolicy is the policy of a user or role, a permissions boundary or a session policy: no statement has a
	// Principal.
	IdentityPolicy
	// TrustPolicy is the policy of a role, which says who may assume it: every statement has a
	// Principal, none a Resource.
	TrustPolicy
)

// MaxSize is the largest size of a policy in bytes (AWS page "Resource quotas": key policy document
// size, 32 KB). It also limits the number of statements. IAM's own limits for identity policies are
// smaller.
const MaxSize = 32768

// The versions of the policy language (AWS page "IAM JSON policy elements: Version"). Only the
// later one, which is not the default, has variables.
const (
	version2008 = "2008-10-17"
	version2012 = "2012-10-17"
)

// Document is a parsed policy.
type Document struct {
	statements []statement
	// The statements by effect, for evaluation: pointers into statements, in their order.
	deny, allow []*statement
}

// Parse compiles a policy. The error's text is short, names the element that is wrong, and can be
// shown to the policy's author in a MalformedPolicyDocumentException.
func Parse(kind Kind, text string) (*Document, error) {
	if len(text) > MaxSize {
		return nil, malformed("The policy has %d bytes; %d are the most that it can have.", len(text), MaxSize)
	}
	if !utf8.ValidString(text) {
		return nil, malformed("The policy is not valid UTF-8.")
	}
	root, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	elements, err := root.object("The policy", "Version", "Id", "Statement")
	if err != nil {
		return nil, err
	}
	c := compiler{kind: kind}
	if version := elements["Version"]; version != nil {
		switch {
		case version.kind == jsonString && version.text == version2012:
			c.variables = true
		case version.kind != jsonString || version.text != version2008:
			return nil, malformed("Version must be %s or %s.", version2012, version2008)
		}
	}
	if id := elements["Id"]; id != nil && id.kind != jsonString {
		return nil, malformed("Id must be a string.")
	}
	list := elements["Statement"]
	if list == nil {
		return nil, malformed("The policy has no Statement.")
	}
	statements, err := list.list("Statement", jsonObject)
	if err != nil {
		return nil, err
	}
	d := &Document{statements: make([]statement, len(statements))}
	sids := make(map[string]bool)
	for i := range statements {
		s := &d.statements[i]
		if *s, err = c.statement(&statements[i]); err == ErrInvalidPrincipals || err == errNoPrincipal {
			return nil, err // AWS's message, which names no statement
		} else if err != nil {
			return nil, malformed("Statement %d: %w", i+1, err)
		}
		s.index = i
		if kind == IdentityPolicy && s.sid != "" && sids[s.sid] {
			return nil, malformed("Statement %d: the Sid is that of an earlier statement.", i+1)
		}
		sids[s.sid] = true
		if s.allow {
			d.allow = append(d.allow, s)
		} else {
			d.deny = append(d.deny, s)
		}
	}
	return d, nil
}

// Principals returns the ARNs of users, roles and sessions that the statements name as Principal or
// NotPrincipal.
func (d *Document) Principals() (arns []string) {
	for i := range d.statements {
		if p := d.statements[i].principals; p != nil {
			arns = append(arns, p.arns...)
		}
	}
	return arns
}

// malformed returns an error for a policy's author. Its text is a sentence.
func malformed(format string, args ...any) error { return fmt.Errorf(format, args...) }
