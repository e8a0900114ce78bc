package bench_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkRequest is what a request costs without net/http's part: from the handler's call to its
// return, with the audit log and the request log on. Its allocations are those of transport, service and hsm
// together, and six of its own: the request, its body twice, and the answer's header.
func BenchmarkRequest(b *testing.B) {
	w := newWorkbench(b)
	handler := w.audited[len(w.audited)-1].handler
	for _, o := range w.operations(b) {
		b.Run(strings.ReplaceAll(o.name, " ", ""), func(b *testing.B) {
			text, err := json.Marshal(o.body)
			check(b, err)
			operation, _, _ := strings.Cut(o.name, " ")
			var sent bytes.Buffer
			check(b, w.signed(b, w.url, operation, string(text)).Write(&sent))
			request, err := http.ReadRequest(bufio.NewReader(&sent)) // as a server has it
			check(b, err)
			request.RemoteAddr = "127.0.0.1:40000"
			b.ReportAllocs()
			for b.Loop() {
				r := request.WithContext(b.Context())
				r.Body = io.NopCloser(bytes.NewReader(text))
				answer := discarded{header: make(http.Header, 8)}
				handler.ServeHTTP(&answer, r)
				if answer.status != http.StatusOK {
					b.Fatalf("status %d", answer.status)
				}
			}
		})
	}
}

// discarded is an answer of which only the status is kept.
type discarded struct {
	header http.Header
	status int
}

func (d *discarded) Header() http.Header         { return d.header }
func (d *discarded) WriteHeader(status int)      { d.status = status }
func (d *discarded) Write(p []byte) (int, error) { return len(p), nil }
