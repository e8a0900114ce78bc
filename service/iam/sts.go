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

// Limits of AssumeRole (AWS STS API Reference, DurationSeconds and Policy).
const (
	defaultSession   = 3600 // seconds
	minSession       = 900
	maxSession       = 43200
	maxSessionPolicy = 2048 // characters
)

// AssumeRoleRequest is the input of AssumeRole (AWS STS API Reference).
type AssumeRoleRequest struct {
	RoleARN         string
	RoleSessionName string
	Policy          string
	DurationSeconds int32
	ExternalID      string
}

// AssumeRoleResponse is the output of AssumeRole.
type AssumeRoleResponse struct {
	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    string
	Expiration      time.Time
	AssumedRoleARN  string
	AssumedRoleID   string
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
	msgMayNotAssume   = "User: %s is not authorized to perform: sts:AssumeRole on resource: %s"
)

// AssumeRole gives temporary credentials of a role to a caller whom the role trusts.
func (d *Directory) AssumeRole(ctx context.Context, c *Caller, in *AssumeRoleRequest) (*AssumeRoleResponse, error) {
	if err := checkAssumeRole(in); err != nil {
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
	created, err := d.newCredential("ASIA")
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	now := d.now()
	issued := sealedSession{Session: Session{RoleARN: role.ARN, RoleID: role.UniqueID, Name: in.RoleSessionName,
		AccessKeyID: created.AccessKeyID, IssuedAt: now, ExpiresAt: now.Add(duration)}, Secret: created.SecretAccessKey}
	if in.Policy != "" {
		issued.Policies = []string{in.Policy}
	}
	token, err := d.sealSession(ctx, &issued)
	if err != nil {
		return nil, err
	}
	return &AssumeRoleResponse{AccessKeyID: created.AccessKeyID, SecretAccessKey: created.SecretAccessKey,
		SessionToken: token, Expiration: issued.ExpiresAt, AssumedRoleARN: SessionARN(role.ARN, in.RoleSessionName),
		AssumedRoleID: role.UniqueID + ":" + in.RoleSessionName}, nil
}

func checkAssumeRole(in *AssumeRoleRequest) error {
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
	case c.Session != nil && seconds > defaultSession:
		return 0, apierror.New(apierror.STSValidation, msgChainedTooLong)
	case seconds > most:
		return 0, apierror.New(apierror.STSValidation, msgTooLong)
	}
	return time.Duration(seconds) * time.Second, nil
}

// trustingRole returns the role if its trust policy lets the caller assume it. The answer does not
// tell a role that does not exist from one that does not trust the caller.
func (d *Directory) trustingRole(ctx context.Context, c *Caller, in *AssumeRoleRequest) (*Principal, error) {
	denied := apierror.New(apierror.AccessDeniedSTS, msgMayNotAssume, c.Principal, in.RoleARN)
	role, err := d.store.Principal(ctx, in.RoleARN)
	if errors.Is(err, ErrNoRow) || err == nil && (role.Kind != KindRole || role.Trust == "") {
		return nil, denied
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if c.Principal == arn.Root(c.Account) {
		return nil, denied // AWS STS API Reference, AssumeRole: root users can't
	}
	if c.BreakGlass != "" {
		return nil, denied // the session of a role would outlast the opening
	}
	trust, err := d.ParsedPolicy(policy.TrustPolicy, role.Trust)
	if err != nil {
		return nil, err
	}
	own, err := d.CallerPolicies(ctx, c)
	if err != nil {
		return nil, err
	}
	decision := policy.Evaluate(
		&policy.Policies{Key: trust, Identity: own.Identity, Boundary: own.Boundary, Session: own.Session},
		&policy.Request{Action: "sts:AssumeRole", CrossAccount: true, Resources: []string{role.ARN},
			ResourceAccount: role.Account, Principal: &own.Principal, Lookup: d.assumeRoleConditions(c, in)})
	if !decision.Allowed {
		return nil, denied
	}
	return role, nil
}

// assumeRoleConditions gives the values of condition keys for AssumeRole (AWS page "Actions,
// resources, and condition keys for AWS Security Token Service").
func (d *Directory) assumeRoleConditions(c *Caller, in *AssumeRoleRequest) func([]string, string) []string {
	return func(values []string, key string) []string {
		value, _ := d.GlobalCondition(c, key)
		switch key {
		case "sts:externalid":
			value = in.ExternalID
		case "sts:rolesessionname":
			value = in.RoleSessionName
		}
		if value == "" {
			return values
		}
		return append(values, value)
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
