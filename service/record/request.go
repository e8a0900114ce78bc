package record

import (
	"context"
	"crypto/tls"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
)

// Request is what is known of a request before it is served.
type Request struct {
	EventID   string
	User      audit.UserIdentity
	Account   string // of the caller
	Source    string // e.g. kms.amazonaws.com
	Operation string
	ReadOnly  bool
	Input     any // the decoded request: see Parameters

	Region    string
	RequestID string
	SourceIP  string
	UserAgent string
	Host      string               // as the client named the server
	TLS       *tls.ConnectionState // nil without TLS
	// Certificate describes the client certificate that stands for the signature, if the record has to name it.
	Certificate audit.Object
}

// Request serves a request and keeps one record of it, whatever its outcome. A change is recorded
// before it is made, everything else before its answer is given. A change that fails after its
// record was written gets a second record, which corrects the first.
//
// A request whose sender is unknown has no record, as in CloudTrail: nothing that it says of itself
// is proven, and anybody could fill the log with such requests. It has a line in the server's log.
func (r *Recorder) Request(ctx context.Context, q *Request, serve func(context.Context) (any, error)) (any, error) {
	d := &draft{Context: ctx, auditor: r.auditor}
	r.ofRequest(q, d)
	out, err := d.serve(serve)
	if failed := d.finish(err); failed != nil {
		err = apierror.InternalError(failed)
	}
	return give(out, err)
}

// Unrecorded serves a request of which no record is kept.
func (r *Recorder) Unrecorded(ctx context.Context, serve func(context.Context) (any, error)) (any, error) {
	return give((&draft{Context: ctx, auditor: NoAudit}).serve(serve))
}

// give wipes an answer that is not given.
func give(out any, err error) (any, error) {
	if err == nil {
		return out, nil
	}
	if secret, ok := out.(interface{ Wipe() }); ok {
		secret.Wipe()
	}
	return nil, err
}

func (r *Recorder) ofRequest(q *Request, d *draft) {
	d.record = audit.Record{
		UserIdentity: q.User, EventTime: r.now(), EventSource: q.Source, EventName: q.Operation, AWSRegion: q.Region,
		SourceIPAddress: q.SourceIP, UserAgent: q.UserAgent,
		RequestParameters: appendParameters(d.parameters[:0], q.Input),
		RequestID:         q.RequestID, EventID: q.EventID, ReadOnly: q.ReadOnly, ManagementEvent: true,
		RecipientAccountID: q.Account,
	}
	if q.Certificate != nil {
		d.record.AdditionalEventData = audit.Object{{Name: "clientCertificate", Value: q.Certificate}}
	}
	if q.TLS != nil {
		d.record.TLSDetails = &audit.TLSDetails{TLSVersion: tls.VersionName(q.TLS.Version),
			CipherSuite: tls.CipherSuiteName(q.TLS.CipherSuite), ClientProvidedHostHeader: q.Host}
	}
}
