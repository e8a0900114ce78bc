package transport

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/iam"
)

// AWS STS speaks the query protocol: a form in, XML out (AWS STS API Reference). Two of its
// operations are here, so that AWS clients can assume roles and ask who they are.
const (
	stsVersion = "2011-06-15"
	stsPrefix  = "sts:" // of operations' names in logs and metrics
	formType   = "application/x-www-form-urlencoded"
)

// isSTS tells a query request from a JSON one.
func isSTS(r *http.Request) bool {
	contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return len(r.Header["X-Amz-Target"]) == 0 && strings.EqualFold(strings.TrimSpace(contentType), formType)
}

type responseMetadata struct {
	RequestID string `xml:"RequestId"`
}

type assumeRoleResponse struct {
	XMLName     xml.Name         `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
	AccessKeyID string           `xml:"AssumeRoleResult>Credentials>AccessKeyId"`
	Secret      string           `xml:"AssumeRoleResult>Credentials>SecretAccessKey"`
	Token       string           `xml:"AssumeRoleResult>Credentials>SessionToken"`
	Expiration  string           `xml:"AssumeRoleResult>Credentials>Expiration"`
	RoleID      string           `xml:"AssumeRoleResult>AssumedRoleUser>AssumedRoleId"`
	RoleARN     string           `xml:"AssumeRoleResult>AssumedRoleUser>Arn"`
	Metadata    responseMetadata `xml:"ResponseMetadata"`
}

type callerIdentityResponse struct {
	XMLName  xml.Name         `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetCallerIdentityResponse"`
	UserID   string           `xml:"GetCallerIdentityResult>UserId"`
	Account  string           `xml:"GetCallerIdentityResult>Account"`
	ARN      string           `xml:"GetCallerIdentityResult>Arn"`
	Metadata responseMetadata `xml:"ResponseMetadata"`
}

type errorResponse struct {
	XMLName   xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ ErrorResponse"`
	Type      string   `xml:"Error>Type"` // Sender or Receiver
	Code      string   `xml:"Error>Code"`
	Message   string   `xml:"Error>Message"`
	RequestID string   `xml:"RequestId"`
}

var errUnknownAction = &problem{Type: "InvalidAction", Message: "Could not find operation.",
	status: http.StatusBadRequest}

func (h *handler) processSTS(w http.ResponseWriter, r *http.Request, x *exchange) (any, error) {
	body, err := x.readBody(w, r, usualBody)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, errUnreadable
	}
	action := form.Get("Action")
	if _, known := stsOperations[action]; !known || form.Get("Version") != stsVersion {
		return nil, errUnknownAction
	}
	x.name = stsPrefix + action
	if err := h.authenticate(h.sts, r, body, x); err != nil {
		return nil, err
	}
	parameters := struct{ RoleArn, RoleSessionName, DurationSeconds string }{
		form.Get("RoleArn"), form.Get("RoleSessionName"), form.Get("DurationSeconds")}
	return h.cfg.Service.Audited(r.Context(), &x.caller, "sts.amazonaws.com", action, parameters,
		func(ctx context.Context) (any, error) {
			return stsOperations[action](h, r.WithContext(ctx), form, x)
		})
}

// stsOperations are those of AWS STS that are served.
var stsOperations = map[string]func(*handler, *http.Request, url.Values, *exchange) (any, error){
	"AssumeRole":        (*handler).assumeRole,
	"GetCallerIdentity": (*handler).getCallerIdentity,
}

func (h *handler) assumeRole(r *http.Request, form url.Values, x *exchange) (any, error) {
	in := &iam.AssumeRoleRequest{RoleARN: form.Get("RoleArn"), RoleSessionName: form.Get("RoleSessionName"),
		Policy: form.Get("Policy"), ExternalID: form.Get("ExternalId")}
	if text := form.Get("DurationSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, &problem{Type: string(apierror.STSValidation), Message: "DurationSeconds is not a number.",
				status: http.StatusBadRequest}
		}
		in.DurationSeconds = int32(n)
	}
	for name := range form {
		if notSupported(name) {
			return nil, &problem{Type: string(apierror.STSValidation), Message: name + " is not supported.",
				status: http.StatusBadRequest}
		}
	}
	out, err := h.iam.AssumeRole(r.Context(), &x.caller, in)
	if err != nil {
		return nil, err
	}
	return &assumeRoleResponse{AccessKeyID: out.AccessKeyID, Secret: string(out.SecretAccessKey),
		Token:      out.SessionToken,
		Expiration: out.Expiration.UTC().Format(time.RFC3339), RoleID: out.AssumedRoleID, RoleARN: out.AssumedRoleARN,
		Metadata: responseMetadata{x.caller.RequestID}}, nil
}

// notSupported reports whether a parameter of AssumeRole is one that is refused, since to ignore it
// would give more than was asked for.
func notSupported(name string) bool {
	for _, list := range []string{"PolicyArns.", "Tags.", "TransitiveTagKeys."} {
		if strings.HasPrefix(name, list) {
			return true
		}
	}
	return name == "SerialNumber" || name == "SourceIdentity"
}

func (h *handler) getCallerIdentity(r *http.Request, _ url.Values, x *exchange) (any, error) {
	out, err := h.iam.GetCallerIdentity(r.Context(), &x.caller)
	if err != nil {
		return nil, err
	}
	return &callerIdentityResponse{UserID: out.UserID, Account: out.Account, ARN: out.ARN,
		Metadata: responseMetadata{x.caller.RequestID}}, nil
}

// stsCodes are the names that STS has for what goes wrong before an operation, and their statuses.
var stsCodes = map[string]struct {
	code   string
	status int
}{
	"AccessDenied":                        {"AccessDenied", http.StatusForbidden},
	"ExpiredTokenException":               {"ExpiredToken", http.StatusForbidden},
	"IncompleteSignatureException":        {"IncompleteSignature", http.StatusBadRequest},
	"InvalidSignatureException":           {"SignatureDoesNotMatch", http.StatusForbidden},
	"MissingAuthenticationTokenException": {"MissingAuthenticationToken", http.StatusForbidden},
	"UnrecognizedClientException":         {"InvalidClientTokenId", http.StatusForbidden},
}

// answerXML writes an answer of AWS STS.
func (x *exchange) answerXML(w http.ResponseWriter, status int, v any) error {
	if p, failed := v.(*problem); failed {
		e := errorResponse{Type: "Sender", Code: p.Type, Message: p.Message, RequestID: x.caller.RequestID}
		if known, ok := stsCodes[p.Type]; ok {
			e.Code, status = known.code, known.status
		}
		if status >= http.StatusInternalServerError {
			e.Type, e.Code = "Receiver", "InternalFailure"
		}
		v = e
	}
	body, err := xml.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, err = w.Write(body)
	clear(body)
	return err
}
