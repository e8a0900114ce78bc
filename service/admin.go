package service

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/policy"
)

// The methods in this and the other files admin*.go are for whoever has the database: the commands. They are not in
// reach of the AWS API, and authorise nobody. Their errors are for that person, and carry the cure.

// Limits of principals (AWS page "IAM and AWS STS quotas"; IAM API Reference, CreateUser, CreateRole, PutUserPolicy, Tag).
// White space of policies is not counted.
const (
	maxPath           = 512  // characters
	maxPolicies       = 20   // identity policies of one principal
	maxIdentityPolicy = 6144 // characters; also of a permissions boundary
	maxTrustPolicy    = 4096 // characters
	maxPrincipalTags  = 50
	maxTagKey         = 128 // characters
	maxTagValue       = 256 // characters
)

// The patterns of IAM. Paths are narrower: they have the characters that names have, since others would be wildcards and
// separators in the ARNs that policies name.
var (
	principalName = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	principalPath = regexp.MustCompile(`^/([\w+=,.@-]+/)*$`)
	identityName  = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)
	tagCharacters = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

// PrincipalARN is the ARN of a user or role. A path begins and ends with a slash.
func PrincipalARN(account string, kind PrincipalKind, path, name string) string {
	return "arn:aws:iam::" + account + ":" + string(kind) + path + name
}

// kindOf is the kind of principal that an ARN is of; an account's root is taken for a user.
func kindOf(principal string) PrincipalKind {
	if strings.Contains(principal, ":role/") {
		return KindRole
	}
	return KindUser
}

// Path is the part of the ARN before the name, with slashes around it.
func (p *Principal) Path() string {
	path := strings.TrimPrefix(p.ARN, PrincipalARN(p.Account, p.Kind, "", ""))
	return strings.TrimSuffix(path, p.Name)
}

// Problem is something in a principal that can't be.
type Problem struct {
	Field string // name, path, tags.KEY, policies.NAME, boundary, trust, max_session
	Text  string
}

// Problems finds all that is wrong with a principal before it is stored.
func (p *Principal) Problems() (all []Problem) {
	complain := func(field, format string, args ...any) {
		all = append(all, Problem{field, fmt.Sprintf(format, args...)})
	}
	if !arn.IsAccount(p.Account) {
		complain("account", "%q is not 12 digits", p.Account)
	}
	if !principalName.MatchString(p.Name) {
		complain("name", "%q is not 1 to 64 letters, digits and characters of _+=,.@-", p.Name)
	}
	if path := p.Path(); len(path) > maxPath || !principalPath.MatchString(path) {
		complain("path", "%q does not begin and end with / and have letters, digits and characters of _+=,.@- between, %d characters in all", path, maxPath)
	}
	p.tagProblems(complain)
	if len(p.Policies) > maxPolicies {
		complain("policies", "%d are more than %d: put statements into one policy", len(p.Policies), maxPolicies)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Policies)) {
		field := "policies." + name
		if !identityName.MatchString(name) {
			complain(field, "the name is not 1 to 128 letters, digits and characters of _+=,.@-")
		}
		policyProblem(complain, field, policy.IdentityPolicy, p.Policies[name], maxIdentityPolicy)
	}
	if p.Boundary != "" {
		policyProblem(complain, "boundary", policy.IdentityPolicy, p.Boundary, maxIdentityPolicy)
	}
	p.roleProblems(complain)
	return all
}

func (p *Principal) tagProblems(complain func(string, string, ...any)) {
	if len(p.Tags) > maxPrincipalTags {
		complain("tags", "%d are more than %d", len(p.Tags), maxPrincipalTags)
	}
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(p.Tags)) {
		field, folded := "tags."+key, strings.ToLower(key)
		switch n := len([]rune(key)); {
		case n < 1 || n > maxTagKey || !tagCharacters.MatchString(key):
			complain(field, "the key is not 1 to %d letters, digits, spaces and characters of _.:/=+-@", maxTagKey)
		case strings.HasPrefix(folded, "aws:"):
			complain(field, "keys that begin with aws: are reserved")
		case seen[folded] != "":
			complain(field, "the key differs from %s in case only, which conditions do not see", seen[folded])
		}
		seen[folded] = key
		if n := len([]rune(p.Tags[key])); n > maxTagValue || !tagCharacters.MatchString(p.Tags[key]) {
			complain(field, "the value is not up to %d letters, digits, spaces and characters of _.:/=+-@", maxTagValue)
		}
	}
}

