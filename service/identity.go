package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unsafe"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// Caller is an authenticated request's origin.
type Caller struct {
	Identity
	Region    string // of the credential scope: the region that the request is for
	RequestID string
	EventID   string // of the audit record
	SourceIP  string
	UserAgent string
	Host      string               // as the client named the server
	TLS       *tls.ConnectionState // nil without TLS
}

// Identity is who a credential or a client certificate proves.
type Identity struct {
	Principal   string // ARN, e.g. arn:aws:iam::111122223333:root
	Account     string
	AccessKeyID string   // empty with a client certificate
	Session     *Session // of an assumed role; nil for others
}

// standing is a caller with the policies of its own side.
type standing struct {
	principal policy.Principal
	identity  []*policy.Document
	boundary  []*policy.Document
	session   []*policy.Document
}

// standing finds what the caller is and may, but for what key policies and grants say. A principal that is gone may nothing.
func (s *Service) standing(ctx context.Context, c *Caller) (*standing, error) {
	w := &standing{principal: policy.Principal{ARN: c.Principal, Account: c.Account}}
	if c.Principal == arn.Root(c.Account) {
		w.principal.Type = policy.RootUser
		return w, nil
	}
	principal := c.Principal
	if c.Session != nil {
		principal = c.Session.RoleARN
	}
	p, err := s.store.Principal(ctx, principal)
	if errors.Is(err, ErrNoRow) || err == nil && c.Session != nil && c.Session.RoleID != "" && c.Session.RoleID != p.UniqueID {
		return nil, apierror.New(apierror.UnrecognizedClient, msgUnknownClient)
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	w.principal.Tags, w.principal.Type = p.Tags, policy.User
	w.principal.UserName, w.principal.UserID = p.Name, p.UniqueID
	if c.Session != nil {
		w.principal.Type, w.principal.IssuerARN, w.principal.UserName = policy.RoleSession, p.ARN, ""
		w.principal.UserID = p.UniqueID + ":" + c.Session.Name
		if w.session, err = s.identityPolicies(c.Session.Policies); err != nil {
			return nil, err
		}
	}
	texts := make([]string, 0, len(p.Policies))
	for _, name := range slices.Sorted(maps.Keys(p.Policies)) { // so that decisions name the same statement each time
		texts = append(texts, p.Policies[name])
	}
	if w.identity, err = s.identityPolicies(texts); err != nil {
		return nil, err
	}
	if p.Boundary != "" {
		w.boundary, err = s.identityPolicies([]string{p.Boundary})
	}
	return w, err
}

func (s *Service) identityPolicies(texts []string) ([]*policy.Document, error) {
	documents := make([]*policy.Document, len(texts))
	for i, text := range texts {
		var err error
		if documents[i], err = s.document(policy.IdentityPolicy, text); err != nil {
			return nil, err
		}
	}
	return documents, nil
}

const documentCache = 10_000 // parsed policies

// parsedPolicy is a policy with its text. It holds the text, so that no other text comes to stand at its address.
type parsedPolicy struct {
	kind     policy.Kind
	text     string
	document *policy.Document
}

// document parses a stored policy, or takes it from memory. Policies are found by where their text is, since rows are cached, with one text for equal policies,
// and a long text takes longer to hash than to evaluate. One that does not parse was changed behind our back: nothing is
// allowed then.
func (s *Service) document(kind policy.Kind, text string) (*policy.Document, error) {
	at := unsafe.StringData(text)
	if p, ok := s.documents.Get(at); ok && p.kind == kind && len(p.text) == len(text) {
		return p.document, nil
	}
	d, err := policy.Parse(kind, text)
	if err != nil {
		return nil, apierror.InternalError(fmt.Errorf("parse a stored policy: %w", err))
	}
	s.documents.Add(at, parsedPolicy{kind, text, d})
	return d, nil
}

// sessionARN is the ARN of a role session (AWS page "IAM identifiers").
func sessionARN(roleARN, session string) string {
	account := arn.AccountOf(roleARN)
	return "arn:aws:sts::" + account + ":assumed-role/" + roleARN[strings.LastIndex(roleARN, "/")+1:] + "/" + session
}
