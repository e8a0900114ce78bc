package transport_test

import (
	"net/http"
	"testing"
)

// preflight sends the request of a browser before a page's script may call.
func (s *server) preflight(t *testing.T, origin string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodOptions, s.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Origin", origin)
	r.Header.Set("Access-Control-Request-Method", "POST")
	r.Header.Set("Access-Control-Request-Headers", "amz-sdk-invocation-id,amz-sdk-request,authorization,content-type,x-amz-content-sha256,x-amz-date,x-amz-target,x-amz-user-agent")
	resp := ok(s.http.Do(r))(t)
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp
}

// TestCrossOrigin: pages of the origins that are set may call, others may not, and none by default.
func TestCrossOrigin(t *testing.T) {
	const app, other = "https://app.example.com", "https://other.example.com"
	for _, test := range []struct {
		name    string
		origins []string
		allowed map[string]string // Access-Control-Allow-Origin by origin
		status  int
	}{
		{"none", nil, map[string]string{app: "", other: ""}, http.StatusNotFound},
		{"one", []string{app}, map[string]string{app: app, other: ""}, http.StatusOK},
		{"all", []string{"*"}, map[string]string{app: "*", other: "*"}, http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, options{cors: test.origins})
			for origin, want := range test.allowed {
				resp := s.preflight(t, origin)
				h := resp.Header
				if resp.StatusCode != test.status || h.Get("Access-Control-Allow-Origin") != want ||
					h.Get("Access-Control-Allow-Credentials") != "" {
					t.Errorf("%s: %s, %v", origin, resp.Status, h)
				}
				if want != "" && (h.Get("Access-Control-Allow-Methods") != "POST" ||
					h.Get("Access-Control-Max-Age") != "172800" ||
					h.Get("Access-Control-Allow-Headers") == "") {
					t.Errorf("%s: %v", origin, h)
				}
				// A script may read what a refusal says, too.
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/", nil)
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Origin", origin)
				refused := ok(s.http.Do(r))(t)
				_ = refused.Body.Close()
				if refused.StatusCode != http.StatusBadRequest ||
					refused.Header.Get("Access-Control-Allow-Origin") != want ||
					(refused.Header.Get("Access-Control-Expose-Headers") == "") != (want == "") {
					t.Errorf("%s: %s, %v", origin, refused.Status, refused.Header)
				}
			}
		})
	}
}
