package transport

import (
	"errors"
	"io"
	"mime"
	"net/http"
)

// isJSON reports whether a request may be in JSON 1.1. One that does not name its type may be.
func isJSON(r *http.Request) bool {
	types := r.Header["Content-Type"]
	if len(types) == 0 {
		return true
	}
	kind, _, err := mime.ParseMediaType(types[0])
	return err == nil && len(types) == 1 && jsonTypes[kind]
}

var jsonTypes = map[string]bool{contentType: true, "application/x-amz-json-1.0": true, "application/json": true}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge(limit)
	}
	body := make([]byte, 0, max(r.ContentLength, 0)+1) // one more byte, or reading to the end would grow the buffer
	limited := http.MaxBytesReader(w, r.Body, limit)
	for {
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, unreadable(err, limit)
		}
	}
}

func unreadable(err error, limit int64) error {
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return errTooLarge(limit)
	}
	return errUnreadable
}
