package inspect

import (
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/service/iam"
)

func auditOperations() []service.Operation {
	return []service.Operation{
		ofAccount(service.Operation{
			Name:   "ListAuditRecords",
			Page:   auditPage,
			Errors: service.ErrorCodes{apierror.InvalidMarker, apierror.UnsupportedOperation},
		}, (*Inspector).listAuditRecords),
		ofAccount(service.Operation{
			Name:   "GetAuditProof",
			Errors: service.ErrorCodes{apierror.NotFound, apierror.UnsupportedOperation},
		}, (*Inspector).getAuditProof),
	}
}

var auditPage = service.PageSize{Default: 50, Max: 100}

// The values of ListAuditRecordsRequest.Result.
const (
	resultSuccess = "SUCCESS"
	resultError   = "ERROR"
)

// ListAuditRecordsRequest is the input of ListAuditRecords. Members that are not given ask for
// nothing; audit.Filter says what they mean.
type ListAuditRecordsRequest struct {
	StartTime     service.Timestamp `shape:"DateType"` // included
	EndTime       service.Timestamp `shape:"DateType"` // not included
	Principal     string            `shape:"AuditTextType"`
	OperationName string            `shape:"OperationNameType"`
	KeyId         string            `shape:"KeyIdType"` // id or ARN, no alias
	Result        string            `shape:"AuditResultType"`
	ErrorCode     string            `shape:"ErrorCodeType"`
	Text          string            `shape:"AuditTextType"`
	Limit         int32             `shape:"LimitType"`
	Marker        string            `shape:"MarkerType"`
}

// ListAuditRecordsResponse is the output of ListAuditRecords.
type ListAuditRecordsResponse struct {
	Records []AuditRecordEntry // newest first
	// LogOrigin names the log: each server has its own.
	LogOrigin       string
	RecordsRead     int32  // records that were looked at, those of other accounts included
	UnreadableLines int32  // lines among them that are no records: the log is damaged
	NextMarker      string `json:",omitempty"`
	// Truncated tells that there may be more: also when fewer records than Limit were found, since a
	// request reads a part of the log only.
	Truncated bool
}

// AuditRecordEntry is a record of the audit log.
type AuditRecordEntry struct {
	LogIndex string // in decimal
	Record   string // a line of the log: JSON as in CloudTrail
}

func (i *Inspector) listAuditRecords(_ context.Context, c *iam.Caller, in *ListAuditRecordsRequest) (
	*ListAuditRecordsResponse, error) {
	origin, err := i.auditOrigin()
	if err != nil {
		return nil, err
	}
	limit := int(in.Limit)
	if limit == 0 {
		limit = auditPage.Default
	}
	if limit > auditPage.Max {
		return nil, apierror.New(apierror.Validation, "Limit must be at most %d.", auditPage.Max)
	}
	from, err := positionIn(in.Marker, origin)
	if err != nil {
		return nil, err
	}
	found, err := audit.Search(i.auditLog, from, limit, i.filter(c, in))
	switch {
	case errors.Is(err, audit.ErrPosition):
		return nil, errMarker
	case err != nil:
		return nil, auditError(err)
	}
	out := &ListAuditRecordsResponse{Records: []AuditRecordEntry{}, LogOrigin: origin, RecordsRead: int32(found.Read),
		UnreadableLines: int32(found.Unreadable), Truncated: found.Next != ""}
	for _, r := range found.Records {
		entry := AuditRecordEntry{LogIndex: strconv.FormatInt(r.Index, 10), Record: string(r.Text)}
		out.Records = append(out.Records, entry)
	}
	if found.Next != "" {
		out.NextMarker = markerOf(origin, found.Next)
	}
	return out, nil
}

// filter asks for the records of the caller's account.
func (i *Inspector) filter(c *iam.Caller, in *ListAuditRecordsRequest) audit.Filter {
	f := audit.Filter{Account: c.Account, NoAccount: i.operates(c), From: time.Time(in.StartTime),
		Until: time.Time(in.EndTime), Principal: in.Principal, Operation: in.OperationName, Key: in.KeyId,
		Error: in.ErrorCode, Text: in.Text}
	if f.Error == "" {
		f.Error = map[string]string{resultSuccess: audit.NoError, resultError: audit.AnyError}[in.Result]
	}
	return f
}

var errMarker = apierror.New(apierror.InvalidMarker,
	"The marker is not valid. Use the NextMarker of the response before, unchanged, at the server that gave it.")

// A marker has the log's origin, so that that of another server's log is refused.
const markerPrefix = "ListAuditRecords:"

func markerOf(origin, position string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(markerPrefix + origin + " " + position))
}

func positionIn(marker, origin string) (string, error) {
	if marker == "" {
		return "", nil
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(marker)
	position, ours := strings.CutPrefix(string(text), markerPrefix+origin+" ")
	if err != nil || !ours || position == "" {
		return "", errMarker
	}
	return position, nil
}

// GetAuditProofRequest is the input of GetAuditProof.
type GetAuditProofRequest struct {
	LogIndex string `shape:"LogIndexType" required:"true"` // of the record, in decimal
}

// GetAuditProofResponse is the output of GetAuditProof.
type GetAuditProofResponse struct {
	Proof     string // a C2SP tlog-proof, with the record and a signed checkpoint
	LogOrigin string
	// LogKeys are the verifier keys of the log, the current one last. Who wants to be sure knows them
	// from elsewhere.
	LogKeys []string
}

func (i *Inspector) getAuditProof(_ context.Context, c *iam.Caller, in *GetAuditProofRequest) (
	*GetAuditProofResponse, error) {
	if _, err := i.auditOrigin(); err != nil {
		return nil, err
	}
	index, err := strconv.ParseInt(in.LogIndex, 10, 64)
	if err != nil {
		return nil, apierror.New(apierror.Validation, "LogIndex is not a number.")
	}
	proof, err := audit.Prove(i.auditLog, index)
	if err != nil && !errors.Is(err, audit.ErrNotSealed) {
		return nil, auditError(err)
	}
	mine := false // a record of another account is as good as none
	if err == nil {
		record, err := audit.ClaimedRecord(proof)
		if err != nil {
			return nil, auditError(err)
		}
		f := i.filter(c, &ListAuditRecordsRequest{})
		mine = f.Matches(record)
	}
	if !mine {
		return nil, apierror.New(apierror.NotFound,
			"No signed checkpoint covers a record %d of your account. A new record is covered within seconds.", index)
	}
	origin, keys, err := audit.Keys(i.auditLog)
	if err != nil {
		return nil, auditError(err)
	}
	return &GetAuditProofResponse{Proof: string(proof), LogOrigin: origin, LogKeys: keys}, nil
}

// auditOrigin names the log of this server.
func (i *Inspector) auditOrigin() (string, error) {
	if i.auditLog == nil {
		return "", apierror.New(apierror.UnsupportedOperation, "This server keeps no audit log.")
	}
	origin, err := audit.Origin(i.auditLog)
	if err != nil {
		return "", auditError(err)
	}
	return origin, nil
}

// auditError says that a log is damaged to whoever may read it: that is what they look for.
func auditError(err error) error {
	if errors.Is(err, audit.ErrTampered) || errors.Is(err, fs.ErrNotExist) {
		return apierror.New(apierror.Internal,
			"The audit log is damaged. Its operator can tell where with verenc audit verify.").WithCause(err)
	}
	return apierror.InternalError(err)
}
