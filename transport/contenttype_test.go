package transport_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestContentTypes: a request in another protocol gets AWS's answer for that, and is not read.
func TestContentTypes(t *testing.T) {
	s := newServer(t, options{})
	for _, test := range []struct {
		types []string
		path  string
		json  bool
	}{
		{[]string{"application/x-amz-json-1.1"}, "/", true},
		{[]string{"application/x-amz-json-1.1; charset=utf-8"}, "/", true},
		{[]string{"application/X-Amz-JSON-1.0"}, "/", true},
		{[]string{"application/json"}, "/", true},
		{nil, "/", true},
		{[]string{"application/cbor"}, "/", false},
		{[]string{"application/cbor"}, "/service/TrentService/operation/ListKeys", false}, // of Smithy's RPC v2
		{[]string{"application/x-amz-cbor-1.1"}, "/", false},
		{[]string{"application/x-amz-json-1.2"}, "/", false},
		{[]string{"application/xml"}, "/", false},
		{[]string{"text/plain; charset=utf-8"}, "/", false},
		{[]string{"application/x-www-form-urlencoded"}, "/", false}, // with an X-Amz-Target it is none of STS
		{[]string{"application/json", "application/cbor"}, "/", false},
		{[]string{"application/json; charset"}, "/", false},
		{[]string{""}, "/", false},
	} {
		t.Run(strings.Join(test.types, ",")+test.path, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+test.path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header["Content-Type"] = test.types
			r.Header.Set("X-Amz-Target", "TrentService.ListKeys")
			resp := ok(s.http.Do(r))(t)
			body := string(ok(io.ReadAll(resp.Body))(t))
			if err := resp.Body.Close(); err != nil {
				t.Error(err)
			}
			if test.json {
				if resp.StatusCode != http.StatusBadRequest ||
					!strings.Contains(body, `{"__type":"MissingAuthenticationTokenException"`) {
					t.Errorf("%d %s", resp.StatusCode, body)
				}
				return
			}
			if resp.StatusCode != http.StatusNotFound || body != "<UnknownOperationException/>\n" ||
				resp.Header["Content-Type"] != nil || resp.Header.Get("X-Amzn-Requestid") == "" {
				t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
			}
		})
	}
}
