package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/policy"
)

// What a report calls too long.
const (
	staleRotation  = 365 * day // since a key's material was made
	staleKey       = 90 * day  // without use
	staleAccessKey = 365 * day // since an access key was made
)

// KeyReport is an auditor's summary of an account's keys in a region.
type KeyReport struct {
	Account    string
	Region     string
	Time       time.Time
	Findings   []ReportFinding // the gravest first
	Keys       []KeySummary    // in order of id
	AccessKeys []AccessKeySummary
}

// Severity of a finding.
type Severity string

// The severities, the gravest first.
const (
	High   Severity = "high"
	Medium Severity = "medium"
	Low    Severity = "low"
)

var severities = []Severity{High, Medium, Low}

// ReportFinding is something that an auditor would ask about.
type ReportFinding struct {
	Severity Severity
	About    string // a key's id, an access key's id or a principal's ARN
	Text     string
}

// KeySummary is one key.
type KeySummary struct {
	ID          string
	ARN         string
	Aliases     []string
	Description string
	State       KeyState
	Spec        string
	Usage       string
	Origin      string
	CreatedAt   time.Time
	DeletionAt  time.Time `json:",omitzero"`
	Rotation    RotationSummary
	LastUse     *UseSummary // nil when it was never used
	Access      KeyAccess
}

// RotationSummary tells how old a key's material is.
type RotationSummary struct {
	PeriodDays int32     // of automatic rotation; 0 when it is off
	NextAt     time.Time `json:",omitzero"`
	LastAt     time.Time `json:",omitzero"` // zero when it never rotated
	AgeDays    int       // of the current material; -1 when there is none
}

// UseSummary is the last successful cryptographic operation.
type UseSummary struct {
	Operation string
	At        time.Time
	EventID   string // of its audit record
}

// KeyAccess tells who may use a key.
type KeyAccess struct {
	Statements []StatementSummary // of the key policy
	// IdentityPolicies tells whether the key policy lets the account's identity policies allow.
	IdentityPolicies bool
	// Principals are the users and roles of this service that may do something with the key, all policies and grants taken
	// together, when they give no encryption context and meet no other condition.
	Principals []PrincipalAccess
	Grants     []GrantSummary
}

// StatementSummary is a statement of a key policy.
type StatementSummary struct {
	Sid         string `json:",omitempty"`
	Effect      string
	Principals  []string // "not X" for a NotPrincipal
	Actions     []string // "not X" for a NotAction
	Conditional bool     // it has a Condition
}

// PrincipalAccess is what a principal may do.
type PrincipalAccess struct {
	ARN        string
	Everything bool     // every permission that is had on a key
	Operations []string // permissions without kms:
}

// GrantSummary is a grant.
type GrantSummary struct {
	ID          string
	Name        string `json:",omitempty"`
	Grantee     string
	Operations  []string
	Constrained bool // by an encryption context or a source
	CreatedAt   time.Time
}

// AccessKeySummary is an access key of a principal of the account.
type AccessKeySummary struct {
	ID        string
	Principal string
	Enabled   bool
	CreatedAt time.Time
	LastUsed  time.Time `json:",omitzero"` // zero when it never signed a request
}

