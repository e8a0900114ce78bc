package evidence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/approval"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/iam/breakglass"
	"github.com/verenc/kms/service/policy"
)

// What a report calls too long.
const (
	day            = 24 * time.Hour
	staleRotation  = 365 * day // since a key's material was made
	staleKey       = 90 * day  // without use
	staleAccessKey = 365 * day // since an access key was made
	expiresSoon    = 14 * day  // before an access key ends
)

// ReportStore is the part of a store that a report needs; service.Store documents its methods.
type ReportStore interface {
	Keys(ctx context.Context, account, region, after string, limit int) ([]*service.Key, error)
	Aliases(ctx context.Context, account, region, keyID, after string, limit int) ([]*service.Alias, error)
	GrantsOf(ctx context.Context, region, keyID string) ([]*service.Grant, error)
	Principals(ctx context.Context) ([]*iam.Principal, error)
	AccessKeys(ctx context.Context, principal string) ([]*iam.AccessKey, error)
	LastAccessKeyUse(ctx context.Context, id string) (*iam.AccessKeyUse, error)
	ApprovalRequests(ctx context.Context, account string, before int64, limit int) ([]*approval.Request, error)
	BreakGlassKey(ctx context.Context) (*breakglass.Key, error)
	BreakGlassOpenings(ctx context.Context, limit int) ([]*iam.BreakGlassOpening, error)
}

