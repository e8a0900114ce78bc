package iam

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
)

// sessionTokenData is the additional data that binds a sealed session to this use.
const sessionTokenData = "verenc-kms/session/1"

// Session is a role that was assumed, or a user with temporary credentials. It is not stored: it is sealed in its
// session token, which each request brings.
type Session struct {
	RoleARN string
	// UserARN is the user, or the root user, to whom GetSessionToken gave the session with an access key; empty for
	// a role.
	UserARN   string `json:",omitempty"`
	AskedWith string `json:",omitempty"` // id of that access key
	// RoleID is the unique id of the role or user: a new one of the same name does not revive the sessions of the
	// old one.
	RoleID      string
	Name        string
	AccessKeyID string
	Policies    []string `json:",omitempty"` // session policies
	// AssumedBy are the stored principals, web identities and mappings of certificates who assumed the role, by way of
	// which others if roles are chained. Empty for a role: it is not known; see Traced.
	AssumedBy []string `json:",omitempty"`
	IssuedAt  time.Time
	ExpiresAt time.Time

	Tags           map[string]string `json:",omitempty"` // session tags
	TransitiveTags []string          `json:",omitempty"` // keys of Tags that sessions of further roles have, too
	Federation     *Federation       `json:",omitempty"` // of AssumeRoleWithWebIdentity

	// Opening is that of the sealed credential which the session is of, instead of a role's.
	Opening string `json:",omitempty"`
}

// ofRole reports whether a session is one of a role.
func (s *Session) ofRole() bool { return s != nil && s.UserARN == "" && s.Opening == "" }

// isOf reports whether a session belongs to this role or user, and not to an earlier one of the same name.
// The session of a client certificate has no unique id: it belongs to every role of its name.
func (s *Session) isOf(p *Principal) bool { return s.RoleID == "" || s.RoleID == p.UniqueID }

// sealedSession is what a session token holds.
type sealedSession struct {
	Session
	Secret []byte
}

// SessionARN is the ARN of a role session (AWS page "IAM identifiers").
func SessionARN(roleARN, session string) string {
	role := roleARN[strings.LastIndex(roleARN, "/")+1:]
	return "arn:aws:sts::" + arn.AccountOf(roleARN) + ":assumed-role/" + role + "/" + session
}

// sealSession makes the token of a session.
func (d *Directory) sealSession(ctx context.Context, s *sealedSession) (token string, err error) {
	text, err := json.Marshal(s)
	if err != nil {
		return "", apierror.InternalError(err)
	}
	defer clear(text)
	sealed, err := d.sealer.Seal(ctx, text, sessionTokenData)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// session returns the session of a token. A token is opened once; then its session is kept in
// memory, without its secret.
func (d *Directory) session(ctx context.Context, token string) (*Session, error) {
	id := sha256.Sum256([]byte(token))
	session, ok := d.sessions.Get(id)
	if !ok {
		opened, err := d.openSession(ctx, token)
		if err != nil {
			return nil, err
		}
		clear(opened.Secret)
		session = &opened.Session
		d.sessions.Add(id, session)
	}
	if !d.now().Before(session.ExpiresAt) {
		return nil, apierror.New(apierror.ExpiredToken, msgExpiredToken)
	}
	return session, nil
}

func (d *Directory) openSession(ctx context.Context, token string) (*sealedSession, error) {
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return nil, ErrUnknownCredential
	}
	text, err := d.sealer.Open(ctx, sealed, sessionTokenData)
	if errors.Is(err, ErrNotAuthentic) {
		return nil, ErrUnknownCredential
	}
	if err != nil {
		return nil, err
	}
	defer clear(text)
	var opened sealedSession
	if err := json.Unmarshal(text, &opened); err != nil {
		return nil, apierror.InternalError(fmt.Errorf("read a session token: %w", err))
	}
	return &opened, nil
}
