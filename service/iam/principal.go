package iam

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
)

// PrincipalKind is what a principal is.
type PrincipalKind string

// Kinds of principals that are stored. The root principal of an account is not stored: it always
// exists.
const (
	KindUser PrincipalKind = "user"
	KindRole PrincipalKind = "role"
)

// Principal is a user or a role.
type Principal struct {
	ARN       string // arn:aws:iam::<account>:user/<path><name>, or :role/
	Account   string
	Kind      PrincipalKind
	CreatedAt time.Time
	PrincipalDetails
}

// PrincipalDetails is the part of a principal that no query asks for.
type PrincipalDetails struct {
	Name       string
	UniqueID   string            // AIDA or AROA and 16 characters; never used again
	Tags       map[string]string `json:",omitempty"`
	Policies   map[string]string `json:",omitempty"` // identity policies by name
	Boundary   string            `json:",omitempty"` // permissions boundary
	Trust      string            `json:",omitempty"` // trust policy of a role
	MaxSession int32             `json:",omitempty"` // of a role, in seconds
	// AccessKeyDays is how long the access keys of a user last that are made from now on; 0: they need not end.
	AccessKeyDays int32 `json:",omitempty"`
}

// PrincipalARN is the ARN of a user or role. A path begins and ends with a slash.
func PrincipalARN(account string, kind PrincipalKind, path, name string) string {
	return "arn:aws:iam::" + account + ":" + string(kind) + path + name
}

// kindOf is the kind of principal that an ARN names; the root of an account counts as a user.
func kindOf(principal string) PrincipalKind {
	if strings.Contains(principal, ":role/") {
		return KindRole
	}
	return KindUser
}

// Path is the part of the ARN before the name, with slashes around it.
func (p *Principal) Path() string {
	path := strings.TrimPrefix(p.ARN, PrincipalARN(p.Account, p.Kind, "", ""))
	return strings.TrimSuffix(path, p.Name)
}

// title is the kind as it is written in the names of IAM's operations.
func (k PrincipalKind) title() string {
	if k == KindRole {
		return "Role"
	}
	return "User"
}

// Principals returns all users and roles, in order of their ARNs. They are shared and must not be
// modified.
func (d *Directory) Principals(ctx context.Context) ([]*Principal, error) {
	all, err := d.store.Principals(ctx)
	if err != nil {
		return nil, fmt.Errorf("list principals: %w", err)
	}
	return all, nil
}

// FindPrincipal returns the user or role with a name, which is unique in its account.
func (d *Directory) FindPrincipal(ctx context.Context, account string, kind PrincipalKind, name string) (
	*Principal, error) {
	all, err := d.Principals(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		if p.Account == account && p.Kind == kind && p.Name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no %s %s in account %s (verenc %s list shows all; --account names another account)",
		kind, name, account, kind)
}

// localPrincipalARN is the ARN of a user, a role or a role session, with its account, kind and name.
var localPrincipalARN = regexp.MustCompile(`^arn:aws:(?:iam|sts)::([0-9]{12}):(user|role|assumed-role)/(.+)$`)

// IsMissing reports whether an ARN names a user or a role that does not exist in an account whose
// principals are stored here: the given account, and each that has a principal or an access key. Of
// other accounts, and of other kinds of principals, nothing is known.
func (d *Directory) IsMissing(ctx context.Context, account, principal string) (bool, error) {
	match := localPrincipalARN.FindStringSubmatch(principal)
	if match == nil {
		return false, nil
	}
	itsAccount, kind, name := match[1], match[2], match[3]
	if kind != "assumed-role" {
		if _, err := d.store.Principal(ctx, principal); !errors.Is(err, ErrNoRow) {
			return false, apierror.FromStore(err)
		}
	}
	all, err := d.store.Principals(ctx)
	if err != nil {
		return false, apierror.FromStore(err)
	}
	all = slices.DeleteFunc(all, func(p *Principal) bool { return p.Account != itsAccount })
	isRole := func(p *Principal) bool { return p.Kind == KindRole && p.hasSession(name) }
	if kind == "assumed-role" && slices.ContainsFunc(all, isRole) {
		return false, nil
	}
	if itsAccount == account || len(all) > 0 {
		return true, nil
	}
	keys, err := d.store.AccessKeys(ctx, arn.Root(itsAccount))
	return len(keys) > 0, apierror.FromStore(err)
}

// hasSession reports whether ROLE/SESSION is a session of the role. The ARN of a session has no path.
func (p *Principal) hasSession(session string) bool {
	name, _, found := strings.Cut(session, "/")
	return found && name == p.Name
}

// CreatePrincipal adds a user or a role. Names that differ only in case are the same (IAM API
// Reference, CreateUser).
func (d *Directory) CreatePrincipal(ctx context.Context, p *Principal) (*Principal, error) {
	created, err := p.validated()
	if err != nil {
		return nil, err
	}
	all, err := d.Principals(ctx)
	if err != nil {
		return nil, err
	}
	if old := byName(all)[p.uniqueName()]; old != nil {
		return nil, fmt.Errorf("%s %s exists already, as %s: change it with verenc apply", p.Kind, p.Name, old.ARN)
	}
	return created, d.records.Command(ctx, "Create"+p.Kind.title(), aboutPrincipal(p.ARN), created.parameters(),
		func(ctx context.Context) error { return d.insertPrincipal(ctx, created) })
}

