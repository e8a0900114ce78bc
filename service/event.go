package service

import (
	"context"
	"errors"

	"github.com/verenc/kms/service/audit"
)

// Events are what the service does by itself, with CloudTrail's names (AWS page "Logging AWS KMS API calls with AWS
// CloudTrail").
const (
	eventRotate = "RotateKey"
	eventDelete = "DeleteKey"
	eventExpire = "DeleteExpiredKeyMaterial"
)

// recordEvent runs what the service does by itself with a key, and keeps a record of it, written before its first change. What
// changes nothing, and does not fail, has none.
func (s *Service) recordEvent(ctx context.Context, name string, k *Key, do func(context.Context) error) error {
	if s.cfg.Audit == NoAudit {
		return do(ctx)
	}
	id, err := s.newKeyID(false)
	if err != nil {
		return err
	}
	return s.record(ctx, audit.Record{
		UserIdentity: audit.UserIdentity{Type: "AWSService", AccountID: k.Account}, EventTime: s.now(), EventSource: "kms.amazonaws.com",
		EventName: name, EventType: "AwsServiceEvent", AWSRegion: k.Region, SourceIPAddress: "kms.amazonaws.com", UserAgent: "kms.amazonaws.com",
		EventID: id, ManagementEvent: true, RecipientAccountID: k.Account,
	}, func(ctx context.Context) error {
		s.addKeyToRecord(ctx, k)
		return do(ctx)
	})
}

// record runs what no request asks for. Its record is written before its first change, or when it fails.
func (s *Service) record(ctx context.Context, r audit.Record, do func(context.Context) error) error {
	t := &trail{auditor: s.cfg.Audit, record: r}
	ctx = context.WithValue(ctx, trailKey{}, t)
	err := do(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(err, t.finish(ctx, err))
}
