package iam

import (
	"context"
	"errors"
	"regexp"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

// Actions are those of AWS STS that policies decide on.
func Actions() []string {
	return []string{"sts:AssumeRole", "sts:AssumeRoleWithWebIdentity", "sts:TagSession"}
}

// Limits of AssumeRole (AWS STS API Reference, DurationSeconds and Policy).
const (
	defaultSession   = 3600 // seconds
	minSession       = 900
	maxSession       = 43200
	maxSessionPolicy = 2048 // characters
	// maxSessionTags is for keys and values together. Each request brings them, in a header.
	maxSessionTags = 4096 // bytes
)

// AssumeRoleRequest is the input of AssumeRole (AWS STS API Reference).
type AssumeRoleRequest struct {
	RoleARN         string
	RoleSessionName string
	Policy          string
	DurationSeconds int32
	ExternalID      string
}

// TemporaryCredential is an access key that is valid with its session token only, and until it expires.
type TemporaryCredential struct {
	Credential
	SessionToken string
	Expiration   time.Time
}

// AssumeRoleResponse is the output of AssumeRole.
type AssumeRoleResponse struct {
	TemporaryCredential
	AssumedRoleARN   string
	AssumedRoleID    string
	PackedPolicySize int // percent; 0 without a policy and tags
}

var (
	roleARNPattern     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}$`)
	sessionNamePattern = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// AWS's messages.
const (
	msgInvalidSessionName = "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: " +
		"Member must satisfy regular expression pattern: [\\w+=,.@-]*"
	msgInvalidDuration = "1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: " +
		"Member must have value between %d and %d"
	msgChainedTooLong = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
	msgTooLong        = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
	msgPolicyTooLarge = "The session policy has %d bytes; %d are the most that it can have."
	msgTagsTooLarge   = "The session tags have %d bytes; %d are the most that they can have."
	msgMayNotAssume   = "User: %s is not authorized to perform: %s on resource: %s"
)

// AssumeRole gives temporary credentials of a role to a caller whom the role trusts.
func (d *Directory) AssumeRole(ctx context.Context, c *Caller, in *AssumeRoleRequest) (*AssumeRoleResponse, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	role, err := d.trustingRole(ctx, c, in)
	if err != nil {
		return nil, err
	}
	duration, err := sessionDuration(c, role, in)
	if err != nil {
		return nil, err
	}
	var more Session
	if by := c.Behind(); Traced(by) { // or it is not known who is behind this session, either
		more.AssumedBy = by
	}
	more.Tags, more.TransitiveTags = c.Session.passedOn()
	return d.issueRoleSession(ctx, role, in, duration, &more)
}

// issueRoleSession makes temporary credentials of a role. more has what further members the session is to have.
func (d *Directory) issueRoleSession(ctx context.Context, role *Principal, in *AssumeRoleRequest,
	duration time.Duration, more *Session) (*AssumeRoleResponse, error) {
	ofTags := 0
	for key, value := range more.Tags {
		ofTags += len(key) + len(value)
	}
	if ofTags > maxSessionTags {
		return nil, apierror.New(apierror.PackedPolicyTooLarge, msgTagsTooLarge, ofTags, maxSessionTags)
	}
	more.RoleARN, more.RoleID, more.Name = role.ARN, role.UniqueID, in.RoleSessionName
	if in.Policy != "" {
		more.Policies = []string{in.Policy}
	}
	issued, err := d.issue(ctx, more, d.now().Add(duration))
	if err != nil {
		return nil, err
	}
	return &AssumeRoleResponse{TemporaryCredential: *issued, AssumedRoleARN: SessionARN(role.ARN, in.RoleSessionName),
		AssumedRoleID:    role.UniqueID + ":" + in.RoleSessionName,
		PackedPolicySize: packedPolicySize(len(in.Policy), ofTags)}, nil
}

// packedPolicySize is how much of the room for a session policy or for tags is used, in percent; 0 without any.
func packedPolicySize(policyBytes, tagBytes int) int {
	percent := func(bytes, room int) int { return (bytes*100 + room - 1) / room }
	return max(percent(policyBytes, maxSessionPolicy), percent(tagBytes, maxSessionTags))
}

// issue makes temporary credentials for a session.
func (d *Directory) issue(ctx context.Context, s *Session, expires time.Time) (*TemporaryCredential, error) {
	created, err := d.newCredential("ASIA")
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	s.AccessKeyID, s.IssuedAt, s.ExpiresAt = created.AccessKeyID, d.now(), expires
	token, err := d.sealSession(ctx, &sealedSession{Session: *s, Secret: created.SecretAccessKey})
	if err != nil {
		return nil, err
	}
	return &TemporaryCredential{Credential: *created, SessionToken: token, Expiration: expires}, nil
}

func (in *AssumeRoleRequest) check() error {
	switch {
	case !roleARNPattern.MatchString(in.RoleARN):
		return apierror.New(apierror.STSValidation, "%s is invalid", in.RoleARN)
	case !sessionNamePattern.MatchString(in.RoleSessionName):
		return apierror.New(apierror.STSValidation, msgInvalidSessionName, in.RoleSessionName)
	case in.DurationSeconds != 0 && (in.DurationSeconds < minSession || in.DurationSeconds > maxSession):
		return apierror.New(apierror.STSValidation, msgInvalidDuration, in.DurationSeconds, minSession, maxSession)
	case len(in.Policy) > maxSessionPolicy:
		return apierror.New(apierror.PackedPolicyTooLarge, msgPolicyTooLarge, len(in.Policy), maxSessionPolicy)
	case in.Policy != "":
		if _, err := policy.Parse(policy.IdentityPolicy, in.Policy); err != nil {
			return apierror.New(apierror.MalformedPolicy, "%s", err)
		}
	}
	return nil
}

// sessionDuration returns how long a session is to last.
func sessionDuration(c *Caller, role *Principal, in *AssumeRoleRequest) (time.Duration, error) {
	seconds, most := in.DurationSeconds, role.MaxSession
	if seconds == 0 {
		seconds = defaultSession
	}
	if most == 0 {
		most = defaultSession
	}
	switch {
	case c.Session.ofRole() && seconds > defaultSession:
		return 0, apierror.New(apierror.STSValidation, msgChainedTooLong)
	case seconds > most:
		return 0, apierror.New(apierror.STSValidation, msgTooLong)
	}
	return time.Duration(seconds) * time.Second, nil
}

// trustingRole returns the role if its trust policy lets the caller assume it and, if the caller's session passes tags
// on, lets it set them. The answer does not tell a role that does not exist from one that does not trust the caller.
func (d *Directory) trustingRole(ctx context.Context, c *Caller, in *AssumeRoleRequest) (*Principal, error) {
	denied := apierror.New(apierror.AccessDeniedSTS, msgMayNotAssume, c.Principal, "sts:AssumeRole", in.RoleARN)
	role, trust, err := d.roleWithTrust(ctx, in.RoleARN, denied)
	if err != nil {
		return nil, err
	}
	if c.Principal == arn.Root(c.Account) {
		return nil, denied // AWS STS API Reference, AssumeRole: root users can't
	}
	if c.BreakGlass != "" {
		return nil, denied // the session of a role would outlast the opening
	}
	own, err := d.CallerPolicies(ctx, c)
	if err != nil {
		return nil, err
	}
	guards, err := d.GuardsOver(ctx, c.Account, role.Account)
	if err != nil {
		return nil, err
	}
	tags, _ := c.Session.passedOn()
	may := func(action string) bool {
		return policy.Evaluate(
			&policy.Policies{Key: trust, Identity: own.Identity, Boundary: own.Boundary, Session: own.Session,
				Guard: guards},
			&policy.Request{Action: action, CrossAccount: true, Resources: []string{role.ARN},
				ResourceAccount: role.Account, Principal: &own.Principal, RequestTags: tags,
				Lookup: d.assumeRoleConditions(c, in)}).Allowed
	}
	if !may("sts:AssumeRole") {
		return nil, denied
	}
	// AWS page "Passing session tags in AWS STS": every role of a chain must allow the tags.
	if len(tags) > 0 && !may("sts:TagSession") {
		return nil, apierror.New(apierror.AccessDeniedSTS, msgMayNotAssume, c.Principal, "sts:TagSession", in.RoleARN)
	}
	return role, nil
}

// roleWithTrust returns a role and its trust policy; denied if there is none.
func (d *Directory) roleWithTrust(ctx context.Context, roleARN string, denied error) (
	*Principal, *policy.Document, error) {
	role, err := d.store.Principal(ctx, roleARN)
	if errors.Is(err, ErrNoRow) || err == nil && (role.Kind != KindRole || role.Trust == "") {
		return nil, nil, denied
	}
	if err != nil {
		return nil, nil, apierror.FromStore(err)
	}
	trust, err := d.ParsedPolicy(policy.TrustPolicy, role.Trust)
	return role, trust, err
}

// assumeRoleConditions gives the values of condition keys for AssumeRole (AWS page "Actions,
// resources, and condition keys for AWS Security Token Service").
func (d *Directory) assumeRoleConditions(c *Caller, in *AssumeRoleRequest) func([]string, string) []string {
	return func(values []string, key string) []string {
		switch key {
		case "sts:externalid":
			return appendNonEmpty(values, in.ExternalID)
		case "sts:rolesessionname":
			return appendNonEmpty(values, in.RoleSessionName)
		case policy.Approvals:
			return append(values, "0") // nobody can approve of a session
		case "sts:transitivetagkeys":
			_, transitive := c.Session.passedOn()
			return append(values, transitive...)
		}
		values, _ = d.GlobalConditions(values, c, key)
		return values
	}
}

// GetCallerIdentityResponse is the output of GetCallerIdentity.
type GetCallerIdentityResponse struct {
	UserID  string
	Account string
	ARN     string
}

// GetCallerIdentity tells the caller who it is, which needs no permission.
func (d *Directory) GetCallerIdentity(ctx context.Context, c *Caller) (*GetCallerIdentityResponse, error) {
	own, err := d.CallerPolicies(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &GetCallerIdentityResponse{UserID: own.Principal.UserID, Account: c.Account, ARN: c.Principal}
	if out.UserID == "" {
		out.UserID = c.Account // of the root user
	}
	return out, nil
}
