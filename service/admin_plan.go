package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Declaration is how principals are to be.
type Declaration struct {
	Accounts   []string // all that it speaks of, also those that are to have no principals
	Principals []Declared
}

// Declared is all that there is to be of a principal, but for its access keys.
type Declared struct {
	Principal
	Certificates []string // fingerprints; a user's
	Place        string   // where it is declared, for errors
}

// Change is one step from what there is to what is declared.
type Change struct {
	Verb    string   // create, change, remove, map or unmap
	What    string   // ARN, or certificate
	Details []string // what differs, or goes with it
	do      func(context.Context) error
}

// Plan finds the changes that make what there is what is declared. With prune, they remove the users and roles of its
// accounts that are not declared. It finds all that is wrong with the declaration.
func (s *Service) Plan(ctx context.Context, d *Declaration, prune bool) ([]Change, error) {
	principals, err := s.Principals(ctx)
	if err != nil {
		return nil, err
	}
	certificates, err := s.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	p := planner{s: s, names: namesakes(principals), certificates: map[string]string{}, declared: map[nameOf]*Declared{}, certified: map[string]*Declared{}}
	for _, c := range certificates {
		p.certificates[c.Fingerprint] = c.PrincipalARN
	}
	for i := range d.Principals {
		p.principal(&d.Principals[i])
	}
	for i := range d.Principals {
		p.certificatesOf(&d.Principals[i])
	}
	for _, c := range certificates {
		if owner := p.declaredARN(c.PrincipalARN); owner != nil && p.certified[c.Fingerprint] == nil {
			p.add("unmap", "certificate "+c.Fingerprint, []string{"from " + c.PrincipalARN}, func(ctx context.Context) error { return s.UnmapCertificate(ctx, c.Fingerprint) })
		}
	}
	for _, old := range principals {
		if prune && slices.Contains(d.Accounts, old.Account) && p.declared[old.name()] == nil {
			if err := p.remove(ctx, old); err != nil {
				return nil, err
			}
		}
	}
	return p.changes, errors.Join(p.errs...)
}

// Apply makes the changes of a plan, one by one. When it fails, those before have been made, and the same declaration
// gives a plan of the others.
func (s *Service) Apply(ctx context.Context, changes []Change) error {
	for _, c := range changes {
		if err := c.do(ctx); err != nil {
			return fmt.Errorf("%s %s: %w", c.Verb, c.What, err)
		}
	}
	return nil
}

// planner collects changes and complaints.
type planner struct {
	s            *Service
	names        map[nameOf]*Principal // that there are
	certificates map[string]string     // that there are, to ARNs
	declared     map[nameOf]*Declared
	certified    map[string]*Declared // by fingerprint
	changes      []Change
	errs         []error
}

func (p *planner) add(verb, what string, details []string, do func(context.Context) error) {
	p.changes = append(p.changes, Change{verb, what, details, do})
}

func (p *planner) complain(d *Declared, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", d.Place, fmt.Sprintf(format, args...)))
}

func (p *planner) declaredARN(principal string) *Declared {
	for _, d := range p.declared {
		if d.ARN == principal {
			return d
		}
	}
	return nil
}

func (p *planner) principal(d *Declared) {
	if other := p.declared[d.name()]; other != nil {
		p.complain(d, "%s %s is declared at %s already; names that differ in case only are the same", d.Kind, d.Name, other.Place)
		return
	}
	p.declared[d.name()] = d
	settled, err := d.settle()
	old := p.names[d.name()]
	switch {
	case err != nil:
		p.complain(d, "%v", err)
	case old == nil:
		p.add("create", d.ARN, nil, func(ctx context.Context) error {
			_, err := p.s.CreatePrincipal(ctx, settled)
			return err
		})
	case old.ARN != d.ARN:
		p.complain(d, "%s %s is there as %s, and an ARN can't be changed: declare it so, or run verenc %s delete %s first", d.Kind, d.Name, old.ARN, d.Kind, old.Name)
	default:
		if fields := settled.differences(old); len(fields) > 0 {
			p.add("change", d.ARN, fields, func(ctx context.Context) error { return p.s.UpdatePrincipal(ctx, settled) })
		}
	}
}

func (p *planner) certificatesOf(d *Declared) {
	if d.Kind != KindUser && len(d.Certificates) > 0 {
		p.complain(d, "%s %s: certificates are for users; the user may assume the role", d.Kind, d.Name)
		return
	}
	for _, fingerprint := range d.Certificates {
		if other := p.certified[fingerprint]; other != nil {
			p.complain(d, "user %s: the certificate %s is that of the user %s at %s already", d.Name, fingerprint, other.Name, other.Place)
			continue
		}
		p.certified[fingerprint] = d
		if old := p.certificates[fingerprint]; old != d.ARN {
			details := []string{"to " + d.ARN}
			if old != "" {
				details = append(details, "from "+old)
			}
			p.add("map", "certificate "+fingerprint, details, func(ctx context.Context) error { return p.s.putCertificate(ctx, fingerprint, d.ARN) })
		}
	}
}

func (p *planner) remove(ctx context.Context, old *Principal) error {
	keys, err := p.s.AccessKeys(ctx, old.ARN)
	if err != nil {
		return err
	}
	var details []string
	for _, k := range keys {
		details = append(details, "access key "+k.ID)
	}
	for fingerprint, owner := range p.certificates {
		if owner == old.ARN && p.certified[fingerprint] == nil {
			details = append(details, "certificate "+fingerprint)
		}
	}
	slices.SortStableFunc(details, strings.Compare)
	p.add("remove", old.ARN, details, func(ctx context.Context) error { return p.s.DeletePrincipal(ctx, old.ARN) })
	return nil
}