func (p *Principal) roleProblems(complain func(string, string, ...any)) {
	switch {
	case p.Kind == KindUser:
		if p.Trust != "" {
			complain("trust", "only roles have a trust policy")
		}
		if p.MaxSession != 0 {
			complain("max_session", "only roles have sessions")
		}
	case p.Trust == "":
		complain("trust", "a role needs a trust policy, which says who may assume it")
	default:
		policyProblem(complain, "trust", policy.TrustPolicy, p.Trust, maxTrustPolicy)
	}
	if p.MaxSession != 0 && (p.MaxSession < defaultSession || p.MaxSession > maxSession) {
		complain("max_session", "%d is not %d to %d seconds", p.MaxSession, defaultSession, maxSession)
	}
}

func policyProblem(complain func(string, string, ...any), field string, kind policy.Kind, text string, most int) {
	if _, err := policy.Parse(kind, text); err != nil {
		complain(field, "%v", err)
		return
	}
	if n := len([]rune(strings.Join(strings.Fields(text), ""))); n > most {
		complain(field, "the policy has %d characters; %d are the most that it can have", n, most)
	}
}

// settle makes what is to be stored of what is asked for, or says all that is wrong with it.
func (p *Principal) settle() (*Principal, error) {
	var errs []error
	for _, problem := range p.Problems() {
		errs = append(errs, fmt.Errorf("%s %s: %s: %s", p.Kind, p.Name, problem.Field, problem.Text))
	}
	settled := *p
	if p.Kind == KindRole && p.MaxSession == 0 {
		settled.MaxSession = defaultSession
	}
	return &settled, errors.Join(errs...)
}

// Principals returns all users and roles, in order of their ARNs. They are shared: they must not be modified.
func (s *Service) Principals(ctx context.Context) ([]*Principal, error) {
	all, err := s.store.Principals(ctx)
	if err != nil {
		return nil, fmt.Errorf("list principals: %w", err)
	}
	return all, nil
}

// FindPrincipal returns the user or role of a name, which no other has in its account.
func (s *Service) FindPrincipal(ctx context.Context, account string, kind PrincipalKind, name string) (*Principal, error) {
	all, err := s.Principals(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.Account == account && p.Kind == kind && p.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no %s %s in account %s (verenc %s list shows all; --account names another account)", kind, name, account, kind)
}

// CreatePrincipal adds a user or a role. Names that differ in case only are the same (IAM API Reference, CreateUser).
func (s *Service) CreatePrincipal(ctx context.Context, p *Principal) (*Principal, error) {
	settled, err := p.settle()
	if err != nil {
		return nil, err
	}
	all, err := s.Principals(ctx)
	if err != nil {
		return nil, err
	}
	if old := namesakes(all)[p.name()]; old != nil {
		return nil, fmt.Errorf("%s %s is there already, as %s: verenc apply changes it", p.Kind, p.Name, old.ARN)
	}
	return settled, s.records.Command(ctx, "Create"+p.Kind.title(), aboutPrincipal(p.ARN), settled.parameters(), func(ctx context.Context) error {
		return s.insertPrincipal(ctx, settled)
	})
}

// nameOf is what must be unique of a principal.
type nameOf struct {
	account string
	kind    PrincipalKind
	folded  string
}

func (p *Principal) name() nameOf { return nameOf{p.Account, p.Kind, strings.ToLower(p.Name)} }

func namesakes(all []*Principal) map[nameOf]*Principal {
	byName := make(map[nameOf]*Principal, len(all))
	for _, p := range all {
		byName[p.name()] = p
	}
	return byName
}

func (s *Service) insertPrincipal(ctx context.Context, p *Principal) error {
	var random [10]byte
	if _, err := io.ReadFull(s.cfg.Rand, random[:]); err != nil {
		return fmt.Errorf("draw an id for %s: %w", p.ARN, err)
	}
	prefix := "AIDA"
	if p.Kind == KindRole {
		prefix = "AROA"
	}
	p.UniqueID, p.CreatedAt = prefix+base32.StdEncoding.EncodeToString(random[:]), s.now()
	return s.putPrincipal(ctx, p)
}

// UpdatePrincipal replaces what there is of a user or a role, but for its ARN and unique id.
func (s *Service) UpdatePrincipal(ctx context.Context, p *Principal) error {
	settled, err := p.settle()
	if err != nil {
		return err
	}
	old, err := s.store.Principal(ctx, p.ARN)
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("there is no %s any more: it was removed meanwhile", p.ARN)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", p.ARN, err)
	}
	settled.UniqueID, settled.CreatedAt = old.UniqueID, old.CreatedAt
	return s.records.Command(ctx, "Update"+p.Kind.title(), aboutPrincipal(p.ARN), settled.parameters(), func(ctx context.Context) error {
		return s.putPrincipal(ctx, settled)
	})
}

