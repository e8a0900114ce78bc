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
	t := &trail{auditor: s.cfg.Audit, record: audit.Record{
		UserIdentity: audit.UserIdentity{Type: "AWSService", AccountID: k.Account}, EventTime: s.now(), EventSource: "kms.amazonaws.com",
		EventName: name, EventType: "AwsServiceEvent", AWSRegion: k.Region, SourceIPAddress: "kms.amazonaws.com", UserAgent: "kms.amazonaws.com",
		EventID: id, ManagementEvent: true, RecipientAccountID: k.Account,
	}}
	ctx = context.WithValue(ctx, trailKey{}, t)
	s.noteKey(ctx, k)
	if err = do(ctx); err == nil {
		return nil
	}
	return errors.Join(err, t.finish(ctx, err))
}