// uniqueName is unique among all principals.
type uniqueName struct {
	account string
	kind    PrincipalKind
	lower   string
}

func (p *Principal) uniqueName() uniqueName {
	return uniqueName{p.Account, p.Kind, strings.ToLower(p.Name)}
}

func byName(all []*Principal) map[uniqueName]*Principal {
	m := make(map[uniqueName]*Principal, len(all))
	for _, p := range all {
		m[p.uniqueName()] = p
	}
	return m
}

func (d *Directory) insertPrincipal(ctx context.Context, p *Principal) error {
	var random [10]byte
	if _, err := io.ReadFull(d.rand, random[:]); err != nil {
		return fmt.Errorf("draw an id for %s: %w", p.ARN, err)
	}
	prefix := "AIDA"
	if p.Kind == KindRole {
		prefix = "AROA"
	}
	p.UniqueID, p.CreatedAt = prefix+base32.StdEncoding.EncodeToString(random[:]), d.now()
	return d.putPrincipal(ctx, p)
}

// UpdatePrincipal replaces everything about a user or a role except its ARN and its unique id.
func (d *Directory) UpdatePrincipal(ctx context.Context, p *Principal) error {
	changed, err := p.validated()
	if err != nil {
		return err
	}
	old, err := d.store.Principal(ctx, p.ARN)
	if errors.Is(err, ErrNoRow) {
		return fmt.Errorf("there is no %s any more: it was deleted meanwhile", p.ARN)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", p.ARN, err)
	}
	changed.UniqueID, changed.CreatedAt = old.UniqueID, old.CreatedAt
	return d.records.Command(ctx, "Update"+p.Kind.title(), aboutPrincipal(p.ARN), changed.parameters(),
		func(ctx context.Context) error { return d.putPrincipal(ctx, changed) })
}

func (d *Directory) putPrincipal(ctx context.Context, p *Principal) error {
	if err := d.store.PutPrincipal(ctx, p); err != nil {
		return fmt.Errorf("store %s: %w", p.ARN, err)
	}
	return nil
}

// DeletePrincipal removes a user or a role, with its access keys and certificates.
func (d *Directory) DeletePrincipal(ctx context.Context, principal string) error {
	operation := "Delete" + kindOf(principal).title()
	err := d.records.Command(ctx, operation, aboutPrincipal(principal), nil, func(ctx context.Context) error {
		return d.store.RemovePrincipal(ctx, principal)
	})
	if errors.Is(err, ErrNoRow) {
		return noSuchPrincipal(principal)
	}
	if err != nil {
		return fmt.Errorf("remove %s: %w", principal, err)
	}
	return nil
}

func noSuchPrincipal(principal string) error {
	return fmt.Errorf("there is no %s (verenc user list and verenc role list show all)", principal)
}

// aboutPrincipal is the resource of a record about a user or a role.
func aboutPrincipal(principal string) []audit.Resource {
	return []audit.Resource{{ARN: principal, AccountID: arn.AccountOf(principal),
		Type: "AWS::IAM::" + kindOf(principal).title()}}
}

// parameters are a principal in a record: everything that was asked for, under IAM's names.
func (p *Principal) parameters() audit.Object {
	o := audit.Object{{Name: "path", Value: p.Path()}}
	add := func(name string, value any, given bool) {
		if given {
			o = append(o, audit.Member{Name: name, Value: value})
		}
	}
	add("tags", p.Tags, len(p.Tags) > 0)
	add("policies", p.Policies, len(p.Policies) > 0)
	add("permissionsBoundary", p.Boundary, p.Boundary != "")
	add("assumeRolePolicyDocument", p.Trust, p.Trust != "")
	add("maxSessionDuration", p.MaxSession, p.MaxSession != 0)
	add("accessKeyDays", p.AccessKeyDays, p.AccessKeyDays != 0)
	return o
}

// differences names the fields in which two principals with the same ARN differ. Policies that
// differ only in how their JSON is written are equal.
func (p *Principal) differences(o *Principal) (fields []string) {
	add := func(field string, same bool) {
		if !same {
			fields = append(fields, field)
		}
	}
	add("tags", maps.Equal(p.Tags, o.Tags))
	names := maps.Clone(p.Policies)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, o.Policies)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		add("policies."+name, EqualJSON(p.Policies[name], o.Policies[name]))
	}
	add("boundary", EqualJSON(p.Boundary, o.Boundary))
	add("trust", EqualJSON(p.Trust, o.Trust))
	add("max_session", p.MaxSession == o.MaxSession)
	add("access_key_days", p.AccessKeyDays == o.AccessKeyDays)
	return fields
}

// EqualJSON tells whether two policies are the same but for how their JSON is written.
func EqualJSON(a, b string) bool {
	if a == b {
		return true
	}
	valueOf := func(text string) (v any, err error) {
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.UseNumber()
		err = decoder.Decode(&v)
		return v, err
	}
	x, errX := valueOf(a)
	y, errY := valueOf(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}
