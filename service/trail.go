package service

import (
	"context"
	"crypto/tls"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
)

// Auditor keeps records; *audit.Log is one. Append returns when the record is durable, or fails.
type Auditor interface {
	Append(ctx context.Context, r *audit.Record) error
}

// NoAudit is the Auditor of a service that keeps no records, by its owner's wish.
var NoAudit Auditor = noAudit{}

type noAudit struct{}

func (noAudit) Append(context.Context, *audit.Record) error { return nil }

// trail is the record of a request while it is being served. The request's own goroutine alone uses it.
type trail struct {
	auditor Auditor
	record  audit.Record
	written bool
}

type trailKey struct{}

func trailOf(ctx context.Context) *trail {
	t, _ := ctx.Value(trailKey{}).(*trail)
	return t
}

// Audited runs an operation and keeps one record of it, whatever its outcome. A change is recorded before it is made
// (see auditedStore), everything else before its answer is given: without a record there is no answer. Only a change that
// fails after its record was written gets a second one, which corrects it.
//
// A request whose sender is not known, since its signature or certificate is none of ours, has no record, as in CloudTrail:
// nothing that it says of itself is proven, and anybody could fill the log with it. It has a line in the server's log.
func (s *Service) Audited(ctx context.Context, c *Caller, source, op string, in any, do func(context.Context) (any, error)) (any, error) {
	ctx = naming(ctx, in)
	if s.cfg.Audit == NoAudit {
		return do(ctx)
	}
	id, err := s.newKeyID(false)
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	c.EventID = id
	t := &trail{auditor: s.cfg.Audit, record: s.newRecord(ctx, c, source, op, in)}
	out, err := t.run(ctx, do)
	if failed := t.finish(ctx, err); failed != nil {
		if secret, ok := out.(interface{ Wipe() }); ok {
			secret.Wipe()
		}
		return nil, apierror.InternalError(failed)
	}
	return out, err
}

// run runs the operation. One that panics gets its record, and goes on to panic.
func (t *trail) run(ctx context.Context, do func(context.Context) (any, error)) (out any, err error) {
	panicked := true
	defer func() {
		if panicked {
			_ = t.finish(ctx, errPanicked) // there is no answer in any case
		}
	}()
	out, err = do(context.WithValue(ctx, trailKey{}, t))
	panicked = false
	return out, err
}

var errPanicked = errors.New("the operation panicked")

// finish writes what has not been written yet.
func (t *trail) finish(ctx context.Context, outcome error) error {
	if t.written && outcome == nil {
		return nil
	}
	r := t.record
	if e := new(apierror.Error); outcome != nil {
		r.ErrorCode, r.ErrorMessage = string(apierror.Internal), apierror.MessageInternal
		if r.EventType == commandType { // whose operator may know
			r.ErrorMessage = outcome.Error()
		}
		if errors.As(outcome, &e) {
			r.ErrorCode, r.ErrorMessage = string(e.Code), e.Message
		}
	}
	if t.written {
		r.AdditionalEventData = append(slices.Clone(r.AdditionalEventData), audit.Member{Name: "corrects", Value: r.EventID})
		r.EventID += "-failed"
	}
	// A client that goes away must not keep its request out of the log.
	return t.auditor.Append(context.WithoutCancel(ctx), &r)
}

// beforeChange writes the record of a change that is about to be made.
func beforeChange(ctx context.Context) error {
	t := trailOf(ctx)
	if t == nil || t.written {
		return nil
	}
	if err := t.auditor.Append(context.WithoutCancel(ctx), &t.record); err != nil {
		return apierror.InternalError(err)
	}
	t.written = true
	return nil
}

// noteKey adds a key to the request's record.
func (s *Service) noteKey(ctx context.Context, k *Key) {
	t := trailOf(ctx)
	if t == nil {
		return
	}
	keyARN := k.ARN(s.canonical)
	if slices.ContainsFunc(t.record.Resources, func(r audit.Resource) bool { return r.ARN == keyARN }) {
		return
	}
	if s.cfg.MetadataAge != nil {
		if age := s.cfg.MetadataAge(); age > time.Second {
			note(ctx, "metadataAge", age.Round(time.Second).String())
		}
	}
	t.record.Resources = append(t.record.Resources, audit.Resource{ARN: keyARN, AccountID: k.Account, Type: "AWS::KMS::Key"})
	t.record.RecipientAccountID = k.Account
}

// note adds a member to additionalEventData. Only ReEncrypt notes one twice: for its source, then for its destination.
func note(ctx context.Context, name string, value any) {
	t := trailOf(ctx)
	if t == nil {
		return
	}
	for i := range t.record.AdditionalEventData {
		if m := &t.record.AdditionalEventData[i]; m.Name == name {
			suffix := strings.ToUpper(name[:1]) + name[1:]
			m.Name, name = "source"+suffix, "destination"+suffix
		}
	}
	t.record.AdditionalEventData = append(t.record.AdditionalEventData, audit.Member{Name: name, Value: value})
}