// title is the kind as names of IAM's operations have it.
func (k PrincipalKind) title() string {
	if k == KindRole {
		return "Role"
	}
	return "User"
}

// parameters are what a record has of a principal: all that was asked for, under IAM's names.
func (p *Principal) parameters() audit.Object {
	o := audit.Object{{Name: "path", Value: p.Path()}}
	add := func(name string, value any, given bool) {
		if given {
			o = append(o, audit.Member{Name: name, Value: value})
		}
	}
	add("tags", p.Tags, len(p.Tags) > 0)
	add("policies", p.Policies, len(p.Policies) > 0)
	add("permissionsBoundary", p.Boundary, p.Boundary != "")
	add("assumeRolePolicyDocument", p.Trust, p.Trust != "")
	add("maxSessionDuration", p.MaxSession, p.MaxSession != 0)
	return o
}

// aboutPrincipal is the resource of a record about a user or a role.
func aboutPrincipal(principal string) []audit.Resource {
	return []audit.Resource{{ARN: principal, AccountID: arn.AccountOf(principal), Type: "AWS::IAM::" + kindOf(principal).title()}}
}

func (s *Service) putPrincipal(ctx context.Context, p *Principal) error {
	if err := s.store.PutPrincipal(ctx, p); err != nil {
		return fmt.Errorf("store %s: %w", p.ARN, err)
	}
	return nil
}

// DeletePrincipal removes a user or a role, with its access keys and certificates.
func (s *Service) DeletePrincipal(ctx context.Context, principal string) error {
	err := s.records.Command(ctx, "Delete"+kindOf(principal).title(), aboutPrincipal(principal), nil, func(ctx context.Context) error {
		return s.store.RemovePrincipal(ctx, principal)
	})
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("there is no %s (verenc user list and verenc role list show all)", principal)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", principal, err)
	}
	return nil
}

// differences names the fields in which two principals of one ARN differ. Policies that differ in their writing only are
// the same.
func (p *Principal) differences(o *Principal) (fields []string) {
	add := func(field string, same bool) {
		if !same {
			fields = append(fields, field)
		}
	}
	add("tags", maps.Equal(p.Tags, o.Tags))
	names := maps.Clone(p.Policies)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, o.Policies)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add("policies."+name, sameJSON(p.Policies[name], o.Policies[name]))
	}
	add("boundary", sameJSON(p.Boundary, o.Boundary))
	add("trust", sameJSON(p.Trust, o.Trust))
	add("max_session", p.MaxSession == o.MaxSession)
	return fields
}

func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	valueOf := func(text string) (v any, err error) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		err = d.Decode(&v)
		return v, err
	}
	x, errX := valueOf(a)
	y, errY := valueOf(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}
