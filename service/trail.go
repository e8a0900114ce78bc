package service

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

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
func (s *Service) Audited(ctx context.Context, c *Caller, source, op string, in any, do func(context.Context) (any, error)) (any, error) {
	if s.cfg.Audit == NoAudit {
		return do(ctx)
	}
	id, err := s.newKeyID(false)
	if err != nil {
		return nil, internal(err)
	}
	c.EventID = id
	t := &trail{auditor: s.cfg.Audit, record: s.newRecord(c, source, op, in)}
	out, err := do(context.WithValue(ctx, trailKey{}, t))
	if failed := t.finish(ctx, err); failed != nil {
		if secret, ok := out.(interface{ Wipe() }); ok {
			secret.Wipe()
		}
		return nil, internal(failed)
	}
	return out, err
}

// finish writes what has not been written yet.
func (t *trail) finish(ctx context.Context, outcome error) error {
	if t.written && outcome == nil {
		return nil
	}
	r := t.record
	if e := new(Error); outcome != nil {
		r.ErrorCode, r.ErrorMessage = string(CodeInternal), msgInternal
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
		return internal(err)
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
	arn := s.arns.key(k)
	if slices.ContainsFunc(t.record.Resources, func(r audit.Resource) bool { return r.ARN == arn }) {
		return
	}
	t.record.Resources = append(t.record.Resources, audit.Resource{ARN: arn, AccountID: k.Account, Type: "AWS::KMS::Key"})
	t.record.RecipientAccountID = k.Account
}

// note adds a member to additionalEventData.
func note(ctx context.Context, name string, value any) {
	if t := trailOf(ctx); t != nil {
		t.record.AdditionalEventData = append(t.record.AdditionalEventData, audit.Member{Name: name, Value: value})
	}
}

func (s *Service) newRecord(c *Caller, source, op string, in any) audit.Record {
	r := audit.Record{
		UserIdentity: audit.UserIdentity{Type: "IAMUser", ARN: c.Principal, AccountID: c.Account, AccessKeyID: c.AccessKeyID},
		EventTime:    s.now(), EventSource: source, EventName: op, AWSRegion: c.Region, SourceIPAddress: c.SourceIP, UserAgent: c.UserAgent,
		RequestParameters: parametersOf(in), RequestID: c.RequestID, EventID: c.EventID, ReadOnly: !changes[op],
		ManagementEvent: true, RecipientAccountID: c.Account,
	}
	switch {
	case c.Principal == rootARN(c.Account):
		r.UserIdentity.Type = "Root"
	case c.Session != nil:
		r.UserIdentity.Type = "AssumedRole"
		r.UserIdentity.SessionContext = &audit.SessionContext{CreationDate: c.Session.IssuedAt,
			Issuer: &audit.SessionIssuer{Type: "Role", ARN: c.Session.RoleARN, AccountID: c.Account}}
	default:
		r.UserIdentity.UserName = c.Principal[strings.LastIndex(c.Principal, "/")+1:]
	}
	if c.TLS != nil {
		r.TLSDetails = &audit.TLSDetails{TLSVersion: tls.VersionName(c.TLS.Version), CipherSuite: tls.CipherSuiteName(c.TLS.CipherSuite),
			ClientProvidedHostHeader: c.Host}
	}
	return r
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

// parametersOf gives the members of a request that may be in a record: no blobs, but for ciphertexts' lengths, and nothing
// that is marked as a secret.
func parametersOf(in any) audit.Object {
	v := reflect.ValueOf(in)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	var o audit.Object
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if v.Field(i).IsZero() || secretMember(f) {
			continue
		}
		o = append(o, audit.Member{Name: strings.ToLower(f.Name[:1]) + f.Name[1:], Value: parameter(v.Field(i))})
	}
	return o
}

// secretShapes are shapes of members that no record may have.
var secretShapes = []string{"PlaintextType", "CiphertextType", "KeyStorePasswordType", "GrantTokenType", "GrantTokenList", "RecipientInfo",
	"XksProxyAuthenticationCredentialType"}

func secretMember(f reflect.StructField) bool {
	return slices.Contains(secretShapes, f.Tag.Get("shape")) || f.Tag.Get("audit") == "-"
}

func parameter(v reflect.Value) any {
	switch x := v.Interface().(type) {
	case Timestamp:
		return time.Time(x).UTC().Format(time.RFC3339)
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case *GrantConstraints:
		return parametersOf(x)
	}
	return v.Interface()
}
