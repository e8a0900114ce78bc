package transport

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"testing"
	"unicode/utf8"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/apierror"
)

// FuzzDecode: any body is refused in AWS's words, or is the request that its own encoding gives again.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		"", " ", "null", "{", `{"KeyId":null}`, `{"KeyId":"a","Plaintext":"eA=="}`,
		`{"KeyId":"a","Plaintext":"eA==","EncryptionContext":{"k":"v","":"\u0000","\ud83d\ude00":"\\ud83d"},"GrantTokens":["a"],"DryRun":true}`,
		`{"KeyId":"a","Plaintext":"eA==","EncryptionContext":{"k":"\ud83d"}}`, `{"KeyId":1,"KeyId":"x","Plaintext":[]}`,
		`{"KeyId":"a","NumberOfBytes":1e3,"KeySpec":"AES_256"}`, `{"KeyId":"a","NumberOfBytes":-0.0}`,
	} {
		f.Add([]byte(body))
	}
	requests := []any{service.EncryptRequest{}, service.GenerateDataKeyWithoutPlaintextRequest{}}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, r := range requests {
			d := newDecoder(reflect.TypeOf(r))
			first := decodeFresh(t, d, r, body)
			if first == nil {
				continue
			}
			if again := decodeFresh(t, d, r, encoded(t, first)); !reflect.DeepEqual(first, again) {
				t.Errorf("%q is %+v, which is %s, which is %+v", body, first, encoded(t, first), again)
			}
		}
	})
}

// decodeFresh gives a new request, or nil when it is refused, and checks how that is said.
func decodeFresh(t *testing.T, d *decoder, request any, body []byte) any {
	t.Helper()
	into := reflect.New(reflect.TypeOf(request)).Interface()
	err := d.decode(bytes.Clone(body), into)
	if err == nil {
		return into
	}
	var refusal *apierror.Error
	if form := new(errSerialization); !errors.As(err, &form) &&
		(!errors.As(err, &refusal) || refusal.Code != apierror.Validation) {
		t.Errorf("%q: an error of another kind: %v", body, err)
	}
	if p := problemOf(err); !utf8.ValidString(p.Message) || p.status != 400 ||
		len(p.Message) > maxNamed*(maxEcho+2048)+len(body) {
		t.Errorf("%q: %d, message of %d bytes", body, p.status, len(p.Message))
	}
	return nil
}

// encoded gives a request as JSON without the members that it does not have.
func encoded(t *testing.T, request any) []byte {
	t.Helper()
	members := map[string]any{}
	v := reflect.ValueOf(request).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); !f.IsZero() {
			members[v.Type().Field(i).Name] = f.Interface()
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func BenchmarkDecode(b *testing.B) {
	d := newDecoder(reflect.TypeFor[service.EncryptRequest]())
	body := []byte(`{"KeyId":"11111111-2222-4333-8444-555555555555","Plaintext":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","EncryptionContext":{"tenant":"blue","purpose":"bench"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.decode(body, new(service.EncryptRequest)); err != nil {
			b.Fatal(err)
		}
	}
}
