package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/verenc/kms/service/apierror"
	"github.com/verenc/kms/service/audit"
)

// memory is an Auditor.
type memory struct{ records []audit.Record }

func (m *memory) Append(_ context.Context, r *audit.Record) error {
	m.records = append(m.records, *r)
	return nil
}

// events returns the ids of the records, and the codes of their errors.
func (m *memory) events() (ids []string) {
	for _, r := range m.records {
		ids = append(ids, strings.TrimSpace(r.EventID+" "+r.ErrorCode))
	}
	return ids
}

func newRecorder(auditor Auditor) *Recorder {
	drawn := 0
	return New(Config{Auditor: auditor, Operator: &Operator{Name: "ann", UserID: "1000"},
		Now:   func() time.Time { return time.Unix(1, 0) },
		NewID: func() (string, error) { drawn++; return fmt.Sprint("e", drawn), nil }})
}

func change(ctx context.Context) error { return BeforeChange(ctx) }

// TestWhenRecordsAreWritten: a record is written before the first change. Without a change, that of
// a request is written at its end, and that of an event or a command only if it fails.
func TestWhenRecordsAreWritten(t *testing.T) {
	denied := apierror.New(apierror.AccessDenied, "no")
	fails := func(context.Context) error { return denied }
	changes := func(ctx context.Context) error { return errors.Join(change(ctx), change(ctx)) }
	for _, test := range []struct {
		name                    string
		do                      func(context.Context) error
		request, event, command []string
	}{
		{"nothing", func(context.Context) error { return nil }, []string{"id"}, nil, nil},
		{"two changes", changes, []string{"id"}, []string{"e1"}, []string{"e1"}},
		{"failure", fails, []string{"id AccessDeniedException"}, []string{"e1 AccessDeniedException"},
			[]string{"e1 AccessDeniedException"}},
		{"change and failure", func(ctx context.Context) error { return errors.Join(change(ctx), denied) },
			[]string{"id", "id-failed AccessDeniedException"}, []string{"e1", "e1-failed AccessDeniedException"},
			[]string{"e1", "e1-failed AccessDeniedException"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := &memory{}
			_, _ = newRecorder(log).Request(t.Context(), &Request{EventID: "id"},
				func(ctx context.Context) (any, error) {
					return nil, test.do(ctx)
				})
			if got := log.events(); !slices.Equal(got, test.request) {
				t.Errorf("request: %q, want %q", got, test.request)
			}
			log = &memory{}
			_ = newRecorder(log).Event(t.Context(), Event{Name: RotateKey}, test.do)
			if got := log.events(); !slices.Equal(got, test.event) {
				t.Errorf("event: %q, want %q", got, test.event)
			}
			log = &memory{}
			_ = newRecorder(log).Command(t.Context(), "CreateUser", nil, nil, test.do)
			if got := log.events(); !slices.Equal(got, test.command) {
				t.Errorf("command: %q, want %q", got, test.command)
			}
		})
	}
}

// answer is one that holds a secret.
type answer struct{ secret []byte }

func (a *answer) Wipe() { clear(a.secret) }

// TestNoRecordNoAnswer: when the record of a request can't be written, its answer is wiped.
func TestNoRecordNoAnswer(t *testing.T) {
	a := &answer{[]byte{1}}
	serve := func(context.Context) (any, error) { return a, nil }
	out, err := newRecorder(&fullAuditor{}).Request(t.Context(), &Request{EventID: "id"}, serve)
	if out != nil || !apierror.Is(err, apierror.Internal) || !errors.Is(err, errFull) || a.secret[0] != 0 {
		t.Errorf("%v, %v, %v", out, err, a.secret)
	}
}

// TestParameters: a record has the members of a request that are set and are no secrets, with those
// of its structures.
func TestParameters(t *testing.T) {
	type timestamp time.Time
	type tag struct{ TagKey, TagValue string }
	type limits struct {
		Context map[string]string
		Secret  []byte `shape:"PlaintextType"`
	}
	in := struct {
		KeyId, Empty string
		Plaintext    []byte `shape:"PlaintextType"`
		ValidTo      timestamp
		Tags         []tag
		Limits       *limits
		DryRun       bool
	}{KeyId: "k", Plaintext: []byte{1}, ValidTo: timestamp(time.Unix(1, 0)), Tags: []tag{{"a", "b"}},
		Limits: &limits{map[string]string{"c": "d"}, []byte{1}}, DryRun: true}
	text, err := json.Marshal(Parameters(&in))
	const want = `{"keyId":"k","validTo":"1970-01-01T00:00:01Z","tags":[{"tagKey":"a","tagValue":"b"}],` +
		`"limits":{"context":{"c":"d"}},"dryRun":true}`
	if err != nil || string(text) != want {
		t.Errorf("got  %s, %v\nwant %s", text, err, want)
	}
	if Parameters(nil) != nil || Parameters("text") != nil {
		t.Error("what is no request has parameters")
	}
}

// TestServerEvent: what a server notices is recorded as its own, with a type that no request has.
func TestServerEvent(t *testing.T) {
	m := &memory{}
	if err := newRecorder(m).ServerEvent(t.Context(), "Noticed", audit.Object{{Name: "a", Value: 1}}); err != nil {
		t.Fatal(err)
	}
	if r := m.records[0]; len(m.records) != 1 || r.EventName != "Noticed" || r.EventType != "VerencServerEvent" ||
		r.EventID != "e1" || r.UserIdentity.Type != "AWSService" || len(r.AdditionalEventData) != 1 {
		t.Errorf("got %+v", m.records)
	}
}
