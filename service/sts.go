package service

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/policy"
)

const (
	defaultSession = 3600 // seconds; AWS STS API Reference, AssumeRole, DurationSeconds
	minSession     = 900
	maxSession     = 43200
	maxSessionRole = 2048 // characters of a session policy; AssumeRole, Policy

	sessionTokenData = "verenc-kms/session/1"
	msgUnknownClient = "The security token included in the request is invalid."
)

// Session is a role that was assumed. Nothing of it is stored: it is sealed in its session token, which comes with each
// request.
type Session struct {
	RoleARN     string
	RoleID      string // unique id: a role that is made anew under the same name does not revive old sessions
	Name        string
	AccessKeyID string
	Policies    []string `json:",omitempty"` // session policies
	IssuedAt    time.Time
	ExpiresAt   time.Time
}

// sealedSession is what a session token holds.
type sealedSession struct {
	Session
	Secret []byte
}

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

// AssumeRole gives a caller whom the role trusts temporary credentials of the role.
func (s *Service) AssumeRole(ctx context.Context, c *Caller, in *AssumeRoleRequest) (*AssumeRoleResponse, error) {
	if err := checkAssumeRole(in); err != nil {
		return nil, err
	}
	role, err := s.assumable(ctx, c, in)
	if err != nil {
		return nil, err
	}
	duration := in.DurationSeconds
	if duration == 0 {
		duration = defaultSession
	}
	most := role.MaxSession
	if most == 0 {
		most = defaultSession
	}
	if c.Session != nil && duration > defaultSession {
		return nil, apierror.New(apierror.STSValidation, "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining")
	}
	if duration > most {
		return nil, apierror.New(apierror.STSValidation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	var random [40]byte
	if _, err := io.ReadFull(s.cfg.Rand, random[:]); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("draw an access key: %w", err))
	}
	defer clear(random[:])
	now := s.now()
	issued := sealedSession{Session: Session{RoleARN: role.ARN, RoleID: role.UniqueID, Name: in.RoleSessionName,
		AccessKeyID: "ASIA" + base32.StdEncoding.EncodeToString(random[:10]), IssuedAt: now, ExpiresAt: now.Add(time.Duration(duration) * time.Second)},
		Secret: base64.StdEncoding.AppendEncode(nil, random[10:])}
	if in.Policy != "" {
		issued.Policies = []string{in.Policy}
	}
	text, err := json.Marshal(issued)
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	defer clear(text)
	sealed, err := s.sealForSelf(ctx, text, sessionTokenData)
	if err != nil {
		return nil, err
	}
	return &AssumeRoleResponse{AccessKeyID: issued.AccessKeyID, SecretAccessKey: issued.Secret, SessionToken: base64.StdEncoding.EncodeToString(sealed),
		Expiration: issued.ExpiresAt, AssumedRoleARN: sessionARN(role.ARN, in.RoleSessionName), AssumedRoleID: role.UniqueID + ":" + in.RoleSessionName}, nil
}

func checkAssumeRole(in *AssumeRoleRequest) error {
	switch {
	case !roleARNPattern.MatchString(in.RoleARN):
		return apierror.New(apierror.STSValidation, "%s is invalid", in.RoleARN)
	case !sessionNamePattern.MatchString(in.RoleSessionName):
		return apierror.New(apierror.STSValidation, "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", in.RoleSessionName)
	case in.DurationSeconds != 0 && (in.DurationSeconds < minSession || in.DurationSeconds > maxSession):
		return apierror.New(apierror.STSValidation, "1 validation error detected: Value '%d' at 'durationSeconds' failed to satisfy constraint: Member must have value between %d and %d", in.DurationSeconds, minSession, maxSession)
	case len(in.Policy) > maxSessionRole:
		return apierror.New(apierror.PackedPolicyTooLarge, "The session policy has %d bytes; %d are the most that it can have.", len(in.Policy), maxSessionRole)
	case in.Policy != "":
		if _, err := policy.Parse(policy.IdentityPolicy, in.Policy); err != nil {
			return apierror.New(apierror.MalformedPolicy, "%s", err)
		}
	}
	return nil
}

// assumable finds a role that the caller may assume. One that is not there and one that does not trust the caller are not
// told apart.
func (s *Service) assumable(ctx context.Context, c *Caller, in *AssumeRoleRequest) (*Principal, error) {
	denied := apierror.New(apierror.AccessDeniedSTS, "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.Principal, in.RoleARN)
	role, err := s.store.Principal(ctx, in.RoleARN)
	if errors.Is(err, ErrNoRow) || err == nil && (role.Kind != KindRole || role.Trust == "") {
		return nil, denied
	}
	if err != nil {
		return nil, apierror.FromStore(err)
	}
	if c.Principal == arn.Root(c.Account) {
		return nil, denied // AWS STS API Reference, AssumeRole: root users can't
	}
	trust, err := s.document(policy.TrustPolicy, role.Trust)
	if err != nil {
		return nil, err
	}
	a := access{action: "sts:AssumeRole", account: role.Account, arns: []string{role.ARN}, externalID: in.ExternalID, sessionName: in.RoleSessionName}
	d, _, err := s.evaluate(ctx, c, a, func(p *policy.Policies, r *policy.Request) policy.Decision {
		p.Key = trust
		return policy.Evaluate(p, r)
	})
	if err == nil && !d.Allowed {
		return nil, denied
	}
	return role, err
}

// session opens a session token; it is unsealed once and then remembered, without its secret.
func (s *Service) session(ctx context.Context, token string) (*Session, error) {
	id := sha256.Sum256([]byte(token))
	remembered, ok := s.sessions.Get(id)
	if !ok {
		opened, err := s.openSession(ctx, token)
		if err != nil {
			return nil, err
		}
		clear(opened.Secret)
		remembered = &opened.Session
		s.sessions.Add(id, remembered)
	}
	if !s.now().Before(remembered.ExpiresAt) {
		return nil, apierror.New(apierror.ExpiredToken, "The security token included in the request is expired")
	}
	return remembered, nil
}

func (s *Service) openSession(ctx context.Context, token string) (*sealedSession, error) {
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return nil, ErrUnknownAccessKey
	}
	text, err := s.openForSelf(ctx, sealed, sessionTokenData)
	if errors.Is(err, hsm.ErrAuthentication) {
		return nil, ErrUnknownAccessKey
	}
	if err != nil {
		return nil, dependencyError(err)
	}
	defer clear(text)
	var opened sealedSession
	if err := json.Unmarshal(text, &opened); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("read a session token: %w", err))
	}
	return &opened, nil
}

// GetCallerIdentityResponse is the output of GetCallerIdentity.
type GetCallerIdentityResponse struct {
	UserID  string
	Account string
	ARN     string
}

// GetCallerIdentity tells the caller who it is; that needs no permission.
func (s *Service) GetCallerIdentity(ctx context.Context, c *Caller) (*GetCallerIdentityResponse, error) {
	w, err := s.standing(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &GetCallerIdentityResponse{UserID: w.principal.UserID, Account: c.Account, ARN: c.Principal}
	if out.UserID == "" {
		out.UserID = c.Account // of the root user
	}
	return out, nil
}
