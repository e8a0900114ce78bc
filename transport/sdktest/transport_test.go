package sdktest_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/verenc/kms/transport/sdktest"
)

// closedBody is a body that its owner has closed by the time that net/http has read it.
type closedBody struct{ *bytes.Reader }

func (closedBody) WriteTo(io.Writer) (int64, error) { return 0, io.EOF }
func (closedBody) Close() error                     { return nil }

// TestClosedBody sends a body whose WriteTo fails, as that of the SDK does once the answer has begun. The answer is too
// large for one read, and arrives whole.
func TestClosedBody(t *testing.T) {
	answer := bytes.Repeat([]byte("x"), 1<<20)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			_, _ = w.Write(answer)
		}
	}))
	defer server.Close()
	client := sdktest.Client()
	defer client.CloseIdleConnections()
	for range 20 {
		body := closedBody{bytes.NewReader(make([]byte, 1<<16))}
		r, err := http.NewRequestWithContext(t.Context(), "POST", server.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = int64(body.Len())
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, answer) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if err := resp.Body.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
