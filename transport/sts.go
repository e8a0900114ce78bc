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

// AWS STS speaks the query protocol: a form in, XML out (AWS STS API Reference). Four of its
// operations are here, so that AWS clients can get temporary credentials and ask who they are.
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

// temporaryCredentials are access key and session token as answers have them.
type temporaryCredentials struct {
	AccessKeyID string `xml:"AccessKeyId"`
	Secret      string `xml:"SecretAccessKey"`
	Token       string `xml:"SessionToken"`
	Expiration  string
}

func credentialsOf(c *iam.TemporaryCredential) temporaryCredentials {
	return temporaryCredentials{AccessKeyID: c.AccessKeyID, Secret: string(c.SecretAccessKey), Token: c.SessionToken,
		Expiration: c.Expiration.UTC().Format(time.RFC3339)}
}

// assumedRole is what the answers of AssumeRole and AssumeRoleWithWebIdentity have in common.
type assumedRole struct {
	Credentials      temporaryCredentials
	RoleID           string `xml:"AssumedRoleUser>AssumedRoleId"`
	RoleARN          string `xml:"AssumedRoleUser>Arn"`
	PackedPolicySize int    `xml:",omitempty"` // percent
	SessionTokenSize int    // bytes
}

func assumedRoleOf(out *iam.AssumeRoleResponse) assumedRole {
	return assumedRole{Credentials: credentialsOf(&out.TemporaryCredential), RoleID: out.AssumedRoleID,
		RoleARN: out.AssumedRoleARN, PackedPolicySize: out.PackedPolicySize,
		SessionTokenSize: len(out.SessionToken)}
}

type assumeRoleResponse struct {
	XMLName  xml.Name         `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleResponse"`
	Result   assumedRole      `xml:"AssumeRoleResult"`
	Metadata responseMetadata `xml:"ResponseMetadata"`
}

type webIdentityResponse struct {
	XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
	Result  struct {
		assumedRole
		Subject  string `xml:"SubjectFromWebIdentityToken"`
		Audience string
		Provider string
	} `xml:"AssumeRoleWithWebIdentityResult"`
	Metadata responseMetadata `xml:"ResponseMetadata"`
}

type sessionTokenResponse struct {
	XMLName     xml.Name             `xml:"https://sts.amazonaws.com/doc/2011-06-15/ GetSessionTokenResponse"`
	Credentials temporaryCredentials `xml:"GetSessionTokenResult>Credentials"`
	Size        int                  `xml:"GetSessionTokenResult>SessionTokenSize"`
	Metadata    responseMetadata     `xml:"ResponseMetadata"`
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
	err = x.authenticate(func() error {
		if action == webIdentityAction {
			return h.identifyWebIdentity(r, form, x)
		}
		return h.identify(h.sts, r, body, x)
	})
	if err != nil {
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
	webIdentityAction:   (*handler).assumeRoleWithWebIdentity,
	"GetCallerIdentity": (*handler).getCallerIdentity,
	"GetSessionToken":   (*handler).getSessionToken,
}

// webIdentityAction is the operation whose requests have a token in place of a signature.
const webIdentityAction = "AssumeRoleWithWebIdentity"

func (h *handler) assumeRole(r *http.Request, form url.Values, x *exchange) (any, error) {
	seconds, err := checkForm(form)
	if err != nil {
		return nil, err
	}
	out, err := h.iam.AssumeRole(r.Context(), &x.caller, &iam.AssumeRoleRequest{RoleARN: form.Get("RoleArn"),
		RoleSessionName: form.Get("RoleSessionName"), Policy: form.Get("Policy"), DurationSeconds: seconds,
		ExternalID: form.Get("ExternalId")})
	if err != nil {
		return nil, err
	}
	return &assumeRoleResponse{Result: assumedRoleOf(out), Metadata: responseMetadata{x.caller.RequestID}}, nil
}

// checkForm returns DurationSeconds, 0 if there is none. It refuses parameters that are not supported, since to ignore
// them would give more than was asked for.
func checkForm(form url.Values) (seconds int32, err error) {
	if text := form.Get("DurationSeconds"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return 0, apierror.New(apierror.STSValidation, "DurationSeconds is not a number.")
		}
		seconds = int32(n)
	}
	for name := range form {
		if notSupported(name) {
			return 0, apierror.New(apierror.STSValidation, "%s is not supported.", name)
		}
	}
	return seconds, nil
}

// notSupported reports whether a parameter is one that is refused.
func notSupported(name string) bool {
	for _, list := range []string{"PolicyArns.", "Tags.", "TransitiveTagKeys."} {
		if strings.HasPrefix(name, list) {
			return true
		}
	}
	switch name {
	case "SerialNumber", "SourceIdentity", "TokenCode", "ProviderId":
		return true
	}
	return false
}

// identifyWebIdentity finds out who sends a request by the token in it. The request has no signature.
func (h *handler) identifyWebIdentity(r *http.Request, form url.Values, x *exchange) error {
	if err := h.verifyClient(r); err != nil {
		return err
	}
	in, err := webIdentityRequest(form)
	if err != nil {
		return err
	}
	who, err := h.iam.WebIdentity(x.ctx, form.Get("WebIdentityToken"), in)
	if err != nil {
		return err
	}
	x.caller.Identity, x.caller.Region = *who, defaultRegion(h.cfg.Regions)
	return h.iam.KnowsWebIdentity(x.ctx, &x.caller, in)
}

func webIdentityRequest(form url.Values) (*iam.AssumeRoleWithWebIdentityRequest, error) {
	seconds, err := checkForm(form)
	return &iam.AssumeRoleWithWebIdentityRequest{RoleARN: form.Get("RoleArn"),
		RoleSessionName: form.Get("RoleSessionName"), Policy: form.Get("Policy"), DurationSeconds: seconds}, err
}

func (h *handler) assumeRoleWithWebIdentity(r *http.Request, form url.Values, x *exchange) (any, error) {
	in, err := webIdentityRequest(form)
	if err != nil {
		return nil, err
	}
	out, err := h.iam.AssumeRoleWithWebIdentity(r.Context(), &x.caller, in)
	if err != nil {
		return nil, err
	}
	answer := &webIdentityResponse{Metadata: responseMetadata{x.caller.RequestID}}
	answer.Result.assumedRole = assumedRoleOf(&out.AssumeRoleResponse)
	answer.Result.Subject, answer.Result.Audience, answer.Result.Provider = out.Subject, out.Audience, out.Provider
	return answer, nil
}

func (h *handler) getSessionToken(r *http.Request, form url.Values, x *exchange) (any, error) {
	seconds, err := checkForm(form)
	if err != nil {
		return nil, err
	}
	out, err := h.iam.GetSessionToken(r.Context(), &x.caller, seconds)
	if err != nil {
		return nil, err
	}
	return &sessionTokenResponse{Credentials: credentialsOf(out), Size: len(out.SessionToken),
		Metadata: responseMetadata{x.caller.RequestID}}, nil
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
	string(apierror.ExpiredWebIdentity):   {"ExpiredTokenException", http.StatusBadRequest},
	"IDPRejectedClaim":                    {"IDPRejectedClaim", http.StatusForbidden},
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
