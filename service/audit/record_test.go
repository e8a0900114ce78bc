package audit

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

func encoded(t testing.TB, r *Record) string {
	t.Helper()
	b, err := r.encode(nil)
	must(t, err)
	return string(b) + "}"
}

func TestRecordHasCloudTrailsShape(t *testing.T) {
	want :=
		`{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDAEXAMPLE","arn":"arn:aws:iam::111122223333:user/alice",` +
			`"accountId":"111122223333","accessKeyId":"AKIAIOSFODNN7EXAMPLE","userName":"alice"},"eventTime":"2026-01-02T03:04:08Z",` +
			`"eventSource":"kms.amazonaws.com","eventName":"Decrypt","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.1",` +
			`"userAgent":"aws-cli/2 \u003cü\u003e","requestParameters":{"keyId":"alias/a","encryptionContext":{"a":"2","b":"1"}},"responseElements":null,` +
			`"additionalEventData":{"keyMaterialId":"` + strings.Repeat("ab", 32) +
			`","ciphertextForm":2},"requestID":"request-3","eventID":"event-3",` +
			`"readOnly":true,"resources":[{"ARN":"arn:verenc:111122223333:key/1234","accountId":"111122223333","type":"AWS::KMS::Key"}],` +
			`"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"111122223333","eventCategory":"Management",` +
			`"tlsDetails":{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"kms.example.com"}}`
	if got := encoded(t, record(3)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	denied := &Record{EventTime: t0, EventSource: "s", EventName: "n", EventID: "e", ErrorCode: "AccessDenied",
		ErrorMessage: "no",
		UserIdentity: UserIdentity{Type: "AssumedRole",
			SessionContext: &SessionContext{Issuer: &SessionIssuer{Type: "Role"}, CreationDate: t0}}}
	for _, part := range []string{`"errorCode":"AccessDenied","errorMessage":"no","requestParameters":null`,
		`"sessionContext":{"sessionIssuer":{"type":"Role"}`} {
		if got := encoded(t, denied); !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
}

func TestRecordCanBeReadBack(t *testing.T) {
	first := encoded(t, record(3))
	var r Record
	must(t, json.Unmarshal([]byte(first), &r))
	if again := encoded(t, &r); again != first {
		t.Errorf("got  %s\nwant %s", again, first)
	}
	for _, bad := range []string{`[]`, `"a"`, `{"a":}`, `{1:2}`, ``} {
		if err := new(Object).UnmarshalJSON([]byte(bad)); err == nil {
			t.Errorf("%q is an object", bad)
		}
	}
}

// TestRecordIsBounded fills every member with what needs most room in JSON.
func TestRecordIsBounded(t *testing.T) {
	long := strings.Repeat("\x01", 100_000)
	r := Record{EventTime: time.Now(), RequestParameters: Object{{"policy", long}},
		ResponseElements: Object{{"a", long[:5000]}}, AdditionalEventData: Object{{"a", long[:6000]}}}
	fill(reflect.ValueOf(&r).Elem(), long)
	for range maxResources {
		r.Resources = append(r.Resources, Resource{long, long, long})
	}
	got := encoded(t, &r)
	if len(got)+maxTrailer > maxLine {
		t.Errorf("%d bytes", len(got))
	}
	var back Record
	must(t, json.Unmarshal([]byte(got), &back))
	original, err := Object{{"policy", long}}.appendTo(nil)
	must(t, err)
	sum := fmt.Sprintf(`"%x"`, sha256.Sum256(original))
	if string(back.RequestParameters[2].Value.(json.RawMessage)) != sum {
		t.Errorf("%s is not the digest of what was omitted", back.RequestParameters[2].Value)
	}
	if !strings.HasSuffix(back.UserAgent, cutMark) ||
		string(back.RequestParameters[0].Value.(json.RawMessage)) != "true" {
		t.Errorf("%s", got)
	}
	if r.Resources[0].ARN != long || r.TLSDetails.TLSVersion != long ||
		r.UserIdentity.SessionContext.Issuer.ARN != long {
		t.Error("the caller's record was changed")
	}
	r.Resources = append(r.Resources, Resource{})
	if _, err := r.encode(nil); err == nil {
		t.Error("any number of resources is taken")
	}
	r = *record(1)
	r.UserAgent = strings.Repeat("ü", 600)
	if got := encoded(t, &r); !strings.Contains(got, strings.Repeat("ü", 508)+cutMark) {
		t.Error(got)
	}
	r.RequestParameters = Object{{"f", func() {}}}
	if _, err := r.encode(nil); err == nil {
		t.Error("a function is encoded")
	}
}

// fill sets every string that can be reached from v.
func fill(v reflect.Value, s string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), s)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), s)
		}
	}
}
