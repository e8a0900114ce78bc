// Package sdktest has the HTTP transport of the AWS SDK clients in tests, and a client for benchmarks.
package sdktest

import (
	"io"
	"net/http"
)

// Transport sends the requests of an AWS SDK for Go v2 client that does not repeat requests.
//
// The SDK closes the body of a request as soon as the answer begins. From then on the body's WriteTo
// answers io.EOF as an error (smithy-go 1.28.9, safeWriteToReadCloser). When net/http looks for
// further bytes of the body only after that, it takes the error for a failed request and closes the
// connection, perhaps in the middle of the answer. So net/http is shown a body without WriteTo.
type Transport struct{ *http.Transport }

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		sent := *r
		sent.Body = struct{ io.ReadCloser }{r.Body}
		r = &sent
	}
	return t.Transport.RoundTrip(r)
}

// Of returns a client that uses the connections of another one, whose transport is net/http's.
func Of(c *http.Client) *http.Client {
	base, ok := c.Transport.(*http.Transport)
	if !ok {
		base = http.DefaultTransport.(*http.Transport)
	}
	return &http.Client{Transport: Transport{base}}
}

// Client returns an HTTP client with connections of its own.
func Client() *http.Client { return &http.Client{Transport: Transport{&http.Transport{}}} }
