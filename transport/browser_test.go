package transport_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// chromium is the distribution's, as scripts/setup.sh browser installs it.
const chromium = "/usr/bin/chromium"

// visit is the page's result for one server: see scripts/browser/client.js.
type visit struct{ Plaintext, RequestID, Error, ErrorRequestID, Failure string }

// TestBrowser: the AWS SDK for JavaScript works in a page of another origin, in Chromium, with
// cors_origins; without them the browser lets nothing through.
func TestBrowser(t *testing.T) {
	if _, err := os.Stat(chromium); err != nil {
		t.Fatalf("%v: run scripts/setup.sh browser", err)
	}
	bundle := filepath.Join(t.TempDir(), "client.js")
	if out, err := exec.CommandContext(t.Context(), "../scripts/browser/bundle.sh",
		bundle).CombinedOutput(); err != nil {
		t.Fatalf("bundle the page's script: %v: %s", err, out)
	}
	results := make(chan map[string]visit, 1)
	var config struct {
		Region      string            `json:"region"`
		Credentials map[string]string `json:"credentials"`
		Endpoints   map[string]string `json:"endpoints"`
	}
	configured := make(chan struct{})
	pages := http.NewServeMux()
	pages.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><title>a page</title><script type="module" src="/client.js"></script>`)
	})
	pages.HandleFunc("GET /client.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, bundle) })
	pages.HandleFunc("GET /config.json", func(w http.ResponseWriter, _ *http.Request) {
		<-configured
		_ = json.NewEncoder(w).Encode(config)
	})
	pages.HandleFunc("POST /results", func(_ http.ResponseWriter, r *http.Request) {
		var visits map[string]visit
		if err := json.NewDecoder(r.Body).Decode(&visits); err != nil {
			t.Error(err)
		}
		results <- visits
	})
	page := httptest.NewServer(pages)
	t.Cleanup(page.Close)
	allowing, refusing := newServer(t, options{cors: []string{page.URL}}),
		newServer(t, options{cors: []string{"https://app.example.com"}})
	config.Region = region
	config.Credentials = map[string]string{"accessKeyId": allowing.Secret.AccessKeyID,
		"secretAccessKey": allowing.Secret.SecretAccessKey}
	config.Endpoints = map[string]string{"allowing": allowing.URL, "refusing": refusing.URL}
	close(configured)

	visits := browse(t, page.URL, results)
	if v := visits["allowing"]; v.Plaintext != "message" || v.RequestID == "" || v.Error != "NotFoundException" ||
		v.ErrorRequestID == "" || v.Failure != "" {
		t.Errorf("allowing: %+v", v)
	}
	if v := visits["refusing"]; v.Failure == "" {
		t.Errorf("refusing: %+v", v)
	}
}

// browse opens a page until it has told its results.
func browse(t *testing.T, url string, results <-chan map[string]visit) map[string]visit {
	t.Helper()
	var said lockedBuffer
	profile, err := os.MkdirTemp("", "verenc-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(profile) }) // its processes may still write there
	cmd := exec.CommandContext(t.Context(), chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
		"--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
		"--user-data-dir="+profile, url)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case visits := <-results:
		_ = cmd.Process.Kill()
		<-ended
		return visits
	case err := <-ended:
		t.Fatalf("Chromium ended before the page told its results: %v: %s", err, said.String())
	}
	return nil
}
