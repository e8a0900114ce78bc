package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// TestConsole: the setting says which listener has the pages. The AWS API is with them, for Try it
// out, and health and metrics are where they were.
func TestConsole(t *testing.T) {
	s := initialised(t)
	for setting, has := range map[string]struct{ api, private bool }{"on": {api: true}, "private": {private: true}, "off": {}} {
		t.Run(setting, func(t *testing.T) {
			r := s.with("VERENC_CONSOLE=" + setting).serve(t)
			for base, want := range map[string]bool{"http://" + r.api: has.api, "http://" + r.private: has.private} {
				for _, path := range []string{"/", "/docs", "/docs/Encrypt", "/docs/manual/grants", "/console", "/console/keys/1"} {
					status, body := get(t, http.DefaultClient, base+path)
					if (status == http.StatusOK) != want || strings.Contains(body, "<!doctype html>") != want {
						t.Errorf("%s%s: status %d", base, path, status)
					}
				}
				if status, _ := get(t, http.DefaultClient, base+"/healthz"); status != http.StatusOK {
					t.Errorf("%s/healthz: status %d", base, status)
				}
				_, err := s.sdk(t, base, http.DefaultClient).ListKeys(t.Context(), &kms.ListKeysInput{})
				if serves := base == "http://"+r.api || want; (err == nil) != serves {
					t.Errorf("the API at %s: %v", base, err)
				}
			}
			if status, body := get(t, http.DefaultClient, "http://"+r.private+"/metrics"); status != http.StatusOK ||
				!strings.Contains(body, "verenc_") {
				t.Errorf("/metrics: status %d", status)
			}
		})
	}
}

// TestConsoleSetting: YAML's off is the text off, and a value that is none is refused.
func TestConsoleSetting(t *testing.T) {
	const token = "\ntoken: {module: " + anyModule + "}\n"
	for value, want := range map[string]string{"off": "", "on": "", "private": "", "maybe": `console: "maybe" is none of on, private and off`} {
		c, err := load(t, "console: "+value+token, nil)
		switch {
		case want == "" && (err != nil || c.Console != value):
			t.Errorf("%s: %v, %v", value, c, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v", value, err)
		}
	}
	if _, err := load(t, "console: private\nprivate_listen: \"\""+token, nil); err == nil ||
		!strings.Contains(err.Error(), "private needs private_listen") {
		t.Errorf("private without a private listener: %v", err)
	}
}

// TestDocs: the command writes the pages without a configuration.
func TestDocs(t *testing.T) {
	s := newSite(t)
	dir := filepath.Join(s.dir, "pages")
	if r := s.run(t, "docs", "--out", dir); r.code != 0 {
		t.Fatal(r)
	}
	for _, name := range []string{"index.html", "Encrypt.html", "manual/getting-started.html"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil ||
			!strings.Contains(string(text), "Verenc KMS") {
			t.Errorf("%s: %v", name, err)
		}
	}
	man := filepath.Join(s.dir, "man")
	if r := s.with("SOURCE_DATE_EPOCH=1700000000").run(t, "docs", "--man", man); r.code != 0 {
		t.Fatal(r)
	}
	for _, name := range []string{"verenc.1", "verenc-serve.1", "verenc-audit-verify.1"} {
		if text, err := os.ReadFile(filepath.Join(man, name)); err != nil || !strings.Contains(string(text), `"Nov 2023"`) {
			t.Errorf("%s: %v\n%.200s", name, err, text)
		}
	}
	if r := s.run(t, "docs"); r.code == 0 || !strings.Contains(r.stderr, "out") {
		t.Error(r)
	}
}
