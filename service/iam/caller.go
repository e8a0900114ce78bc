package iam

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/policy"
)

// Caller is the origin of an authenticated request.
type Caller struct {
	Identity
	Region    string // of the credential scope: the region that the request is for
	RequestID string
	EventID   string // of the audit record
	SourceIP  string
	UserAgent string
	Host      string               // as the client named the server
	TLS       *tls.ConnectionState // nil without TLS
	// Call is what the caller asks for, if policies may ask for approvals of it; zero for other requests.
	Call Call
	// Signed is what proves that the caller sent the request, of operations that keep the proof; or nil.
	Signed *Proof
}

// Call is one request of an operation, as approvers see it.
type Call struct {
	Operation string
	Input     any // the decoded request
	// KeyMembers are the indexes of the members of Input that name keys.
	KeyMembers []int
	Changes    bool

	// Approved are the numbers of the approval requests that the call makes use of, as far as it was decided, and
	// ApprovedBy the ARNs of those who have approved. Asked are the numbers of those that it was denied for want of.
	Approved, Asked []int64
	ApprovedBy      []string
}

// Identity is who a credential or a client certificate proves its holder to be.
type Identity struct {
	Principal   string // ARN, e.g. arn:aws:iam::111122223333:root
	Account     string
	AccessKeyID string   // empty with a client certificate
	Session     *Session // of an assumed role, or of GetSessionToken; nil for others
	// IssuedAt and ExpiresAt are those of the credential: the access key, the session of a role, or the certificate.
	// A session of a user has those of the access key that it was asked for with. Zero: not known; it never ends.
	IssuedAt, ExpiresAt time.Time
	Certificate         *CertificateUse // of a caller who has one that is mapped by a name
	// WebIdentity is set for AssumeRoleWithWebIdentity only. Principal and Account are its name, and the account of
	// the role, then: it has no other rights.
	WebIdentity *WebIdentity
	// BreakGlass is the opening of the sealed credential that this is a session of; empty for others. No policy,
	// guard or approval limits such a caller: package policy decides so, by the type of the principal.
	BreakGlass string
}

// User returns the ARN of the stored principal that an identity is, or is a session of: the root user,
// a user or a role.
func (i *Identity) User() string {
	if i.Session.ofRole() {
		return i.Session.RoleARN
	}
	return i.Principal
}

// Behind returns the principals that an identity is or acts for: User, and whoever assumed its role, which are stored
// principals, web identities (ISSUER:SUBJECT) and mappings of client certificates ("certificate NAME").
func (i *Identity) Behind() []string {
	if i.Session == nil {
		return []string{i.User()}
	}
	return append([]string{i.User()}, i.Session.AssumedBy...)
}

// Traced reports whether those behind somebody, as Behind returns them, include a person or workload. The sessions of
// roles that versions before dual control have made name the role alone: anybody may have assumed it.
func Traced(behind []string) bool {
	return len(behind) > 1 || len(behind) == 1 && kindOf(behind[0]) != KindRole
}

// UserIdentity describes a caller for an audit record (AWS page "CloudTrail userIdentity element").
// When the principal can't be looked up its unique id is left out, since the record matters more.
func (d *Directory) UserIdentity(ctx context.Context, c *Caller) audit.UserIdentity {
	if w := c.WebIdentity; w != nil {
		return audit.UserIdentity{Type: "WebIdentityUser", PrincipalID: c.Principal, UserName: w.Subject,
			IdentityProvider: providerARN(c.Account, w.Issuer)}
	}
	u := audit.UserIdentity{Type: "IAMUser", ARN: c.Principal, AccountID: c.Account, AccessKeyID: c.AccessKeyID}
	if c.Session != nil {
		u.SessionContext = &audit.SessionContext{CreationDate: c.Session.IssuedAt}
	}
	if c.Principal == arn.Root(c.Account) {
		u.Type, u.PrincipalID = "Root", c.Account
		return u
	}
	if c.BreakGlass != "" {
		u.Type, u.PrincipalID = "VerencBreakGlass", c.BreakGlass
		return u
	}
	issuer := c.User()
	name, uniqueID := issuer[strings.LastIndex(issuer, "/")+1:], ""
	if p, err := d.store.Principal(ctx, issuer); err == nil {
		uniqueID = p.UniqueID
	}
	if !c.Session.ofRole() {
		u.UserName, u.PrincipalID = name, uniqueID
		return u
	}
	u.Type = "AssumedRole"
	if uniqueID != "" {
		u.PrincipalID = uniqueID + ":" + c.Session.Name
	}
	u.SessionContext.Issuer = &audit.SessionIssuer{Type: "Role", PrincipalID: uniqueID, ARN: issuer,
		AccountID: c.Account, UserName: name}
	if f := c.Session.Federation; f != nil {
		u.SessionContext.WebIDFederation = &audit.WebIDFederation{Provider: f.Provider,
			Attributes: audit.WebAttributes{Audience: strings.Join(f.Audience, ","), Subject: f.Subject}}
	}
	return u
}

