package iam

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/policy"
)

// Guard is the policy document that restricts every caller of an account but break-glass, the root user too, and every
// caller of another account that uses a key of this one. No other policy of the account can weaken it.
type Guard struct {
	Account   string
	Document  string // JSON, in the grammar of identity policies; empty: the account has no guard
	ChangedAt time.Time
}

// GuardStore keeps the guards of accounts.
type GuardStore interface {
	// Guard returns an account's guard, from memory when it can; one without a Document when there is none. It is
	// shared, and must not be modified.
	Guard(ctx context.Context, account string) (*Guard, error)
	// Guards returns all guards, in order of their accounts.
	Guards(ctx context.Context) ([]*Guard, error)
	// PutGuard adds a guard, or replaces that of its account.
	PutGuard(ctx context.Context, g *Guard) error
	// RemoveGuard deletes a guard; ErrNoRow when there is none.
	RemoveGuard(ctx context.Context, account string) error
}

// GuardsOver returns the guards that restrict a caller of one account on a resource of another one, or of the same.
func (d *Directory) GuardsOver(ctx context.Context, caller, resource string) (guards []*policy.Document, err error) {
	if guards, err = d.addGuard(ctx, guards, caller); err == nil && resource != caller {
		guards, err = d.addGuard(ctx, guards, resource)
	}
	return guards, err
}

func (d *Directory) addGuard(ctx context.Context, guards []*policy.Document, account string) (
	[]*policy.Document, error) {
	if account == "" {
		return guards, nil
	}
	g, err := d.store.Guard(ctx, account)
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if g.Document == "" {
		return guards, nil
	}
	document, err := d.ParsedPolicy(policy.IdentityPolicy, g.Document)
	return append(guards, document), err
}

// Guard returns an account's guard; one without a Document when there is none.
func (d *Directory) Guard(ctx context.Context, account string) (*Guard, error) {
	g, err := d.store.Guard(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("find the guard of account %s: %w", account, err)
	}
	return g, nil
}

// Guards returns all guards, in order of their accounts.
func (d *Directory) Guards(ctx context.Context) ([]*Guard, error) {
	all, err := d.store.Guards(ctx)
	if err != nil {
		return nil, fmt.Errorf("list guards: %w", err)
	}
	return all, nil
}

// CheckGuard returns what is wrong with the document of a guard.
func CheckGuard(document string) error {
	if _, err := policy.Parse(policy.IdentityPolicy, document); err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

// PutGuard sets the guard of an account, in place of the one that it has. An empty document removes it.
func (d *Directory) PutGuard(ctx context.Context, account, document string) error {
	about := []audit.Resource{{ARN: arn.Root(account), AccountID: account, Type: "Verenc::Guard"}}
	var parameters audit.Object
	if document != "" {
		if err := CheckGuard(document); err != nil {
			return err
		}
		parameters = audit.Object{{Name: "policyDocument", Value: document}}
	}
	err := d.records.Command(ctx, "PutGuard", about, parameters, func(ctx context.Context) error {
		if document == "" {
			return d.store.RemoveGuard(ctx, account)
		}
		return d.store.PutGuard(ctx, &Guard{Account: account, Document: document, ChangedAt: d.now()})
	})
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("account %s has no guard", account)
	}
	if err != nil {
		return fmt.Errorf("set the guard of account %s: %w", account, err)
	}
	return nil
}

// DeclaredGuard is the wanted guard of an account.
type DeclaredGuard struct {
	Account  string
	Document string // JSON; empty: there is to be none
	Place    string // of the declaration, for errors
}

// planGuard adds the change of an account's guard. It comes after all others, which are under the guard that there is.
func (d *Directory) planGuard(ctx context.Context, g *DeclaredGuard) (*Change, error) {
	if g.Document != "" {
		if err := CheckGuard(g.Document); err != nil {
			return nil, fmt.Errorf("%s: account %s: %w", g.Place, g.Account, err)
		}
	}
	old, err := d.Guard(ctx, g.Account)
	if err != nil || EqualJSON(old.Document, g.Document) {
		return nil, err
	}
	verb := map[bool]string{true: "create", false: "change"}[old.Document == ""]
	if g.Document == "" {
		verb = "remove"
	}
	return &Change{Verb: verb, What: "guard of account " + g.Account, Do: func(ctx context.Context) error {
		return d.PutGuard(ctx, g.Account, strings.TrimSpace(g.Document))
	}}, nil
}

// PlanGuards returns the changes of the declared guards, which are made last.
func (d *Directory) PlanGuards(ctx context.Context, guards []DeclaredGuard) (changes []Change, err error) {
	for i := range guards {
		c, planErr := d.planGuard(ctx, &guards[i])
		if err = errors.Join(err, planErr); c != nil {
			changes = append(changes, *c)
		}
	}
	return changes, err
}
