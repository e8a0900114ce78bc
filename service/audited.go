package service

import (
	"context"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/record"
)

// Records returns what keeps the audit records of the service.
func (s *Service) Records() *record.Recorder { return s.records }

// DeliverRecords puts the records of commands that are pending into the log. Run goes on with it,
// also when that fails.
func (s *Service) DeliverRecords(ctx context.Context) { s.delivery.Deliver(ctx) }

// Audited runs an operation and keeps one record of it, as record.Recorder.Request says.
func (s *Service) Audited(ctx context.Context, c *Caller, source, op string, in any,
	do func(context.Context) (any, error)) (any, error) {
	ctx = naming(ctx, in)
	if !s.records.Enabled() {
		return do(ctx)
	}
	id, err := s.records.NewEventID()
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	c.EventID = id
	return s.records.Request(ctx, &record.Request{
		EventID: id, User: s.iam.UserIdentity(ctx, c), Account: c.Account, Source: source, Operation: op,
		ReadOnly: !changes[op], Input: in, Region: c.Region, RequestID: c.RequestID, SourceIP: c.SourceIP,
		UserAgent: c.UserAgent, Host: c.Host, TLS: c.TLS,
	}, do)
}

// addKeyToRecord adds a key to the record of what is being served.
func (s *Service) addKeyToRecord(ctx context.Context, k *Key) {
	record.AddKey(ctx, k.ARN(s.canonical), k.Account)
}

// recordEvent runs what the service does by itself with a key, and keeps a record of it.
func (s *Service) recordEvent(ctx context.Context, name string, k *Key, do func(context.Context) error) error {
	e := record.Event{Name: name, KeyARN: k.ARN(s.canonical), Account: k.Account, Region: k.Region}
	return s.records.Event(ctx, e, do)
}

// changes are the operations that are not read-only.
var changes = map[string]bool{
	"CancelKeyDeletion": true, "ConnectCustomKeyStore": true, "CreateAlias": true, "CreateCustomKeyStore": true,
	"CreateGrant": true, "CreateKey": true, "DeleteAlias": true, "DeleteCustomKeyStore": true,
	"DeleteImportedKeyMaterial": true, "DisableKey": true, "DisableKeyRotation": true,
	"DisconnectCustomKeyStore": true, "EnableKey": true, "EnableKeyRotation": true, "GetParametersForImport": true,
	"ImportKeyMaterial": true, "PutKeyPolicy": true, "ReplicateKey": true, "RetireGrant": true, "RevokeGrant": true,
	"RotateKeyOnDemand": true, "ScheduleKeyDeletion": true, "TagResource": true, "UntagResource": true,
	"UpdateAlias": true, "UpdateCustomKeyStore": true, "UpdateKeyDescription": true, "UpdatePrimaryRegion": true,
}
