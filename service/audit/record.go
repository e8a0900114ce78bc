package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// EventVersion is the version of CloudTrail's record contents that Record follows.
const EventVersion = "1.11"

// Limits of a record. CloudTrail (page "CloudTrail record contents") limits errorCode, errorMessage
// and userAgent to 1 KB and requestParameters and responseElements to 100 KB; the latter are
// smaller here because a line must fit an entry of C2SP tlog-tiles, whose length has 16 bits.
const (
	maxLine      = 1<<16 - 1 // bytes of a line without its newline
	maxString    = 1024      // bytes of a member that is a string
	maxObject    = 40 << 10  // bytes of an Object as JSON; a key policy of 32 KiB fits
	shortString  = 128       // bytes of such a member in a record whose line would be too long
	maxResources = 16
	usualRecord  = 1536 // bytes that are enough for most records
)

// Record is one request in CloudTrail's form (AWS page "CloudTrail record contents"). It has no
// member for a plaintext. Callers are responsible for what they put into an Object.
//
// Strings longer than 1024 bytes are cut, and an Object larger than 40 KiB is replaced by its
// length and SHA-256; in a record that would still be larger than 64 KiB, the limits are lower. A
// client must not be able to keep a request out of the log by sending much.
type Record struct {
	EventVersion        string       `json:"eventVersion"` // default EventVersion
	UserIdentity        UserIdentity `json:"userIdentity"`
	EventTime           time.Time    `json:"eventTime"`   // required; written in UTC with seconds
	EventSource         string       `json:"eventSource"` // required, e.g. kms.amazonaws.com
	EventName           string       `json:"eventName"`   // required, e.g. Decrypt
	AWSRegion           string       `json:"awsRegion"`
	SourceIPAddress     string       `json:"sourceIPAddress"`
	UserAgent           string       `json:"userAgent"`
	ErrorCode           string       `json:"errorCode,omitempty"`
	ErrorMessage        string       `json:"errorMessage,omitempty"`
	RequestParameters   Object       `json:"requestParameters"`
	ResponseElements    Object       `json:"responseElements"`
	AdditionalEventData Object       `json:"additionalEventData,omitempty"` // e.g. keyMaterialId, ciphertextForm
	RequestID           string       `json:"requestID"`
	EventID             string       `json:"eventID"` // required, unique
	ReadOnly            bool         `json:"readOnly"`
	Resources           []Resource   `json:"resources,omitempty"` // at most 16
	EventType           string       `json:"eventType"`           // default AwsApiCall
	ManagementEvent     bool         `json:"managementEvent"`
	RecipientAccountID  string       `json:"recipientAccountId"`
	EventCategory       string       `json:"eventCategory"` // default Management
	TLSDetails          *TLSDetails  `json:"tlsDetails,omitempty"`
}

// UserIdentity says who called (AWS page "CloudTrail userIdentity element").
type UserIdentity struct {
	Type           string          `json:"type"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"`
	UserName       string          `json:"userName,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
	// IdentityProvider is the ARN of the provider of a web identity.
	IdentityProvider string `json:"identityProvider,omitempty"`
}

// SessionContext describes temporary credentials.
type SessionContext struct {
	Issuer       *SessionIssuer `json:"sessionIssuer,omitempty"`
	CreationDate time.Time      `json:"creationDate,omitzero"`
	// WebIDFederation is the web identity that assumed the role.
	WebIDFederation *WebIDFederation `json:"webIdFederationData,omitempty"`
}

// WebIDFederation says where the identity of a role session comes from.
type WebIDFederation struct {
	Provider   string        `json:"federatedProvider"` // ARN
	Attributes WebAttributes `json:"attributes"`
}

// WebAttributes are the application and the user that the provider has named.
type WebAttributes struct {
	Audience string `json:"aud,omitempty"`
	Subject  string `json:"sub,omitempty"`
}

// SessionIssuer is who gave temporary credentials.
type SessionIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId,omitempty"`
	ARN         string `json:"arn,omitempty"`
	AccountID   string `json:"accountId,omitempty"`
	UserName    string `json:"userName,omitempty"`
}

