package transport_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/arn"
	"github.com/verenc/kms/service/audit"
)

// heard is an HTTP client that keeps the body of the last answer.
type heard struct {
	http *http.Client
	body string
}

func (h *heard) Do(r *http.Request) (*http.Response, error) {
	resp, err := h.http.Do(r)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	h.body = string(text)
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, err
}

// listen returns a client of the server that keeps the last answer.
func (s *server) listen() (*kms.Client, *heard) {
	h := &heard{http: s.http}
	return kms.New(s.Client.Options(), func(o *kms.Options) { o.HTTPClient = h }), h
}

var keyARNPattern = regexp.MustCompile(`arn:[a-z-]+:(kms:[a-z0-9-]+:)?[0-9]{12}:(key|alias)/`)

// wantForm checks that every ARN of a key or an alias in an answer has one form, and returns how
// many there are.
func wantForm(t *testing.T, answer, prefix string) int {
	t.Helper()
	all := keyARNPattern.FindAllString(answer, -1)
	for _, arn := range all {
		if !strings.HasPrefix(arn, prefix) {
			t.Errorf("%s... in an answer that should have %s...: %s", arn, prefix, answer)
		}
	}
	return len(all)
}

// nameKeys writes the members of a request that name keys in a form; it reports whether there are
// any.
func nameKeys(in any, prefix string) bool {
	named := false
	for _, member := range []string{"KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId"} {
		if f := reflect.ValueOf(in).Elem().FieldByName(member); f.IsValid() && !f.IsNil() {
			f.Set(reflect.ValueOf(aws.String(prefix + account + ":key/" + f.Elem().String())))
			named = true
		}
	}
	return named
}

// TestAnswersNameKeysAsRequestsDo calls every operation that has a key, in each form of its ARN:
// all ARNs of the answer, also of an error, have the form of the request.
func TestAnswersNameKeysAsRequestsDo(t *testing.T) {
	f := newFixture(t)
	client, h := f.listen()
	for _, form := range []struct{ prefix, want string }{
		{"arn:aws:kms:" + region + ":", "arn:aws:kms:"},
		{"arn:verenc:", "arn:verenc:"},
		{"arn:aws-us-gov:kms:" + region + ":", "arn:aws-us-gov:kms:"}, // clients compare partitions, too
	} {
		named := 0
		for _, op := range operationNames() {
			in := f.request(op)
			if !nameKeys(in, form.prefix) {
				continue
			}
			t.Run(form.want+op, func(t *testing.T) {
				if err := invoke(t.Context(), client, op, in); err != nil {
					t.Fatal(err)
				}
				named += wantForm(t, h.body, form.want)
				absent := f.request(op)
				for _, member := range []string{"KeyId", "TargetKeyId", "SourceKeyId", "DestinationKeyId"} {
					if m := reflect.ValueOf(absent).Elem().FieldByName(member); m.IsValid() && !m.IsNil() {
						m.Set(reflect.ValueOf(aws.String(absentKey)))
					}
				}
				nameKeys(absent, form.prefix)
				if err := invoke(t.Context(), client, op, absent); err == nil {
					t.Error("an absent key was used")
				}
				if wantForm(t, h.body, form.want) == 0 && op != "RetireGrant" {
					t.Errorf("the error names no key: %s", h.body)
				}
			})
		}
		if named < 30 {
			t.Errorf("only %d ARNs were looked at", named)
		}
	}
}

// TestARNFormatDecidesWhereTheRequestDoesNot: a request without an ARN is answered in the form that
// is set, one with ARNs of both forms in AWS's.
func TestARNFormatDecidesWhereTheRequestDoesNot(t *testing.T) {
	for format, want := range map[arn.Format]string{arn.Verenc: "arn:verenc:", arn.AWS: "arn:aws:kms:" + region} {
		s := newServer(t, options{service: func(c *service.Config) { c.ARNFormat = format }})
		id, arn := s.newKey(t)
		sealed := s.sealedBy(t, &id)
		name := aws.String("alias/a")
		ok(s.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: name, TargetKeyId: &arn}))(t)
		client, h := s.listen()
		for op, in := range map[string]any{
			"CreateKey": &kms.CreateKeyInput{}, "Decrypt": &kms.DecryptInput{CiphertextBlob: sealed},
			"DescribeKey": &kms.DescribeKeyInput{KeyId: &id},
			"Encrypt":     &kms.EncryptInput{KeyId: name, Plaintext: []byte("x")}, "ListKeys": &kms.ListKeysInput{},
			"ListAliases": &kms.ListAliasesInput{},
		} {
			if err := invoke(t.Context(), client, op, in); err != nil {
				t.Error(op, err)
			}
			if wantForm(t, h.body, want) == 0 {
				t.Errorf("%s names no key: %s", op, h.body)
			}
		}
		both := &kms.ReEncryptInput{CiphertextBlob: sealed,
			SourceKeyId:      aws.String("arn:verenc:" + account + ":key/" + id),
			DestinationKeyId: aws.String("arn:aws:kms:" + region + ":" + account + ":key/" + id)}
		if err := invoke(t.Context(), client, "ReEncrypt", both); err != nil ||
			wantForm(t, h.body, "arn:aws:kms:"+region) != 2 {
			t.Errorf("%v: %s", err, h.body)
		}
		both.SourceKeyId, both.DestinationKeyId = both.DestinationKeyId, both.SourceKeyId
		if err := invoke(t.Context(), client, "ReEncrypt", both); err != nil ||
			wantForm(t, h.body, "arn:aws:kms:"+region) != 2 {
			t.Errorf("%v: %s", err, h.body)
		}
	}
}

// TestRecordsKeepOneForm: whatever a request calls its key, the record's resource has the form that is set.
func TestRecordsKeepOneForm(t *testing.T) {
	var log recordList
	s := newServer(t, options{service: func(c *service.Config) { c.Audit = &log }})
	id, arn := s.newKey(t)
	for _, name := range []string{id, "arn:verenc:" + account + ":key/" + id,
		"arn:aws:kms:" + region + ":" + account + ":key/" + id} {
		ok(s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &name}))(t)
		if r := log.last(); len(r.Resources) != 1 || r.Resources[0].ARN != arn {
			t.Errorf("%s: the record has %v", name, r.Resources)
		}
	}
}

// recordList is an Auditor that keeps records in memory.
type recordList struct {
	mu   sync.Mutex
	list []audit.Record // guarded by mu
}

// Append implements record.Auditor.
func (l *recordList) Append(_ context.Context, r *audit.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, *r)
	return nil
}

func (l *recordList) last() audit.Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.list[len(l.list)-1]
}
