package audit

import "time"

// encoder appends the members of a JSON object. It does by hand what encoding/json would do with
// the types of this package, because every request waits for it. The types say how a record is read
// back.
type encoder struct {
	b   []byte
	err error
}

// member begins a member.
func (e *encoder) member(name string) {
	if e.b[len(e.b)-1] != '{' {
		e.b = append(e.b, ',')
	}
	e.b = append(append(append(e.b, '"'), name...), '"', ':')
}

// keep stores the result of an append, and remembers the first error.
func (e *encoder) keep(b []byte, err error) {
	e.b = b
	if e.err == nil {
		e.err = err
	}
}

func (e *encoder) value(name string, value any) {
	e.member(name)
	e.keep(appendJSON(e.b, value))
}

// text appends a string member.
func (e *encoder) text(name, value string) {
	e.member(name)
	e.b = appendString(e.b, value)
}

// optionalText appends a string member, unless the string is empty.
func (e *encoder) optionalText(name, value string) {
	if value != "" {
		e.text(name, value)
	}
}

func (e *encoder) boolean(name string, value bool) {
	e.member(name)
	if value {
		e.b = append(e.b, "true"...)
	} else {
		e.b = append(e.b, "false"...)
	}
}

// object appends a member that is an object; f appends the object's members.
func (e *encoder) object(name string, f func()) {
	e.member(name)
	e.b = append(e.b, '{')
	f()
	e.b = append(e.b, '}')
}

// boundedObject appends a member that is an Object, which may be too large.
func (e *encoder) boundedObject(name string, o Object) {
	e.member(name)
	e.keep(o.appendBounded(e.b))
}

// appendTo appends the record as JSON without its closing brace.
func (r *Record) appendTo(b []byte) ([]byte, error) {
	e := &encoder{b: append(b, '{')}
	e.text("eventVersion", r.EventVersion)
	e.object("userIdentity", func() { r.UserIdentity.appendTo(e) })
	e.member("eventTime")
	e.b = append(r.EventTime.AppendFormat(append(e.b, '"'), time.RFC3339), '"')
	e.text("eventSource", r.EventSource)
	e.text("eventName", r.EventName)
	e.text("awsRegion", r.AWSRegion)
	e.text("sourceIPAddress", r.SourceIPAddress)
	e.text("userAgent", r.UserAgent)
	e.optionalText("errorCode", r.ErrorCode)
	e.optionalText("errorMessage", r.ErrorMessage)
	e.boundedObject("requestParameters", r.RequestParameters)
	e.boundedObject("responseElements", r.ResponseElements)
	if len(r.AdditionalEventData) > 0 {
		e.boundedObject("additionalEventData", r.AdditionalEventData)
	}
	e.text("requestID", r.RequestID)
	e.text("eventID", r.EventID)
	e.boolean("readOnly", r.ReadOnly)
	if len(r.Resources) > 0 {
		e.member("resources")
		e.b = append(e.b, '[')
		for i := range r.Resources {
			if i > 0 {
				e.b = append(e.b, ',')
			}
			e.b = append(e.b, '{')
			e.text("ARN", r.Resources[i].ARN)
			e.optionalText("accountId", r.Resources[i].AccountID)
			e.text("type", r.Resources[i].Type)
			e.b = append(e.b, '}')
		}
		e.b = append(e.b, ']')
	}
	e.text("eventType", r.EventType)
	e.boolean("managementEvent", r.ManagementEvent)
	e.text("recipientAccountId", r.RecipientAccountID)
	e.text("eventCategory", r.EventCategory)
	if r.TLSDetails != nil {
		e.value("tlsDetails", r.TLSDetails)
	}
	return e.b, e.err
}

func (u *UserIdentity) appendTo(e *encoder) {
	e.text("type", u.Type)
	e.optionalText("principalId", u.PrincipalID)
	e.optionalText("arn", u.ARN)
	e.optionalText("accountId", u.AccountID)
	e.optionalText("accessKeyId", u.AccessKeyID)
	e.optionalText("userName", u.UserName)
	if u.SessionContext != nil {
		e.value("sessionContext", u.SessionContext)
	}
	e.optionalText("identityProvider", u.IdentityProvider)
}

// MarshalJSON implements json.Marshaler.
func (r *Record) MarshalJSON() ([]byte, error) {
	b, err := r.appendTo(nil)
	return append(b, '}'), err
}
