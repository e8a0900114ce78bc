package iam

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"unsafe"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// msgUnknownClient is AWS's message for a credential whose principal does not exist.
const msgUnknownClient = "The security token included in the request is invalid."

// msgExpiredToken is AWS's message for a credential whose end has come.
const msgExpiredToken = "The security token included in the request is expired"

// CallerPolicies are a caller and the policies of its own side. What key policies and grants allow
// comes on top.
type CallerPolicies struct {
	Principal policy.Principal
	Identity  []*policy.Document // in the order of their names: see PolicyNames
	Boundary  []*policy.Document
	Session   []*policy.Document
}

// CallerPolicies returns the policies of a caller. A principal that was deleted is refused.
func (d *Directory) CallerPolicies(ctx context.Context, c *Caller) (*CallerPolicies, error) {
	own := &CallerPolicies{Principal: policy.Principal{ARN: c.Principal, Account: c.Account}}
	if c.Principal == arn.Root(c.Account) {
		own.Principal.Type = policy.RootUser
		return own, nil
	}
	if c.BreakGlass != "" {
		own.Principal.Type, own.Principal.UserID = policy.BreakGlass, c.BreakGlass
		return own, nil
	}
	p, err := d.store.Principal(ctx, c.User())
	if errors.Is(err, ErrNoRow) || err == nil && c.Session != nil && !c.Session.isOf(p) {
		return nil, apierror.New(apierror.UnrecognizedClient, msgUnknownClient)
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	own.Principal.Tags, own.Principal.Type = p.Tags, policy.User
	own.Principal.UserName, own.Principal.UserID = p.Name, p.UniqueID
	if c.Session.ofRole() {
		own.Principal.Tags = c.Session.withTags(p.Tags)
		own.Principal.Type, own.Principal.IssuerARN, own.Principal.UserName = policy.RoleSession, p.ARN, ""
		own.Principal.UserID = p.UniqueID + ":" + c.Session.Name
		if own.Session, err = d.identityPolicies(c.Session.Policies); err != nil {
			return nil, err
		}
	}
	texts := make([]string, 0, len(p.Policies))
	for _, name := range p.policyNames() {
		texts = append(texts, p.Policies[name])
	}
	if own.Identity, err = d.identityPolicies(texts); err != nil {
		return nil, err
	}
	if p.Boundary != "" {
		own.Boundary, err = d.identityPolicies([]string{p.Boundary})
	}
	return own, err
}

// policyNames returns the names of the identity policies, in an order that is always the same, so
// that decisions name the same statement each time.
func (p *Principal) policyNames() []string { return slices.Sorted(maps.Keys(p.Policies)) }

// PolicyNames returns the names of a caller's identity policies, in the order of CallerPolicies.
func (d *Directory) PolicyNames(ctx context.Context, c *Caller) ([]string, error) {
	p, err := d.store.Principal(ctx, c.User())
	if errors.Is(err, ErrNoRow) {
		return nil, nil // the root user
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", c.User(), err)
	}
	return p.policyNames(), nil
}

func (d *Directory) identityPolicies(texts []string) ([]*policy.Document, error) {
	documents := make([]*policy.Document, len(texts))
	for i, text := range texts {
		var err error
		if documents[i], err = d.ParsedPolicy(policy.IdentityPolicy, text); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

// parsedPolicy is a policy with its text. It holds the text, so that no other text can come to be
// at the same address.
type parsedPolicy struct {
	kind     policy.Kind
	text     string
	document *policy.Document
}

// ParsedPolicy returns a stored policy, of a principal or of a key, from memory or by parsing it.
// The cache finds a policy by the address of its text: rows are cached with one text for equal
// policies, and hashing a long text takes longer than evaluating it. A text that does not parse was
// changed behind our back; it allows nothing.
func (d *Directory) ParsedPolicy(kind policy.Kind, text string) (*policy.Document, error) {
	at := unsafe.StringData(text)
	if p, ok := d.policies.Get(at); ok && p.kind == kind && len(p.text) == len(text) {
		return p.document, nil
	}
	document, err := policy.Parse(kind, text)
	if err != nil {
		return nil, apierror.InternalError(fmt.Errorf("parse a stored policy: %w", err))
	}
	d.policies.Add(at, parsedPolicy{kind, text, document})
	return document, nil
}
