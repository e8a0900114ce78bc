package iam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
)

// Declaration is the wanted state of the principals of some accounts.
type Declaration struct {
	Accounts   []string // every account that is declared, also one that is to have no principals
	Principals []Declared
	Guards     []DeclaredGuard // of accounts that declare one; the others keep what they have
}

// Declared is the wanted state of one principal. It is complete, except for the access keys.
type Declared struct {
	Principal
	Certificates []string // names; only of a user
	Place        string   // of the declaration, for errors
}

// Change is one step from the current state to the declared one.
type Change struct {
	Verb    string   // create, change, remove, map, unmap or import
	What    string   // ARN, certificate or key
	Details []string // the fields that differ, or what is removed along with it
	Do      func(context.Context) error
}

// Plan returns the changes that lead from the current state to the declared one. With prune, they
// remove the users and roles of the declared accounts that are not declared. Its error has
// everything that is wrong with the declaration.
func (d *Directory) Plan(ctx context.Context, declaration *Declaration, prune bool) ([]Change, error) {
	principals, err := d.Principals(ctx)
	if err != nil {
		return nil, err
	}
	certificates, err := d.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	p := planner{d: d, current: byName(principals), owners: map[string]string{},
		declared: map[uniqueName]*Declared{}, declaredOwners: map[string]*Declared{}}
	for _, c := range certificates {
		p.owners[c.Name] = c.PrincipalARN
	}
	for i := range declaration.Principals {
		p.planPrincipal(&declaration.Principals[i])
	}
	for i := range declaration.Principals {
		p.planCertificates(&declaration.Principals[i])
	}
	for _, c := range certificates {
		if p.declares(c.PrincipalARN) && p.declaredOwners[c.Name] == nil {
			p.add("unmap", "certificate "+c.Name, []string{"from " + c.PrincipalARN},
				func(ctx context.Context) error { return d.UnmapCertificate(ctx, c.Name) })
		}
	}
	for _, old := range principals {
		if prune && slices.Contains(declaration.Accounts, old.Account) && p.declared[old.uniqueName()] == nil {
			if err := p.planRemoval(ctx, old); err != nil {
				return nil, err
			}
		}
	}
	return p.changes, errors.Join(p.errs...)
}

// Apply makes the changes of a plan, one by one. When one fails, those before it have been made,
// and a new plan for the same declaration has the others. Those that a guard denies are left out: the error names the
// approvals that they need, so that one run asks for all of them.
func Apply(ctx context.Context, changes []Change) error {
	var denied []error
	for _, c := range changes {
		err := c.Do(ctx)
		if err == nil {
			continue
		}
		err = fmt.Errorf("%s %s: %w", c.Verb, c.What, err)
		if !apierror.Is(err, apierror.AccessDenied) {
			return errors.Join(append(denied, err)...)
		}
		denied = append(denied, err)
	}
	return errors.Join(denied...)
}

// planner collects changes and errors.
type planner struct {
	d              *Directory
	current        map[uniqueName]*Principal
	owners         map[string]string // ARNs by the names of their certificates, now
	declared       map[uniqueName]*Declared
	declaredOwners map[string]*Declared // by the names of certificates
	changes        []Change
	errs           []error
}

func (p *planner) add(verb, what string, details []string, do func(context.Context) error) {
	p.changes = append(p.changes, Change{verb, what, details, do})
}

func (p *planner) addError(declared *Declared, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", declared.Place, fmt.Sprintf(format, args...)))
}

func (p *planner) declares(principal string) bool {
	for _, declared := range p.declared {
		if declared.ARN == principal {
			return true
		}
	}
	return false
}

func (p *planner) planPrincipal(declared *Declared) {
	name := declared.uniqueName()
	if other := p.declared[name]; other != nil {
		p.addError(declared, "%s %s is already declared at %s; names that differ only in case are the same",
			declared.Kind, declared.Name, other.Place)
		return
	}
	p.declared[name] = declared
	valid, err := declared.validated()
	old := p.current[name]
	switch {
	case err != nil:
		p.addError(declared, "%v", err)
	case old == nil:
		p.add("create", declared.ARN, nil, func(ctx context.Context) error {
			_, err := p.d.CreatePrincipal(ctx, valid)
			return err
		})
	case old.ARN != declared.ARN:
		p.addError(declared, "%s %s exists as %s, and an ARN can't be changed: declare it with that path, "+
			"or run verenc %s delete %s first", declared.Kind, declared.Name, old.ARN, declared.Kind, old.Name)
	default:
		if fields := valid.differences(old); len(fields) > 0 {
			p.add("change", declared.ARN, fields, func(ctx context.Context) error {
				return p.d.UpdatePrincipal(ctx, valid)
			})
		}
	}
}

func (p *planner) planCertificates(declared *Declared) {
	if declared.Kind != KindUser && len(declared.Certificates) > 0 {
		p.addError(declared, "%s %s: only users have certificates; let a user assume the role", declared.Kind,
			declared.Name)
		return
	}
	for _, name := range declared.Certificates {
		if other := p.declaredOwners[name]; other != nil {
			p.addError(declared, "user %s: the certificate %s is already declared for user %s at %s",
				declared.Name, name, other.Name, other.Place)
			continue
		}
		p.declaredOwners[name] = declared
		if old := p.owners[name]; old != declared.ARN {
			details := []string{"to " + declared.ARN}
			if old != "" {
				details = append(details, "from "+old)
			}
			p.add("map", "certificate "+name, details,
				func(ctx context.Context) error { return p.d.putCertificate(ctx, name, declared.ARN) })
		}
	}
}

func (p *planner) planRemoval(ctx context.Context, old *Principal) error {
	keys, err := p.d.AccessKeys(ctx, old.ARN)
	if err != nil {
		return err
	}
	var details []string
	for _, k := range keys {
		details = append(details, "access key "+k.ID)
	}
	for name, owner := range p.owners {
		if owner == old.ARN && p.declaredOwners[name] == nil {
			details = append(details, "certificate "+name)
		}
	}
	slices.SortStableFunc(details, strings.Compare)
	p.add("remove", old.ARN, details, func(ctx context.Context) error { return p.d.DeletePrincipal(ctx, old.ARN) })
	return nil
}
