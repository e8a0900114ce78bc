package reset

import (
	"net/http/httptest"
	"testing"
)

// TestRefusal: a reset comes from this machine, which the client's address tells. Package kmstest tests the rest.
func TestRefusal(t *testing.T) {
	for address, allowed := range map[string]bool{"127.0.0.1:1": true, "127.8.9.1:1": true, "[::1]:1": true,
		"192.0.2.1:1": false, "[2001:db8::1]:1": false, "": false, "@": false} {
		r := httptest.NewRequest("POST", "http://localhost:8600"+Path, nil)
		r.RemoteAddr = address
		r.Header.Set(Header, "1")
		if why := refusal(r); (why == "") != allowed {
			t.Errorf("%q: %q", address, why)
		}
	}
	for host, is := range map[string]bool{"localhost": true, "LocalHost": true, "127.0.0.1": true, "::1": true,
		"localhost.example.com": false, "0.0.0.0": false, "": false, "127.1": false} {
		if IsLoopback(host) != is {
			t.Errorf("%q", host)
		}
	}
}