// Resource is what the request was about.
type Resource struct {
	ARN       string `json:"ARN"`
	AccountID string `json:"accountId,omitempty"`
	Type      string `json:"type"` // e.g. AWS::KMS::Key
}

// TLSDetails describes the connection.
type TLSDetails struct {
	TLSVersion               string `json:"tlsVersion,omitempty"`
	CipherSuite              string `json:"cipherSuite,omitempty"`
	ClientProvidedHostHeader string `json:"clientProvidedHostHeader,omitempty"`
}

// Object is a JSON object whose members keep their order. A nil Object is null.
type Object []Member

// Member is one member of an Object. Value is anything that encoding/json can encode, including an
// Object.
type Member struct {
	Name  string
	Value any
}

// MarshalJSON implements json.Marshaler. An Object that is too large becomes a description of it.
func (o Object) MarshalJSON() ([]byte, error) { return o.appendBounded(nil) }

// appendBounded appends the object, or a description of one that is too large.
func (o Object) appendBounded(b []byte) ([]byte, error) {
	start := len(b)
	b, err := o.appendTo(b)
	if err == nil && len(b)-start > maxObject {
		return omitted(b[start:]).appendTo(b[:start])
	}
	return b, err
}

func (o Object) appendTo(b []byte) ([]byte, error) {
	if o == nil {
		return append(b, "null"...), nil
	}
	b = append(b, '{')
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendJSON(append(appendString(b, m.Name), ':'), m.Value); err != nil {
			return b, fmt.Errorf("member %s: %w", m.Name, err)
		}
	}
	return append(b, '}'), nil
}

// appendJSON appends a value as encoding/json writes it. Most values are strings without escapes,
// or maps of such strings, as encryption contexts are; these take a faster path.
func appendJSON(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case string:
		return appendString(b, v), nil
	case int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case map[string]string:
		if v == nil {
			break
		}
		names := slices.AppendSeq(make([]string, 0, len(v)), maps.Keys(v))
		slices.Sort(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(append(appendString(b, name), ':'), v[name])
		}
		return append(b, '}'), nil
	}
	text, err := json.Marshal(value)
	return append(b, text...), err
}

func appendString(b []byte, s string) []byte {
	if !needsEscape(s) {
		return append(append(append(b, '"'), s...), '"')
	}
	text, _ := json.Marshal(s) // which has no error
	return append(b, text...)
}

func needsEscape(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return true
		}
	}
	return false
}

// UnmarshalJSON implements json.Unmarshaler. Values become json.RawMessage.
func (o *Object) UnmarshalJSON(b []byte) error {
	*o = nil
	d := json.NewDecoder(bytes.NewReader(b))
	if start, err := d.Token(); err != nil || start == nil {
		return err
	} else if start != json.Delim('{') {
		return errors.New("not a JSON object")
	}
	for *o = (Object{}); d.More(); {
		name, err := d.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		*o = append(*o, Member{name.(string), value})
	}
	return nil
}

// omitted describes an Object that is not recorded.
func omitted(object []byte) Object {
	sum := sha256.Sum256(object)
	return Object{{"omitted", true}, {"bytes", len(object)}, {"sha256", hex.EncodeToString(sum[:])}}
}

