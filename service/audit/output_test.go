package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// receiver is a sink in memory.
type receiver struct {
	mu    sync.Mutex
	lines []string
	fail  fault
	wait  chan struct{} // when not nil, Write waits for it or for its context
}

var errSink = errors.New("injected failure of a sink")

func (r *receiver) set(f fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = f
}

func (r *receiver) Write(ctx context.Context, lines [][]byte) error {
	if r.wait != nil {
		select {
		case <-r.wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == lost {
		return errSink
	}
	for _, l := range lines {
		r.lines = append(r.lines, string(l))
	}
	if r.fail == whole {
		return errSink
	}
	return nil
}

func (r *receiver) Close() error { return nil }

// indexes returns the logIndex of each line that was received.
func (r *receiver) indexes(t testing.TB) []int64 {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var indexes []int64
	for _, text := range r.lines {
		l, err := parseLine([]byte(text))
		must(t, err)
		indexes = append(indexes, l.index)
	}
	return indexes
}

func TestRequiredOutput(t *testing.T) {
	for _, how := range []fault{lost, whole} {
		cfg := testConfig(t)
		sink := &receiver{}
		cfg.Outputs = []Output{{Name: "siem", Sink: sink, Required: true}}
		l := open(t, cfg)
		book := &ledger{acked: map[string]bool{}}
		must(t, book.append(l, 0))
		sink.set(how)
		for n := 1; n < 4; n++ {
			wantError(t, book.append(l, n), errSink)
		}
		wantError(t, l.Ready(ctx), errSink)
		if s := l.Stats(); s.Records != 2 || s.Outputs[0].Name != "siem" || !errors.Is(s.Outputs[0].Failure, errSink) {
			t.Errorf("only the first batch that the output failed for may be in the log: %+v", s)
		}
		sink.set(none)
		must(t, l.Ready(ctx))
		must(t, book.append(l, 4))
		must(t, l.Close(ctx))
		book.check(t, cfg)
		next := int64(0) // indexes may come twice, none is left out
		for _, index := range sink.indexes(t) {
			if index > next {
				t.Errorf("%v: a gap", sink.indexes(t))
			}
			next = max(next, index+1)
		}
		if next != 3 {
			t.Errorf("%v received", sink.indexes(t))
		}
	}
}

func TestQueuedOutputDropsAndCounts(t *testing.T) {
	cfg := testConfig(t)
	slow, dead := &receiver{wait: make(chan struct{})}, &receiver{fail: lost}
	cfg.Outputs = []Output{{Name: "slow", Sink: slow, Queue: 3}, {Name: "dead", Sink: dead}}
	l := open(t, cfg)
	add(t, l, 0, 10)
	must(t, l.Ready(ctx))
	if s := l.Stats().Outputs[0]; s.Dropped != 7 {
		t.Errorf("%+v", s)
	}
	close(slow.wait)
	must(t, l.Close(ctx))
	s := l.Stats().Outputs
	if s[0].Delivered != 3 || s[0].Dropped != 7 || s[1].Delivered != 0 || s[1].Dropped != 10 ||
		!errors.Is(s[1].Failure, errSink) {
		t.Errorf("%+v", s)
	}
	if got := fmt.Sprint(slow.indexes(t)); got != "[0 1 2]" {
		t.Error(got)
	}
}

func TestCloseDoesNotWaitForEverForOutputs(t *testing.T) {
	cfg := testConfig(t)
	cfg.OutputTimeout = time.Hour
	cfg.Outputs = []Output{{Name: "hangs", Sink: &receiver{wait: make(chan struct{})}}}
	l := open(t, cfg)
	add(t, l, 0, 3)
	must(t, l.Checkpoint(ctx))
	ended, cancel := context.WithCancel(ctx)
	cancel()
	must(t, l.Close(ended))
	if s := l.Stats().Outputs[0]; s.Dropped != 3 {
		t.Errorf("%+v", s)
	}
}

func TestWriterSink(t *testing.T) {
	var b bytes.Buffer
	s := NewWriterSink(&b)
	must(t, s.Write(ctx, [][]byte{[]byte("one"), []byte("two")}))
	must(t, s.Write(ctx, [][]byte{[]byte("three")}))
	must(t, s.Close())
	if b.String() != "one\ntwo\nthree\n" {
		t.Errorf("%q", b.String())
	}
	r, w := io.Pipe()
	must(t, r.Close())
	wantError(t, NewWriterSink(w).Write(ctx, [][]byte{nil}), io.ErrClosedPipe)
}

var syslogMessage = regexp.MustCompile(`^<110>1 2026-01-02T03:04:05\.678901Z host verenc \d+ audit - (.*)$`)

func newSyslog(t *testing.T, network, address string) *SyslogSink {
	t.Helper()
	s, err := NewSyslogSink(SyslogConfig{Network: network, Address: address, Hostname: "ho st\n",
		Now: func() time.Time { return t0 }})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

func wantMessage(t *testing.T, message, want string) {
	t.Helper()
	m := syslogMessage.FindStringSubmatch(message)
	if m == nil || m[1] != want {
		t.Errorf("message %q, want %q in it", message, want)
	}
}

func TestSyslogDatagrams(t *testing.T) {
	for _, network := range []string{"udp", "unixgram"} {
		address := "127.0.0.1:0"
		if network == "unixgram" {
			address = filepath.Join(t.TempDir(), "log")
		}
		server, err := net.ListenPacket(network, address)
		must(t, err)
		s := newSyslog(t, network, server.LocalAddr().String())
		must(t, s.Write(ctx, [][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)}))
		for _, want := range []string{`{"a":1}`, `{"b":2}`} {
			b := make([]byte, 1000)
			n, _, err := server.ReadFrom(b)
			must(t, err)
			wantMessage(t, string(b[:n]), want)
		}
		must(t, server.Close())
	}
}

func TestSyslogStreams(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = filepath.Join(t.TempDir(), "log")
		}
		server, err := net.Listen(network, address)
		must(t, err)
		s := newSyslog(t, network, server.Addr().String())
		for _, want := range []string{`{"a":"ü\n"}`, `{"b":2}`} {
			sent := make(chan error, 1)
			go func() { sent <- s.Write(ctx, [][]byte{[]byte(want), []byte(want)}) }()
			conn, err := server.Accept()
			must(t, err)
			r := bufio.NewReader(conn)
			for range 2 {
				digits, err := r.ReadString(' ')
				must(t, err)
				n, err := strconv.Atoi(strings.TrimSpace(digits))
				must(t, err)
				b := make([]byte, n)
				_, err = io.ReadFull(r, b)
				must(t, err)
				wantMessage(t, string(b), want)
			}
			must(t, <-sent)
			// The next round finds the connection dead and makes another.
			must(t, s.conn.Close())
			must(t, conn.Close())
		}
		must(t, server.Close())
		if err := s.Write(ctx, [][]byte{nil}); err == nil {
			t.Error("a dead server takes records")
		}
	}
	if _, err := NewSyslogSink(SyslogConfig{Network: "carrier-pigeon"}); err == nil {
		t.Error("any network is taken")
	}
}

