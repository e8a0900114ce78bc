package audit

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// Filter says which records Search gives. An empty member asks for nothing.
type Filter struct {
	// Account has to be that of who called, of the key's owner, or of what the record is about.
	Account string
	// NoAccount lets records pass Account that name no account at all, as those of some commands.
	NoAccount bool

	From, Until time.Time // of the request, to the second: From is included, Until is not
	Principal   string    // a part of the ARN, name, unique id or access key id of who called
	Operation   string    // eventName, whole
	Key         string    // id or ARN of a key that the record is about
	Error       string    // errorCode, whole; or NoError, AnyError
	Text        string    // a part of the record's JSON, whatever its case
}

// Values of Filter.Error that are no error codes.
const (
	NoError  = "-"
	AnyError = "*"
)

// searched are the members of a record that a Filter asks for.
type searched struct {
	UserIdentity       UserIdentity `json:"userIdentity"`
	EventTime          time.Time    `json:"eventTime"`
	EventName          string       `json:"eventName"`
	EventType          string       `json:"eventType"`
	ErrorCode          string       `json:"errorCode"`
	RecipientAccountID string       `json:"recipientAccountId"`
	Resources          []Resource   `json:"resources"`
}

// Matches tells whether a record, as JSON, passes the filter. What is no record does not.
func (f *Filter) Matches(record []byte) bool {
	var r searched
	return json.Unmarshal(record, &r) == nil && f.matches(record, &r)
}

func (f *Filter) matches(text []byte, r *searched) bool {
	if f.Account != "" && !f.sees(r) ||
		!f.From.IsZero() && r.EventTime.Before(f.From) || !f.Until.IsZero() && !r.EventTime.Before(f.Until) ||
		f.Operation != "" && r.EventName != f.Operation {
		return false
	}
	switch f.Error {
	case "":
	case NoError:
		if r.ErrorCode != "" {
			return false
		}
	case AnyError:
		if r.ErrorCode == "" {
			return false
		}
	default:
		if r.ErrorCode != f.Error {
			return false
		}
	}
	return (f.Principal == "" || isBy(r, f.Principal)) && (f.Key == "" || isAbout(r, f.Key)) &&
		(f.Text == "" || contains(text, f.Text))
}

// sees tells whether a record is one of the account's.
func (f *Filter) sees(r *searched) bool {
	accounts := []string{r.RecipientAccountID, r.UserIdentity.AccountID}
	for _, about := range r.Resources {
		accounts = append(accounts, about.AccountID)
	}
	nobodys := !slices.ContainsFunc(accounts, func(a string) bool { return a != "" })
	return slices.Contains(accounts, f.Account) || nobodys && f.NoAccount
}

func isBy(r *searched, principal string) bool {
	u := r.UserIdentity
	return slices.ContainsFunc([]string{u.ARN, u.UserName, u.PrincipalID, u.AccessKeyID},
		func(name string) bool { return strings.Contains(name, principal) })
}

func isAbout(r *searched, key string) bool {
	return slices.ContainsFunc(r.Resources, func(about Resource) bool {
		return about.ARN == key || strings.HasSuffix(about.ARN, "/"+key)
	})
}

// contains looks for a text as JSON has it, with its escapes.
func contains(record []byte, text string) bool {
	quoted, err := json.Marshal(text)
	return err == nil && bytes.Contains(bytes.ToLower(record), bytes.ToLower(quoted[1:len(quoted)-1]))
}
