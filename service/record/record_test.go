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

// TestBeforeEffect: what has to be done before the first effect is done once: before the record of a change, and before
// the answer of a request that changes nothing; not when it fails before that. If it can't be done, there is no effect.
func TestBeforeEffect(t *testing.T) {
	spent := apierror.New(apierror.AccessDenied, "spent")
	for name, test := range map[string]struct {
		do      func(context.Context) error
		refuse  error
		ran     int
		records []string
	}{
		"nothing changes": {func(context.Context) error { return nil }, nil, 1, []string{"id"}},
		"two changes": {func(ctx context.Context) error { return errors.Join(change(ctx), change(ctx)) }, nil, 1,
			[]string{"id"}},
		"it fails before": {func(context.Context) error { return apierror.New(apierror.NotFound, "no") }, nil, 0,
			[]string{"id NotFoundException"}},
		"refused, and nothing changes": {func(context.Context) error { return nil }, spent, 1,
			[]string{"id AccessDeniedException"}},
		"refused before a change": {func(ctx context.Context) error { return change(ctx) }, spent, 1,
			[]string{"id AccessDeniedException"}},
		"refused before a change, and it goes on": {func(ctx context.Context) error {
			_ = change(ctx)
			return change(ctx)
		}, spent, 1, []string{"id AccessDeniedException"}},
		"refused before a change that is not missed": {func(ctx context.Context) error {
			_ = change(ctx)
			return nil
		}, spent, 1, []string{"id AccessDeniedException"}},
	} {
		for _, recorded := range []bool{true, false} {
			log, ran := &memory{}, 0
			r := newRecorder(log)
			serve := func(ctx context.Context) (any, error) {
				err := BeforeEffect(ctx, func(context.Context) error {
					if ran++; len(log.records) != 0 {
						t.Errorf("%s: it runs after the record", name)
					}
					return test.refuse
				})
				if err != nil || ran != 0 {
					t.Errorf("%s: it ran at once, %v", name, err)
				}
				return &answer{[]byte{1}}, test.do(ctx)
			}
			var err error
			if recorded {
				_, err = r.Request(t.Context(), &Request{EventID: "id"}, serve)
			} else {
				_, err = r.Unrecorded(t.Context(), serve)
			}
			if ran != test.ran || test.refuse != nil && !errors.Is(err, test.refuse) ||
				recorded && !slices.Equal(log.events(), test.records) {
				t.Errorf("%s: it ran %d times, %v, %v", name, ran, err, log.events())
			}
		}
	}
	ran := false
	err := BeforeEffect(t.Context(), func(context.Context) error { ran = true; return spent })
	if !ran || !errors.Is(err, spent) {
		t.Error("without a record it does not run at once")
	}
}

// TestAuthorisedCommands: a command that is not allowed does nothing, and its record says so.
func TestAuthorisedCommands(t *testing.T) {
	denied := apierror.New(apierror.AccessDenied, "no")
	for _, auditor := range []Auditor{&memory{}, NoAudit} {
		r := newRecorder(auditor)
		var asked *Command
		r.authorise = func(_ context.Context, c *Command) error { asked = c; return denied }
		about := []audit.Resource{{ARN: "arn", AccountID: "account"}}
		err := r.Command(t.Context(), "CreateUser", about, nil, func(context.Context) error {
			t.Error("it was run")
			return nil
		})
		if !errors.Is(err, denied) || asked.Name != "CreateUser" || asked.Account != "account" {
			t.Errorf("%v, %+v", err, asked)
		}
		if log, kept := auditor.(*memory); kept && !slices.Equal(log.events(), []string{"e1 AccessDeniedException"}) {
			t.Error(log.events())
		}
	}
}
