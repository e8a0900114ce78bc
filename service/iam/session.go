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

// Session is a role that was assumed. It is not stored: it is sealed in its session token, which
// each request brings.
type Session struct {
	RoleARN     string
	RoleID      string // unique id: a new role of the same name does not revive the sessions of the old one
	Name        string
	AccessKeyID string
	Policies    []string `json:",omitempty"` // session policies
	IssuedAt    time.Time
	ExpiresAt   time.Time
	// Opening is that of the sealed credential which the session is of, instead of a role's.
	Opening string `json:",omitempty"`
}

// isOf reports whether a session belongs to this role, and not to an earlier one of the same name.
// The session of a client certificate has no unique id: it belongs to every role of its name.
func (s *Session) isOf(role *Principal) bool { return s.RoleID == "" || s.RoleID == role.UniqueID }

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
		return nil, apierror.New(apierror.ExpiredToken, "The security token included in the request is expired")
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
