package service

import (
	"context"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/service/record"
	"github.com/verenc/kms/service/span"
)

// Records returns what keeps the audit records of the service.
func (s *Service) Records() *record.Recorder { return s.records }

// DeliverRecords puts the pending records of commands into the log. Run repeats it, also after a
// failure.
func (s *Service) DeliverRecords(ctx context.Context) { s.delivery.Deliver(ctx) }

// Audited runs an operation and keeps one record of it, as record.Recorder.Request says.
func (s *Service) Audited(ctx context.Context, c *iam.Caller, source, op string, in any,
	do func(context.Context) (any, error)) (any, error) {
	if do = s.limited(c, op, do); !s.records.Enabled() {
		return s.records.Unrecorded(ctx, do)
	}
	id, err := s.records.NewEventID()
	if err != nil {
		return nil, apierror.InternalError(err)
	}
	c.EventID = id
	return s.records.Request(ctx, &record.Request{
		EventID: id, User: s.iam.UserIdentity(ctx, c), Account: c.Account, Source: source, Operation: op,
		ReadOnly: readOnly(op) && !c.Call.Changes, Input: in, Region: c.Region, RequestID: c.RequestID,
		SourceIP: c.SourceIP, UserAgent: c.UserAgent, Host: c.Host, TLS: c.TLS,
		Certificate: c.CertificateParameters(),
	}, do)
}

// addKeyToRecord adds a key to the record of what is being served.
func (s *Service) addKeyToRecord(ctx context.Context, k *Key) {
	record.AddKey(ctx, k.ARN(s.canonical), k.Account)
	span.Of(ctx).Set("aws.kms.key_id", k.ID)
	if s.cfg.MetadataAge == nil {
		return
	}
	if age := s.cfg.MetadataAge(); age > time.Second {
		record.Add(ctx, "metadataAge", age.Round(time.Second).String())
	}
}

// recorded adds a key to the record of a request that may use it, or that has been denied it, and
// returns the decision. A caller can read its account's records, so that of a denied request has no key
// of another account: it would tell that the key exists.
func (s *Service) recorded(ctx context.Context, c *iam.Caller, k *Key, decision error) error {
	if decision == nil || k.Account == c.Account {
		s.addKeyToRecord(ctx, k)
	}
	return decision
}

// recordEvent runs what the service does with a key without a request, and keeps a record of it.
func (s *Service) recordEvent(ctx context.Context, name string, k *Key, do func(context.Context) error) error {
	e := record.Event{Name: name, KeyARN: k.ARN(s.canonical), Account: k.Account, Region: k.Region}
	return s.records.Event(ctx, e, do)
}