// CertificateParameters describe the client certificate of a caller in a record, if it is mapped by a name.
func (c *Caller) CertificateParameters() audit.Object { return c.Certificate.parameters() }

// GlobalConditions appends the values of a global condition key that the origin of a request gives, and reports
// whether it gives the key (AWS page "AWS global condition context keys").
func (d *Directory) GlobalConditions(values []string, c *Caller, key string) (all []string, known bool) {
	if c.Session != nil && c.Session.Federation != nil {
		if own := c.Session.Federation.condition(key); own != nil {
			return append(values, own...), true
		}
	}
	if value, known := d.globalCondition(c, key); known {
		return append(values, value), true
	}
	return values, false
}

func (d *Directory) globalCondition(c *Caller, key string) (value string, known bool) {
	switch key {
	case "aws:sourceip":
		return c.SourceIP, c.SourceIP != ""
	case "aws:currenttime":
		return d.now().UTC().Format(time.RFC3339), true
	case "aws:epochtime":
		return strconv.FormatInt(d.now().Unix(), 10), true
	case "aws:securetransport":
		return strconv.FormatBool(c.TLS != nil), true
	case "aws:useragent":
		return c.UserAgent, c.UserAgent != ""
	case "aws:requestedregion":
		return c.Region, c.Region != ""
	case policy.CredentialExpires:
		return c.ExpiresAt.UTC().Format(time.RFC3339), !c.ExpiresAt.IsZero()
	case policy.CredentialAge:
		return strconv.Itoa(int(d.now().Sub(c.IssuedAt) / (24 * time.Hour))), !c.IssuedAt.IsZero()
	case "aws:tokenissuetime":
		if c.Session != nil {
			return c.Session.IssuedAt.UTC().Format(time.RFC3339), true
		}
	}
	return "", false
}

// CallerNamed returns the caller that a principal would be: an account's root, a user, or a session
// of a role. A role is represented by a session of the given name.
func (d *Directory) CallerNamed(ctx context.Context, principal, sessionName string) (*Caller, error) {
	c := &Caller{Identity: Identity{Principal: principal, Account: arn.AccountOf(principal)}}
	if principal == arn.Root(c.Account) {
		return c, nil
	}
	if _, name, isSession := strings.Cut(principal, ":assumed-role/"); isSession {
		name, sessionName, _ = strings.Cut(name, "/")
		role, err := d.FindPrincipal(ctx, c.Account, KindRole, name)
		if err != nil {
			return nil, err
		}
		principal = role.ARN
	}
	p, err := d.store.Principal(ctx, principal)
	if errors.Is(err, ErrNoRow) {
		return nil, noSuchPrincipal(principal)
	}
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", principal, err)
	}
	if p.Kind == KindRole {
		now := d.now()
		c.Principal = SessionARN(p.ARN, sessionName)
		c.Session = &Session{RoleARN: p.ARN, Name: sessionName, IssuedAt: now,
			ExpiresAt: now.Add(defaultSession * time.Second)}
	}
	return c, nil
}
