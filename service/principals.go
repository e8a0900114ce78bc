package service

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
)

// keptARN is the ARN of a user, a role or a role's session, with its account, kind and name.
var keptARN = regexp.MustCompile(`^arn:aws:(?:iam|sts)::([0-9]{12}):(user|role|assumed-role)/(.+)$`)

// noPrincipal tells that an ARN names a user or a role who is not there, of an account whose principals are kept here: the
// given one, and each that has a principal or an access key. Other accounts', and other kinds of principals, are not known.
func (s *Service) noPrincipal(ctx context.Context, account, principal string) (bool, error) {
	m := keptARN.FindStringSubmatch(principal)
	if m == nil {
		return false, nil
	}
	if m[2] != "assumed-role" {
		if _, err := s.store.Principal(ctx, principal); !errors.Is(err, ErrNoRow) {
			return false, apierror.FromStore(err)
		}
	}
	all, err := s.store.Principals(ctx)
	if err != nil {
		return false, apierror.FromStore(err)
	}
	of := slices.DeleteFunc(all, func(p *Principal) bool { return p.Account != m[1] })
	if m[2] == "assumed-role" && slices.ContainsFunc(of, func(p *Principal) bool { return p.Kind == KindRole && p.isOf(m[3]) }) {
		return false, nil
	}
	if m[1] == account || len(of) > 0 {
		return true, nil
	}
	keys, err := s.store.AccessKeys(ctx, arn.Root(m[1]))
	return len(keys) > 0, apierror.FromStore(err)
}

// isOf tells whether ROLE/SESSION is a session of the role. A session's ARN does not have the path of its role's.
func (p *Principal) isOf(session string) bool {
	name, _, found := strings.Cut(session, "/")
	return found && name == p.Name
}
