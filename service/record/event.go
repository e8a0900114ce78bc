package record

import (
	"context"

	"github.com/verenc/kms/service/audit"
)

// Names of events: what the service does without a request, with CloudTrail's names (AWS page "Logging AWS
// KMS API calls with AWS CloudTrail").
const (
	RotateKey                = "RotateKey"
	DeleteKey                = "DeleteKey"
	DeleteExpiredKeyMaterial = "DeleteExpiredKeyMaterial"
	// CertifyDestruction is ours: CloudTrail knows no certificates.
	CertifyDestruction = "CertifyDestruction"
)

// Event is something that the service does with a key without a request.
type Event struct {
	Name    string // one of those above
	KeyARN  string
	Account string // of the key
	Region  string // of the key
}

const eventSource = "kms.amazonaws.com"

// Event runs an event and keeps a record of it, which is written before its first change. An event
// that changes nothing and does not fail has no record.
func (r *Recorder) Event(ctx context.Context, e Event, do func(context.Context) error) error {
	if !r.Enabled() {
		return do(ctx)
	}
	id, err := r.newID()
	if err != nil {
		return err
	}
	d := &draft{Context: ctx, auditor: r.auditor, record: audit.Record{
		UserIdentity: audit.UserIdentity{Type: "AWSService", AccountID: e.Account}, EventTime: r.now(),
		EventSource: eventSource, EventName: e.Name, EventType: "AwsServiceEvent", AWSRegion: e.Region,
		SourceIPAddress: eventSource, UserAgent: eventSource, EventID: id, ManagementEvent: true,
		RecipientAccountID: e.Account,
	}}
	return d.run(func(ctx context.Context) error {
		AddKey(ctx, e.KeyARN, e.Account)
		return do(ctx)
	})
}

// serverType is the type of what a server notices by itself, which is about no key. CloudTrail has none.
const serverType = "VerencServerEvent"

// ServerEvent writes a record of something that the server has noticed by itself.
func (r *Recorder) ServerEvent(ctx context.Context, name string, data audit.Object) error {
	id, err := r.newID()
	if err != nil {
		return err
	}
	return r.auditor.Append(ctx, &audit.Record{
		UserIdentity: audit.UserIdentity{Type: "AWSService"}, EventTime: r.now(),
		EventSource: commandSource, EventName: name, EventType: serverType,
		SourceIPAddress: commandSource, UserAgent: commandSource, EventID: id, ManagementEvent: true,
		AdditionalEventData: data,
	})
}