func (s *Service) newRecord(ctx context.Context, c *Caller, source, op string, in any) audit.Record {
	r := audit.Record{
		UserIdentity: s.userIdentity(ctx, c),
		EventTime:    s.now(), EventSource: source, EventName: op, AWSRegion: c.Region, SourceIPAddress: c.SourceIP, UserAgent: c.UserAgent,
		RequestParameters: parametersOf(in), RequestID: c.RequestID, EventID: c.EventID, ReadOnly: !changes[op],
		ManagementEvent: true, RecipientAccountID: c.Account,
	}
	if c.TLS != nil {
		r.TLSDetails = &audit.TLSDetails{TLSVersion: tls.VersionName(c.TLS.Version), CipherSuite: tls.CipherSuiteName(c.TLS.CipherSuite),
			ClientProvidedHostHeader: c.Host}
	}
	return r
}

// userIdentity says who called (AWS page "CloudTrail userIdentity element"). The unique id of a principal that can't be
// looked up is left out: the record is more than it.
func (s *Service) userIdentity(ctx context.Context, c *Caller) audit.UserIdentity {
	u := audit.UserIdentity{Type: "IAMUser", ARN: c.Principal, AccountID: c.Account, AccessKeyID: c.AccessKeyID}
	if c.Principal == arn.Root(c.Account) {
		u.Type, u.PrincipalID = "Root", c.Account
		return u
	}
	issuer := c.Principal
	if c.Session != nil {
		issuer = c.Session.RoleARN
	}
	name, uniqueID := issuer[strings.LastIndex(issuer, "/")+1:], ""
	if p, err := s.store.Principal(ctx, issuer); err == nil {
		uniqueID = p.UniqueID
	}
	if c.Session == nil {
		u.UserName, u.PrincipalID = name, uniqueID
		return u
	}
	u.Type = "AssumedRole"
	if uniqueID != "" {
		u.PrincipalID = uniqueID + ":" + c.Session.Name
	}
	u.SessionContext = &audit.SessionContext{CreationDate: c.Session.IssuedAt,
		Issuer: &audit.SessionIssuer{Type: "Role", PrincipalID: uniqueID, ARN: issuer, AccountID: c.Account, UserName: name}}
	return u
}

// changes are the operations that are not read-only.
var changes = map[string]bool{
	"CancelKeyDeletion": true, "ConnectCustomKeyStore": true, "CreateAlias": true, "CreateCustomKeyStore": true, "CreateGrant": true,
	"CreateKey": true, "DeleteAlias": true, "DeleteCustomKeyStore": true, "DeleteImportedKeyMaterial": true, "DisableKey": true,
	"DisableKeyRotation": true, "DisconnectCustomKeyStore": true, "EnableKey": true, "EnableKeyRotation": true, "GetParametersForImport": true,
	"ImportKeyMaterial": true, "PutKeyPolicy": true, "ReplicateKey": true, "RetireGrant": true, "RevokeGrant": true, "RotateKeyOnDemand": true,
	"ScheduleKeyDeletion": true, "TagResource": true, "UntagResource": true, "UpdateAlias": true, "UpdateCustomKeyStore": true,
	"UpdateKeyDescription": true, "UpdatePrimaryRegion": true,
}

// parametersOf gives the members of a request that may be in a record: none whose shape is a secret's, nor one of a
// plaintext or a ciphertext.
func parametersOf(in any) audit.Object {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	var o audit.Object
	for _, m := range recordedMembers(v.Type()) {
		if f := v.Field(m.index); !f.IsZero() {
			o = append(o, audit.Member{Name: m.name, Value: parameter(f)})
		}
	}
	return o
}

// recordedMember is a member of a request that may be in a record.
type recordedMember struct {
	index int
	name  string // in CloudTrail's spelling
}

var membersOfTypes sync.Map // reflect.Type to []recordedMember

func recordedMembers(t reflect.Type) []recordedMember {
	if known, ok := membersOfTypes.Load(t); ok {
		return known.([]recordedMember)
	}
	var members []recordedMember
	for i := range t.NumField() {
		if f := t.Field(i); !slices.Contains(secretShapes, f.Tag.Get("shape")) {
			members = append(members, recordedMember{i, strings.ToLower(f.Name[:1]) + f.Name[1:]})
		}
	}
	membersOfTypes.Store(t, members)
	return members
}

// secretShapes are shapes of members that no record may have.
var secretShapes = []string{"PlaintextType", "CiphertextType", "KeyStorePasswordType", "GrantTokenType", "GrantTokenList", "RecipientInfo",
	"XksProxyAuthenticationCredentialType"}

func parameter(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Timestamp:
		return time.Time(x).UTC().Format(time.RFC3339)
	case *GrantConstraints:
		return parametersOf(x)
	case []Tag:
		tags := make([]audit.Object, len(x))
		for i := range x {
			tags[i] = parametersOf(x[i])
		}
		return tags
	default:
		return x
	}
}
