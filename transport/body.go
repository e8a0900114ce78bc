package transport

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"sync"
)

// isJSON reports whether a request may be in JSON 1.1. One that does not name its type may be.
func isJSON(r *http.Request) bool {
	types := r.Header["Content-Type"]
	if len(types) == 0 {
		return true
	}
	if len(types) == 1 && types[0] == contentType {
		return true
	}
	kind, _, err := mime.ParseMediaType(types[0])
	return err == nil && len(types) == 1 && jsonTypes[kind]
}

var jsonTypes = map[string]bool{contentType: true, "application/x-amz-json-1.0": true, "application/json": true}

// bodies hold the bodies of requests. They are wiped before reuse, since they may hold plaintexts.
var bodies = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, 4<<10)) }}

// maxKeptBody is the size up to which a body's memory is used again, in bytes.
const maxKeptBody = 64 << 10

// release wipes a body and gives its memory back. nil is none.
func release(body *bytes.Buffer) {
	if body == nil {
		return
	}
	clear(body.Bytes())
	if body.Cap() <= maxKeptBody {
		body.Reset()
		bodies.Put(body)
	}
}

// readBody reads a body of at most limit bytes. It is valid until the exchange ends.
func (x *exchange) readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge(limit)
	}
	from := io.Reader(r.Body)
	if r.ContentLength < 0 { // net/http reads no more than a length that it knows
		from = http.MaxBytesReader(w, r.Body, limit)
	}
	x.body = bodies.Get().(*bytes.Buffer)
	x.body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead) // or reading to the end would grow it
	n, err := x.body.ReadFrom(from)
	if err != nil {
		return nil, unreadable(err, limit)
	}
	if n > limit {
		return nil, errTooLarge(limit)
	}
	return x.body.Bytes(), nil
}

func unreadable(err error, limit int64) error {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return errTooLarge(limit)
	}
	return errUnreadable
}