func TestHTTPSink(t *testing.T) {
	for name, test := range map[string]struct {
		statuses []int
		requests int64
		ok       bool
	}{
		"taken":            {[]int{200}, 1, true},
		"taken in the end": {[]int{503, 429, 204}, 3, true},
		"never":            {[]int{503, 503, 503, 200}, 3, false},
		"refused":          {[]int{403, 200}, 1, false},
		"redirected":       {[]int{302, 200}, 1, false},
	} {
		var requests atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := requests.Add(1)
			body, err := io.ReadAll(r.Body)
			if err != nil || string(body) != "one\ntwo\n" || r.Header.Get("Authorization") != "Bearer secret" ||
				r.Header.Get("Content-Type") != "application/x-ndjson" {
				t.Errorf("%s: got %q, %v, %v", name, body, r.Header, err)
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(test.statuses[n-1])
		}))
		s, err := NewHTTPSink(HTTPConfig{URL: server.URL, Authorization: func() string { return "Bearer secret" },
			Pause: time.Nanosecond})
		must(t, err)
		err = s.Write(ctx, [][]byte{[]byte("one"), []byte("two")})
		if (err == nil) != test.ok || requests.Load() != test.requests ||
			err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v after %d requests", name, err, requests.Load())
		}
		must(t, s.Close())
		server.Close()
	}
	if _, err := NewHTTPSink(HTTPConfig{}); err == nil {
		t.Error("no URL is taken")
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestHTTPSinkKeepsItsURLToItself(t *testing.T) {
	client := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) { return nil, errSink })}
	s, err := NewHTTPSink(HTTPConfig{URL: "http://localhost/?token=secret", Client: client, Attempts: 1})
	must(t, err)
	err = s.Write(ctx, [][]byte{nil})
	wantError(t, err, errSink)
	if strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestHTTPSinkKeepsItsTime(t *testing.T) {
	ended, cancel := context.WithCancel(ctx)
	client := &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
		cancel()
		return &http.Response{StatusCode: 503, Body: http.NoBody}, nil
	})}
	s, err := NewHTTPSink(HTTPConfig{URL: "http://localhost", Client: client, Pause: time.Hour})
	must(t, err)
	if err := s.Write(ended, [][]byte{nil}); err == nil {
		t.Error("it was taken")
	}
}