// Report looks at every key, principal and access key of an account. No policy is asked whether it
// may. Its time grows with the number of keys times the number of principals.
func (e *Examiner) Report(ctx context.Context, account, region string) (*Report, error) {
	out := &Report{Account: account, Region: region, Time: e.Now().UTC().Truncate(time.Second)}
	r := &reporter{Examiner: e, out: out}
	if err := r.addAccessKeys(ctx); err != nil {
		return nil, fmt.Errorf("report on principals: %w", err)
	}
	if err := r.addApprovals(ctx); err != nil {
		return nil, fmt.Errorf("report on approvals: %w", err)
	}
	if err := r.addBreakGlass(ctx); err != nil {
		return nil, fmt.Errorf("report on break-glass: %w", err)
	}
	for after := ""; ; {
		keys, err := e.Store.Keys(ctx, account, region, after, pageSize)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		for _, k := range keys {
			if err := r.addKey(ctx, k); err != nil {
				return nil, fmt.Errorf("report on key %s: %w", k.ID, err)
			}
			after = k.ID
		}
		if len(keys) < pageSize {
			break
		}
	}
	slices.SortStableFunc(out.Findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
	return out, nil
}

// reporter makes one report.
type reporter struct {
	*Examiner
	out        *Report
	principals []*iam.Principal // of the account
}

func (r *reporter) addFinding(severity Severity, about, format string, args ...any) {
	r.out.Findings = append(r.out.Findings, Finding{severity, about, fmt.Sprintf(format, args...)})
}

// ageInDays is the age of what was made at a time.
func (r *reporter) ageInDays(t time.Time) int { return int(r.out.Time.Sub(t) / day) }

// addAccessKeys reads the principals and reports on their access keys.
func (r *reporter) addAccessKeys(ctx context.Context) error {
	all, err := r.Store.Principals(ctx)
	if err != nil {
		return err
	}
	arns := []string{arn.Root(r.out.Account)}
	for _, p := range all {
		if p.Account == r.out.Account {
			r.principals = append(r.principals, p)
			arns = append(arns, p.ARN)
		}
	}
	for _, principal := range arns {
		keys, err := r.Store.AccessKeys(ctx, principal)
		if err != nil {
			return err
		}
		for _, k := range keys {
			if err := r.addAccessKey(ctx, k); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *reporter) addAccessKey(ctx context.Context, k *iam.AccessKey) error {
	summary := AccessKeySummary{ID: k.ID, Principal: k.PrincipalARN, Enabled: k.Enabled, CreatedAt: k.CreatedAt.UTC(),
		ExpiresAt: k.ExpiresAt.UTC()}
	use, err := r.Store.LastAccessKeyUse(ctx, k.ID)
	switch {
	case err == nil:
		summary.LastUsed = use.At.UTC()
	case !errors.Is(err, service.ErrNoRow):
		return err
	}
	r.out.AccessKeys = append(r.out.AccessKeys, summary)
	switch isRoot := k.PrincipalARN == arn.Root(k.Account); {
	case !k.Enabled:
		r.addFinding(Low, k.ID, "access key of %s is disabled: remove it when nobody needs it back", k.PrincipalARN)
		return nil
	case k.Expired(r.out.Time):
		r.addFinding(Low, k.ID, "access key of %s is expired: remove it", k.PrincipalARN)
		return nil
	case isRoot:
		r.addFinding(Medium, k.ID, "access key of the account's root principal is enabled: "+
			"nothing limits what it may do but key policies")
	}
	if left := k.ExpiresAt.Sub(r.out.Time); k.ExpiresAt.IsZero() {
		r.addFinding(Low, k.ID, "access key of %s never expires", k.PrincipalARN)
	} else if left < expiresSoon {
		r.addFinding(Low, k.ID, "access key of %s expires in %d days", k.PrincipalARN, left/day)
	}
	if age := r.out.Time.Sub(k.CreatedAt); age > staleAccessKey {
		r.addFinding(Medium, k.ID, "access key of %s is %d days old: replace it",
			k.PrincipalARN, r.ageInDays(k.CreatedAt))
	}
	return nil
}

func (r *reporter) addBreakGlass(ctx context.Context) error {
	openings, err := r.Store.BreakGlassOpenings(ctx, iam.MaxOpenings)
	if err != nil || len(openings) == 0 {
		return err
	}
	k, err := r.Store.BreakGlassKey(ctx)
	if err != nil {
		return err
	}
	for _, row := range openings {
		s := BreakGlassSummary{ID: row.ID, OpenedAt: row.OpenedAt.UTC(), Until: row.Until.UTC(),
			ClosedAt: row.ClosedAt.UTC(), UsedAt: row.UsedAt.UTC()}
		o, inForce := row.InForce(k, r.out.Time)
		if o != nil {
			s.Account, s.Reason, s.Operator, s.Until = o.Account, o.Reason, o.Operator, o.Until.UTC()
		}
		r.out.BreakGlass = append(r.out.BreakGlass, s)
		used := "was not used"
		if !row.UsedAt.IsZero() {
			used = "was first used at " + s.UsedAt.Format(time.RFC3339)
		}
		switch {
		case inForce:
			r.addFinding(High, s.ID, "break-glass is open until %s by %q (%q), and %s: verenc break-glass close ends it",
				s.Until.Format(time.RFC3339), s.Operator, s.Reason, used)
		case r.out.Time.Sub(row.OpenedAt) < staleKey:
			r.addFinding(Medium, s.ID, "break-glass was opened at %s by %q (%q), and %s: compare it with the audit log",
				s.OpenedAt.Format(time.RFC3339), s.Operator, s.Reason, used)
		}
	}
	return nil
}

func (r *reporter) addKey(ctx context.Context, k *service.Key) error {
	summary := KeySummary{
		ID: k.ID, ARN: k.ARN(r.ARNFormat.Form()), Description: k.Description, State: k.State,
		Spec: k.Spec, Usage: k.Usage, Origin: k.Origin, CreatedAt: k.CreatedAt.UTC(),
		DeletionAt: k.DeletionAt.UTC(), Rotation: r.rotation(k),
		KnownMaterial: slices.ContainsFunc(k.Materials, func(m service.Material) bool { return len(m.Known) > 0 }),
	}
	aliases, err := r.Store.Aliases(ctx, k.Account, k.Region, k.ID, "", pageSize) // a key has at most 50
	if err != nil {
		return err
	}
	for _, a := range aliases {
		summary.Aliases = append(summary.Aliases, a.Name)
	}
	use, err := r.Service.LastUse(ctx, k)
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

func (r *reporter) rotation(k *service.Key) RotationSummary {
	summary := RotationSummary{PeriodDays: k.Rotation.PeriodDays, NextAt: k.Rotation.NextAt.UTC(), AgeDays: -1}
	if m := k.CurrentMaterial(); m != nil && len(m.Objects) > 0 {
		summary.AgeDays, summary.LastAt = r.ageInDays(m.CreatedAt), m.RotatedAt.UTC()
	}
	return summary
}

// judgeKey adds findings about a key's state, age and use.
func (r *reporter) judgeKey(k *KeySummary) {
	if k.KnownMaterial {
		r.addFinding(High, k.ID, "key material is known to whoever has read a file of verenc apply: it is for tests only")
	}
	rotates := rotatesAutomatically(k.Spec, k.Origin)
	switch {
	case k.State == service.StatePendingDeletion:
		r.addFinding(High, k.ID, "will be destroyed at %s", k.DeletionAt.Format(time.RFC3339))
	case k.State == service.StateDisabled:
		r.addFinding(Low, k.ID, "is disabled")
	case k.State == service.StateEnabled && k.Rotation.AgeDays > int(staleRotation/day):
		automatic := map[bool]string{true: "on", false: "off"}[k.Rotation.PeriodDays > 0]
		r.addFinding(Medium, k.ID, "key material is %d days old, and automatic rotation is %s",
			k.Rotation.AgeDays, automatic)
	case k.State == service.StateEnabled && rotates && k.Rotation.PeriodDays == 0:
		r.addFinding(Low, k.ID, "automatic rotation is off")
	}
	switch {
	case k.LastUse == nil && r.out.Time.Sub(k.CreatedAt) > staleKey:
		r.addFinding(Low, k.ID, "was never used since it was made %d days ago", r.ageInDays(k.CreatedAt))
	case k.LastUse != nil && r.out.Time.Sub(k.LastUse.At) > staleKey:
		r.addFinding(Low, k.ID, "was last used %d days ago", r.ageInDays(k.LastUse.At))
	}
}

// access reports on who may use a key.
func (r *reporter) access(ctx context.Context, k *service.Key) (a KeyAccess, err error) {
	if a.Statements, err = statementsOf(k.Policy); err != nil {
		return a, err
	}
	d, err := policy.Parse(policy.KeyPolicy, k.Policy)
	if err != nil {
		return a, fmt.Errorf("parse key policy: %w", err)
	}
	r.judgeStatements(k, a.Statements)
	missing, err := r.missingPrincipals(ctx, k.Account, d.Principals()...)
	if err != nil {
		return a, err
	}
	for _, principal := range missing {
		r.addFinding(Medium, k.ID, "the key policy names %s, who is not there: "+
			"remove the name, or another of this name gets its rights", principal)
	}
	if a.IdentityPolicies, err = r.Service.IdentityPoliciesMayAllow(k); err != nil {
		return a, err
	}
	for _, p := range r.principals {
		operations, all, err := r.Service.AllowedOperations(ctx, k, p)
		if err != nil {
			return a, err
		}
		if len(operations) > 0 {
			a.Principals = append(a.Principals, PrincipalAccess{p.ARN, all, operations})
		}
	}
	grants, err := r.Store.GrantsOf(ctx, k.Region, k.ID)
	if err != nil {
		return a, err
	}
	for _, g := range grants {
		a.Grants = append(a.Grants, GrantSummary{
			ID: g.ID, Name: g.Name, Grantee: g.Grantee, Operations: g.Operations, CreatedAt: g.CreatedAt.UTC(),
			Constrained: len(g.Equals)+len(g.Subset) > 0 || g.SourceARN != "",
		})
		if err := r.judgeGrant(ctx, k, g); err != nil {
			return a, err
		}
	}
	return a, nil
}

// missingPrincipals returns those principals that name a user or a role that does not exist, of an
// account whose principals are kept here. Whoever creates a user or role of that name gets the
// rights.
func (r *reporter) missingPrincipals(
	ctx context.Context, account string, principals ...string,
) (missing []string, err error) {
	for _, principal := range principals {
		gone, err := r.Service.IAM().IsMissing(ctx, account, principal)
		if err != nil {
			return nil, err
		}
		if gone {
			missing = append(missing, principal)
		}
	}
	return missing, nil
}

// judgeGrant adds findings about whom a grant names.
func (r *reporter) judgeGrant(ctx context.Context, k *service.Key, g *service.Grant) error {
	missing, err := r.missingPrincipals(ctx, k.Account, g.Grantee, g.Retiring)
	if err != nil {
		return err
	}
	for _, principal := range missing {
		r.addFinding(Medium, k.ID, "a grant names %s, who is not there: "+
			"revoke grant %s, or another of this name gets its rights", principal, g.ID)
	}
	if account := arn.AccountOf(g.Grantee); account != "" && account != k.Account {
		r.addFinding(Low, k.ID, "a grant lets %s in, of another account", g.Grantee)
	}
	return nil
}

// judgeStatements adds findings about key policies that let other accounts or everyone in.
func (r *reporter) judgeStatements(k *service.Key, statements []StatementSummary) {
	for _, s := range statements {
		if s.Effect != "Allow" {
			continue
		}
		actions := strings.Join(s.Actions, ", ")
		for _, p := range s.Principals {
			account := arn.AccountOf(p)
			if arn.IsAccount(p) {
				account = p
			}
			switch everyone := p == "*" || strings.HasPrefix(p, notPrefix); {
			case everyone && !s.Conditional:
				r.addFinding(High, k.ID, "the key policy lets everyone do %s", actions)
			case everyone:
				r.addFinding(Medium, k.ID, "the key policy lets everyone do %s, under a condition", actions)
			case account != "" && account != k.Account:
				r.addFinding(Low, k.ID, "the key policy lets %s in, of another account", p)
			}
		}
	}
}