// Report looks at every key, principal and access key of an account. It is for whoever administers the service: no policy is
// asked whether it may. Its time grows with keys times principals.
func (s *Service) Report(ctx context.Context, account, region string) (*KeyReport, error) {
	r := &reporter{s, &KeyReport{Account: account, Region: region, Time: s.now().UTC().Truncate(time.Second)}, nil}
	if err := r.principals(ctx); err != nil {
		return nil, fmt.Errorf("report on principals: %w", err)
	}
	for after := ""; ; {
		keys, err := s.store.Keys(ctx, account, region, after, reconcileMany)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		for _, k := range keys {
			if err := r.key(ctx, k); err != nil {
				return nil, fmt.Errorf("report on key %s: %w", k.ID, err)
			}
			after = k.ID
		}
		if len(keys) < reconcileMany {
			break
		}
	}
	slices.SortStableFunc(r.out.Findings, func(a, b ReportFinding) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
	return r.out, nil
}

// reporter gathers a report.
type reporter struct {
	s     *Service
	out   *KeyReport
	known []*iam.Principal // of the account
}

func (r *reporter) find(severity Severity, about, format string, args ...any) {
	r.out.Findings = append(r.out.Findings, ReportFinding{severity, about, fmt.Sprintf(format, args...)})
}

// days is a time's age.
func (r *reporter) days(t time.Time) int { return int(r.out.Time.Sub(t) / day) }

func (r *reporter) principals(ctx context.Context) error {
	all, err := r.s.store.Principals(ctx)
	if err != nil {
		return err
	}
	arns := []string{arn.Root(r.out.Account)}
	for _, p := range all {
		if p.Account == r.out.Account {
			r.known = append(r.known, p)
			arns = append(arns, p.ARN)
		}
	}
	for _, principal := range arns {
		keys, err := r.s.store.AccessKeys(ctx, principal)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := r.accessKey(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reporter) accessKey(ctx context.Context, k *iam.AccessKey) error {
	summary := AccessKeySummary{ID: k.ID, Principal: k.PrincipalARN, Enabled: k.Enabled, CreatedAt: k.CreatedAt.UTC()}
	u, err := r.s.store.LastAccessKeyUse(ctx, k.ID)
	switch {
	case err == nil:
		summary.LastUsed = u.At.UTC()
	case !errors.Is(err, ErrNoRow):
		return err
	}
	r.out.AccessKeys = append(r.out.AccessKeys, summary)
	switch root := k.PrincipalARN == arn.Root(k.Account); {
	case !k.Enabled:
		r.find(Low, k.ID, "access key of %s is disabled: remove it when nobody needs it back", k.PrincipalARN)
		return nil
	case root:
		r.find(Medium, k.ID, "access key of the account's root principal is enabled: nothing limits what it may do but key policies")
	}
	if age := r.out.Time.Sub(k.CreatedAt); age > staleAccessKey {
		r.find(Medium, k.ID, "access key of %s is %d days old: replace it", k.PrincipalARN, r.days(k.CreatedAt))
	}
	return nil
}

func (r *reporter) key(ctx context.Context, k *Key) error {
	summary := KeySummary{ID: k.ID, ARN: k.ARN(r.s.canonical), Description: k.Description, State: k.State, Spec: k.Spec, Usage: k.Usage, Origin: k.Origin,
		CreatedAt: k.CreatedAt.UTC(), DeletionAt: k.DeletionAt.UTC(), Rotation: r.rotation(k)}
	aliases, err := r.s.store.Aliases(ctx, k.Account, k.Region, k.ID, "", maxAliases)
	if err != nil {
		return err
	}
	for _, a := range aliases {
		summary.Aliases = append(summary.Aliases, a.Name)
	}
	use, err := r.s.lastUse(ctx, k)
	if err != nil {
		return err
	}
	if use != nil {
		summary.LastUse = &UseSummary{use.Operation, use.At.UTC(), use.EventID}
	}
	if summary.Access, err = r.access(ctx, k); err != nil {
		return err
	}
	r.out.Keys = append(r.out.Keys, summary)
	r.judgeKey(&summary)
	return nil
}

func (r *reporter) rotation(k *Key) RotationSummary {
	summary := RotationSummary{PeriodDays: k.Rotation.PeriodDays, NextAt: k.Rotation.NextAt.UTC(), AgeDays: -1}
	if m := k.current(); m != nil && m.present() {
		summary.AgeDays, summary.LastAt = r.days(m.CreatedAt), m.RotatedAt.UTC()
	}
	return summary
}

// judgeKey finds what is odd in a key itself.
func (r *reporter) judgeKey(k *KeySummary) {
	age := r.out.Time.Sub(k.CreatedAt)
	switch {
	case k.State == StatePendingDeletion:
		r.find(High, k.ID, "will be destroyed at %s", k.DeletionAt.Format(time.RFC3339))
	case k.State == StateDisabled:
		r.find(Low, k.ID, "is disabled")
	case k.State == StateEnabled && k.Rotation.AgeDays > int(staleRotation/day):
		r.find(Medium, k.ID, "key material is %d days old, and automatic rotation is %s", k.Rotation.AgeDays, onOff(k.Rotation.PeriodDays > 0))
	case k.State == StateEnabled && k.Spec == specSymmetric && k.Origin == originKMS && k.Rotation.PeriodDays == 0:
		r.find(Low, k.ID, "automatic rotation is off")
	}
	switch {
	case k.LastUse == nil && age > staleKey:
		r.find(Low, k.ID, "was never used since it was made %d days ago", r.days(k.CreatedAt))
	case k.LastUse != nil && r.out.Time.Sub(k.LastUse.At) > staleKey:
		r.find(Low, k.ID, "was last used %d days ago", r.days(k.LastUse.At))
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (r *reporter) access(ctx context.Context, k *Key) (KeyAccess, error) {
	a := KeyAccess{}
	var err error
	if a.Statements, err = statementsOf(k.Policy); err != nil {
		return a, err
	}
	d, err := r.s.iam.ParsedPolicy(policy.KeyPolicy, k.Policy)
	if err != nil {
		return a, err
	}
	r.judgeStatements(k, a.Statements)
	for _, principal := range d.Principals() {
		if gone, err := r.s.iam.IsMissing(ctx, k.Account, principal); err != nil {
			return a, err
		} else if gone {
			r.find(Medium, k.ID, "the key policy names %s, who is not there: remove the name, or another of this name gets its rights", principal)
		}
	}
	a.IdentityPolicies = delegates(d, k)
	for _, p := range r.known {
		operations, err := r.operations(ctx, k, p)
		if err != nil {
			return a, err
		}
		if len(operations) > 0 {
			a.Principals = append(a.Principals, PrincipalAccess{p.ARN, len(operations) == len(keyPermissions), operations})
		}
	}
	grants, err := r.s.store.GrantsOf(ctx, k.Region, k.ID)
	for _, g := range grants {
		a.Grants = append(a.Grants, GrantSummary{ID: g.ID, Name: g.Name, Grantee: g.Grantee, Operations: g.Operations,
			Constrained: len(g.Equals)+len(g.Subset) > 0 || g.SourceARN != "", CreatedAt: g.CreatedAt.UTC()})
		for _, principal := range []string{g.Grantee, g.Retiring} {
			if gone, err := r.s.iam.IsMissing(ctx, k.Account, principal); err != nil {
				return a, err
			} else if gone {
				r.find(Medium, k.ID, "a grant names %s, who is not there: revoke grant %s, or another of this name gets its rights", principal, g.ID)
			}
		}
		if account := arn.AccountOf(g.Grantee); account != "" && account != k.Account {
			r.find(Low, k.ID, "a grant lets %s in, of another account", g.Grantee)
		}
	}
	return a, err
}

// judgeStatements finds who is let in from outside.
func (r *reporter) judgeStatements(k *Key, statements []StatementSummary) {
	for _, s := range statements {
		if s.Effect != "Allow" {
			continue
		}
		for _, p := range s.Principals {
			account := arn.AccountOf(p)
			if arn.IsAccount(p) {
				account = p
			}
			switch everyone := p == "*" || strings.HasPrefix(p, notPrefix); {
			case everyone && !s.Conditional:
				r.find(High, k.ID, "the key policy lets everyone do %s", strings.Join(s.Actions, ", "))
			case everyone:
				r.find(Medium, k.ID, "the key policy lets everyone do %s, under a condition", strings.Join(s.Actions, ", "))
			case account != "" && account != k.Account:
				r.find(Low, k.ID, "the key policy lets %s in, of another account", p)
			}
		}
	}
}

// delegates tells whether a key policy lets an identity policy allow something, without conditions: it is tried with a user
// whom nothing names.
func delegates(d *policy.Document, k *Key) bool {
	all, err := policy.Parse(policy.IdentityPolicy, `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)
	if err != nil {
		return false
	}
	nobody := &policy.Principal{Type: policy.User, ARN: "arn:aws:iam::" + k.Account + ":user/-", Account: k.Account}
	for _, op := range keyPermissions {
		r := &policy.Request{Action: "kms:" + op, CrossAccount: allowsOtherAccounts("kms:" + op), ResourceAccount: k.Account,
			Resources: []string{k.ARN(arn.Verenc.Form()), k.ARN(arn.AWS.Form())}, Principal: nobody}
		if policy.Evaluate(&policy.Policies{Key: d, Identity: []*policy.Document{all}}, r).Allowed && !policy.Evaluate(&policy.Policies{Key: d}, r).Allowed {
			return true
		}
	}
	return false
}

// operations asks for each permission whether a principal has it.
func (r *reporter) operations(ctx context.Context, k *Key, p *iam.Principal) (allowed []string, err error) {
	c := &Caller{Identity: iam.Identity{Principal: p.ARN, Account: p.Account}, Region: k.Region}
	if p.Kind == iam.KindRole {
		c.Session = &iam.Session{RoleARN: p.ARN, Name: "report", IssuedAt: r.out.Time}
		c.Principal = iam.SessionARN(p.ARN, c.Session.Name)
	}
	for _, op := range keyPermissions {
		o := permissionOwners["kms:"+op]
		a := r.s.keyAccess(ctx, keyRequest{
			operation:   o.Name,
			permission:  "kms:" + op,
			policyInput: policyInput{conditions: o.emptyConditions()},
		}, k)
		d, _, err := r.s.evaluate(ctx, c, a, policy.Evaluate)
		if err != nil {
			return nil, err
		}
		if d.Allowed {
			allowed = append(allowed, op)
		}
	}
	return allowed, nil
}
