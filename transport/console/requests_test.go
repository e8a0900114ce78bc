package console_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/verenc/kms/transport"
)

// TestRequestsForPages: each request for a page is logged and counted, by its route; a client's
// addresses become no labels.
func TestRequestsForPages(t *testing.T) {
	s := newServer(t)
	core, logs := observer.New(zapcore.InfoLevel)
	registry := prometheus.NewRegistry()
	pages, err := transport.Pages(transport.Config{Service: s.Service, Log: zap.New(core), Metrics: registry,
		Regions: []string{region}})
	must(t, err)
	long := "/docs/" + strings.Repeat("x", 5000)
	asset := regexp.MustCompile(`/docs/assets/[0-9a-f]{16}/style\.css`).FindString(get(t, pages, "/docs").Body.String())
	logs.TakeAll()
	for _, c := range []struct {
		path, route string
		status      int
	}{
		{"/", "redirect", 302}, {"/docs", "/docs", 200}, {"/docs/Encrypt", "/docs/{operation}", 200},
		{"/docs/manual/grants", "/docs/manual/{chapter}", 200}, {"/docs/errors", "/docs/errors", 200},
		{asset, "/docs/assets/{asset}", 200}, {"/console", "/console", 200}, {"/console/keys/any", "/console/keys/{id}", 200},
		{"/console/nothing", "unknown", 404}, {long, "unknown", 404}, {"/docs/assets/0/a", "unknown", 404},
	} {
		w := get(t, pages, c.path, "User-Agent", "test")
		if w.Code != c.status {
			t.Errorf("%.40s: status %d, want %d", c.path, w.Code, c.status)
		}
		lines := logs.TakeAll()
		if len(lines) != 1 || lines[0].Message != "request" {
			t.Fatalf("%.40s: the log has %v", c.path, lines)
		}
		line := lines[0].ContextMap()
		path, _ := line["path"].(string)
		if line["operation"] != "GET "+c.route || line["status"] != int64(c.status) || len(path) > 200 ||
			!strings.HasPrefix(c.path, path) || line["user_agent"] != "test" ||
			line["request_id"] != w.Header().Get("X-Amzn-Requestid") {
			t.Errorf("%.40s: the log has %v", c.path, line)
		}
	}
	families, err := registry.Gather()
	must(t, err)
	routes := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if f.GetName() == "verenc_page_requests_total" && label.GetName() == "route" {
					routes[label.GetValue()] += m.GetCounter().GetValue()
				}
			}
		}
	}
	if len(routes) != 9 || routes["unknown"] != 3 || routes["/docs/{operation}"] != 1 {
		t.Errorf("the routes are %v", routes)
	}
}

// TestHead: HEAD answers as GET does, without the body, and both know an unchanged page and asset
// by each tag that a client may have.
func TestHead(t *testing.T) {
	server := httptest.NewServer(newPages(t))
	defer server.Close()
	send := func(method, path string, header http.Header) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		must(t, err)
		r.Header = header
		response, err := server.Client().Do(r)
		must(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		must(t, err)
		return response, string(body)
	}
	_, index := send(http.MethodGet, "/docs", http.Header{})
	assets := regexp.MustCompile(`/docs/assets/[0-9a-f]{16}/[a-z0-9./]+`).FindAllString(index, -1)
	for _, path := range append([]string{"/docs", "/docs/Encrypt", "/console", "/console/keys/a"}, assets...) {
		for _, coding := range []string{"gzip", "identity"} {
			header := http.Header{"Accept-Encoding": {coding}}
			got, body := send(http.MethodGet, path, header)
			head, none := send(http.MethodHead, path, header)
			if got.StatusCode != http.StatusOK || head.StatusCode != http.StatusOK || none != "" || body == "" {
				t.Errorf("%s, %s: %s with %d bytes; HEAD: %s with %d", path, coding, got.Status, len(body), head.Status, len(none))
			}
			if head.ContentLength != int64(len(body)) {
				t.Errorf("%s, %s: HEAD tells of %d bytes of %d", path, coding, head.ContentLength, len(body))
			}
			for _, name := range []string{"Content-Type", "Etag", "Cache-Control", "Vary", "Content-Encoding"} {
				if !slices.Equal(head.Header[name], got.Header[name]) {
					t.Errorf("%s, %s: %s is %v and %v", path, coding, name, got.Header[name], head.Header[name])
				}
			}
			tag := got.Header.Get("Etag")
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				for _, tags := range []string{tag, `"other", ` + tag, "W/" + tag, "*"} {
					header := http.Header{"Accept-Encoding": {coding}, "If-None-Match": {tags}}
					again, body := send(method, path, header)
					if again.StatusCode != http.StatusNotModified || body != "" || again.Header.Get("Etag") != tag ||
						again.Header.Get("Cache-Control") != got.Header.Get("Cache-Control") {
						t.Errorf("%s %s, %s, with %s: %s %v", method, path, coding, tags, again.Status, again.Header)
					}
				}
			}
			header.Set("Range", "bytes=0-9")
			if whole, text := send(http.MethodGet, path, header); whole.StatusCode != http.StatusOK || text != body {
				t.Errorf("%s, %s: a part of it: %s, %d bytes", path, coding, whole.Status, len(text))
			}
			header.Set("If-None-Match", `"other"`)
			if again, _ := send(http.MethodGet, path, header); again.StatusCode != http.StatusOK {
				t.Errorf("%s with another tag: %s", path, again.Status)
			}
		}
	}
	if head, body := send(http.MethodHead, "/docs/nothing", http.Header{}); head.StatusCode != http.StatusNotFound ||
		body != "" || head.Header.Get("Cache-Control") != "" {
		t.Errorf("an unknown page: %s %v", head.Status, head.Header)
	}
}
