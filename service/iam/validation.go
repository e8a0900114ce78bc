package iam

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// Limits of principals (AWS page "IAM and AWS STS quotas"; IAM API Reference, CreateUser,
// CreateRole, PutUserPolicy, Tag). White space in policies is not counted.
const (
	maxPath           = 512  // characters
	maxPolicies       = 20   // identity policies of one principal
	maxIdentityPolicy = 6144 // characters; also of a permissions boundary
	maxTrustPolicy    = 4096 // characters
	maxPrincipalTags  = 50
	maxTagKey         = 128 // characters
	maxTagValue       = 256 // characters
	maxAccessKeyDays  = 3650
)

// The patterns of IAM. Paths may have only the characters of names here, since others would be
// wildcards and separators in the ARNs of policies.
var (
	principalName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	principalPath = regexp.MustCompile(`^/([\w+=,.@-]+/)*$`)
	identityName  = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	tagCharacters = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// Problem is something in a principal that is not allowed.
type Problem struct {
	Field string // name, path, tags.KEY, policies.NAME, boundary, trust, max_session, access_key_days
	Text  string
}

// problems collects what is wrong with a principal.
type problems []Problem

func (all *problems) add(field, format string, args ...any) {
	*all = append(*all, Problem{field, fmt.Sprintf(format, args...)})
}

// Problems finds everything that is wrong with a principal before it is stored.
func (p *Principal) Problems() []Problem {
	var all problems
	if !arn.IsAccount(p.Account) {
		all.add("account", "%q is not 12 digits", p.Account)
	}
	if !principalName.MatchString(p.Name) {
		all.add("name", "%q is not 1 to 64 letters, digits and characters of _+=,.@-", p.Name)
	}
	if path := p.Path(); len(path) > maxPath || !principalPath.MatchString(path) {
		all.add("path", "%q must begin and end with /, have only letters, digits and characters of _+=,.@- between slashes, "+
			"and at most %d characters", path, maxPath)
	}
	all.ofTags(p.Tags)
	if len(p.Policies) > maxPolicies {
		all.add("policies", "%d are more than %d: combine their statements", len(p.Policies), maxPolicies)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Policies)) {
		field := "policies." + name
		if !identityName.MatchString(name) {
			all.add(field, "the name is not 1 to 128 letters, digits and characters of _+=,.@-")
		}
		all.ofPolicy(field, policy.IdentityPolicy, p.Policies[name], maxIdentityPolicy)
	}
	if p.Boundary != "" {
		all.ofPolicy("boundary", policy.IdentityPolicy, p.Boundary, maxIdentityPolicy)
	}
	all.ofRole(p)
	if p.AccessKeyDays < 0 || p.AccessKeyDays > maxAccessKeyDays {
		all.add("access_key_days", "%d is not 0 to %d days", p.AccessKeyDays, maxAccessKeyDays)
	} else if p.AccessKeyDays != 0 && p.Kind != KindUser {
		all.add("access_key_days", "only users have access keys")
	}
	return all
}

// CheckTags checks session tags, whose rules are those of principals' tags.
func CheckTags(tags map[string]string) error {
	var all problems
	all.ofTags(tags)
	var errs []error
	for _, problem := range all {
		errs = append(errs, fmt.Errorf("%s: %s", problem.Field, problem.Text))
	}
	return errors.Join(errs...)
}

func (all *problems) ofTags(tags map[string]string) {
	if len(tags) > maxPrincipalTags {
		all.add("tags", "%d are more than %d", len(tags), maxPrincipalTags)
	}
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		field, lower := "tags."+key, strings.ToLower(key)
		switch n := len([]rune(key)); {
		case n < 1 || n > maxTagKey || !tagCharacters.MatchString(key):
			all.add(field, "the key is not 1 to %d letters, digits, spaces and characters of _.:/=+-@", maxTagKey)
		case strings.HasPrefix(lower, "aws:"):
			all.add(field, "keys that begin with aws: are reserved")
		case seen[lower] != "":
			all.add(field, "the key differs only in case from %s, and conditions ignore case", seen[lower])
		}
		seen[lower] = key
		if n := len([]rune(tags[key])); n > maxTagValue || !tagCharacters.MatchString(tags[key]) {
			all.add(field, "the value is not up to %d letters, digits, spaces and characters of _.:/=+-@", maxTagValue)
		}
	}
}

func (all *problems) ofRole(p *Principal) {
	switch {
	case p.Kind == KindUser:
		if p.Trust != "" {
			all.add("trust", "only roles have a trust policy")
		}
		if p.MaxSession != 0 {
			all.add("max_session", "only roles have sessions")
		}
	case p.Trust == "":
		all.add("trust", "a role needs a trust policy, which says who may assume it")
	default:
		all.ofPolicy("trust", policy.TrustPolicy, p.Trust, maxTrustPolicy)
	}
	if p.MaxSession != 0 && (p.MaxSession < defaultSession || p.MaxSession > maxSession) {
		all.add("max_session", "%d is not %d to %d seconds", p.MaxSession, defaultSession, maxSession)
	}
}

func (all *problems) ofPolicy(field string, kind policy.Kind, text string, most int) {
	if _, err := policy.Parse(kind, text); err != nil {
		all.add(field, "%v", err)
		return
	}
	if n := len([]rune(strings.Join(strings.Fields(text), ""))); n > most {
		all.add(field, "the policy has %d characters; at most %d are allowed", n, most)
	}
}

// validated returns a principal as it is stored, with its defaults, or everything that is wrong
// with it.
func (p *Principal) validated() (*Principal, error) {
	var errs []error
	for _, problem := range p.Problems() {
		errs = append(errs, fmt.Errorf("%s %s: %s: %s", p.Kind, p.Name, problem.Field, problem.Text))
	}
	valid := *p
	if p.Kind == KindRole && p.MaxSession == 0 {
		valid.MaxSession = defaultSession
	}
	return &valid, errors.Join(errs...)
}