// encode appends the record to b as JSON without the closing brace. b is empty.
func (r Record) encode(b []byte) ([]byte, error) {
	if r.EventTime.IsZero() || r.EventSource == "" || r.EventName == "" || r.EventID == "" {
		return nil, errors.New("encode audit record: EventTime, EventSource, EventName and EventID are required")
	}
	if len(r.Resources) > maxResources {
		return nil, fmt.Errorf("encode audit record: %d resources, at most %d can be recorded", len(r.Resources),
			maxResources)
	}
	r.EventTime = r.EventTime.UTC().Truncate(time.Second)
	setDefault(&r.EventVersion, EventVersion)
	setDefault(&r.EventType, "AwsApiCall")
	setDefault(&r.EventCategory, "Management")
	r.cut(maxString)
	b, err := r.appendTo(b)
	if err == nil && len(b)+maxTrailer >= maxLine {
		r.cut(shortString)
		err = r.omitObjects()
		if err == nil {
			b, err = r.appendTo(b[:0])
		}
	}
	if err != nil {
		return nil, fmt.Errorf("encode audit record: %w", err)
	}
	if len(b)+maxTrailer >= maxLine {
		return nil, fmt.Errorf("encode audit record: %d bytes, fewer than %d can be recorded", len(b),
			maxLine-maxTrailer)
	}
	return b, nil
}

func (r *Record) omitObjects() error {
	for _, o := range []*Object{&r.RequestParameters, &r.ResponseElements, &r.AdditionalEventData} {
		if *o == nil {
			continue
		}
		b, err := o.appendTo(nil)
		if err != nil {
			return err
		}
		*o = omitted(b)
	}
	return nil
}

// cut returns a copy whose strings are limited.
func (c SessionContext) cut(limit int) *SessionContext {
	if c.Issuer != nil {
		i := *c.Issuer
		for _, s := range []*string{&i.Type, &i.PrincipalID, &i.ARN, &i.AccountID, &i.UserName} {
			cutString(s, limit)
		}
		c.Issuer = &i
	}
	if c.WebIDFederation != nil {
		w := *c.WebIDFederation
		for _, s := range []*string{&w.Provider, &w.Attributes.Audience, &w.Attributes.Subject} {
			cutString(s, limit)
		}
		c.WebIDFederation = &w
	}
	return &c
}

// cut limits the strings. What the pointers of r refer to belongs to the caller and is copied
// first.
func (r *Record) cut(limit int) {
	for _, s := range []*string{&r.EventVersion, &r.EventSource, &r.EventName, &r.AWSRegion, &r.SourceIPAddress,
		&r.UserAgent,
		&r.ErrorCode, &r.ErrorMessage, &r.RequestID, &r.EventID, &r.EventType, &r.RecipientAccountID,
		&r.EventCategory} {
		cutString(s, limit)
	}
	u := &r.UserIdentity
	for _, s := range []*string{&u.Type, &u.PrincipalID, &u.ARN, &u.AccountID, &u.AccessKeyID, &u.UserName,
		&u.IdentityProvider} {
		cutString(s, limit)
	}
	if u.SessionContext != nil {
		u.SessionContext = u.SessionContext.cut(limit)
	}
	if r.TLSDetails != nil {
		t := *r.TLSDetails
		for _, s := range []*string{&t.TLSVersion, &t.CipherSuite, &t.ClientProvidedHostHeader} {
			cutString(s, limit)
		}
		r.TLSDetails = &t
	}
	tooLong := func(x Resource) bool { return max(len(x.ARN), len(x.AccountID), len(x.Type)) > limit }
	if !slices.ContainsFunc(r.Resources, tooLong) {
		return
	}
	r.Resources = slices.Clone(r.Resources)
	for i := range r.Resources {
		x := &r.Resources[i]
		for _, s := range []*string{&x.ARN, &x.AccountID, &x.Type} {
			cutString(s, limit)
		}
	}
}

const cutMark = "...(cut)"

func cutString(s *string, limit int) {
	if len(*s) <= limit {
		return
	}
	n := limit - len(cutMark)
	for n > 0 && !utf8.RuneStart((*s)[n]) {
		n--
	}
	*s = (*s)[:n] + cutMark
}

func setDefault(s *string, value string) {
	if *s == "" {
		*s = value
	}
}
