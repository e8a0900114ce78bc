package transport

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/verenc/kms/service"
)

// TestAnswersAreEncodedAsJSON compares every answer whose fields are written here with encoding/json.
func TestAnswersAreEncodedAsJSON(t *testing.T) {
	texts := []string{"", "arn:verenc:111122223333:key/x", `"\`, "<&>", "\x00\x1f\x7f", "ü\u2028", "\xff"}
	blobs := [][]byte{nil, {}, {0}, bytes.Repeat([]byte{0xfb, 0xff}, 100)}
	plain := 0
	for _, name := range service.OperationNames() {
		response := service.OperationNamed(name).Response
		if plainFields(response) == nil {
			continue
		}
		plain++
		for round := range len(texts) {
			v := reflect.New(response)
			for i := range response.NumField() {
				switch f := v.Elem().Field(i); f.Kind() {
				case reflect.String:
					f.SetString(texts[(round+i)%len(texts)])
				case reflect.Bool:
					f.SetBool(round%2 == 0)
				default:
					f.SetBytes(blobs[(round+i)%len(blobs)])
				}
			}
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(v.Interface()); err != nil {
				t.Fatal(err)
			}
			got, err := appendAnswer([]byte("before"), v.Interface())
			if err != nil || string(got)+"\n" != "before"+want.String() {
				t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, want.Bytes())
			}
		}
	}
	for _, name := range []string{"Encrypt", "Decrypt", "GenerateDataKey", "GenerateMac", "Sign"} {
		if plainFields(service.OperationNamed(name).Response) == nil {
			t.Errorf("the answer of %s is left to encoding/json", name)
		}
	}
	if plain < 8 {
		t.Errorf("only %d answers are written here", plain)
	}
}

// slowWriter is the answer of a stream that ended while it was written, as net/http's HTTP/2 server has it: somebody
// else reads on.
type slowWriter struct {
	http.ResponseWriter
	reads []byte
}

func (w *slowWriter) Write(p []byte) (int, error) {
	w.reads = p
	return 0, io.ErrClosedPipe
}

// TestUnwrittenAnswer: the buffer of an answer that could not be written has nothing else in it later.
func TestUnwrittenAnswer(t *testing.T) {
	w := &slowWriter{ResponseWriter: httptest.NewRecorder()}
	if err := answer(w, http.StatusOK, &service.ListKeysResponse{NextMarker: "unwritten"}); err == nil {
		t.Fatal("no error")
	}
	for range 10 {
		other := &service.ListKeysResponse{NextMarker: "another's"}
		if err := answer(httptest.NewRecorder(), http.StatusOK, other); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(string(w.reads), "unwritten") {
		t.Errorf("it has %q", w.reads)
	}
}
