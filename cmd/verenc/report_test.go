package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/evidence"
)

var update = flag.Bool("update", false, "write the golden files of reports")

// TestReportFormats prints the report that the test of package evidence makes.
func TestReportFormats(t *testing.T) {
	const made = "../../service/evidence/testdata/report.json"
	var r evidence.Report
	if err := json.Unmarshal([]byte(read(t, made)), &r); err != nil {
		t.Fatal(err)
	}
	for format, write := range reportFormats {
		t.Run(format, func(t *testing.T) {
			var out bytes.Buffer
			if err := write(&out, &r); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", "report."+format)
			if format == "json" {
				golden = made
			} else if *update {
				if err := os.WriteFile(golden, out.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := read(t, golden); out.String() != want {
				t.Errorf("it is not as in %s (go test -update writes it):\n%s", golden, out.String())
			}
			for _, secret := range []string{"secret", "sealed", "\x1b"} {
				if strings.Contains(out.String(), secret) {
					t.Errorf("%q is in it", secret)
				}
			}
		})
	}
	page := read(t, filepath.Join("testdata", "report.html"))
	for text, want := range map[string]bool{"<script": false, "src=": false, "href=": false, "&lt;script&gt;": true} {
		if strings.Contains(page, text) != want {
			t.Errorf("the page is not escaped, or not self-contained: it has %q: %t", text, !want)
		}
	}
}

// TestReportCommand: a report is made while a server runs.
func TestReportCommand(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	made, err := s.sdk(t, "http://"+r.api, http.DefaultClient).CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	var got evidence.Report
	if err := json.Unmarshal([]byte(s.succeeds(t, "report", "--format", "json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Keys) != 1 || got.Keys[0].ARN != *made.KeyMetadata.Arn ||
		len(got.AccessKeys) != 1 || got.AccessKeys[0].ID != s.accessKey(t).AccessKeyID {
		t.Errorf("%+v", got)
	}
	if text := s.succeeds(t, "report"); !strings.Contains(text, "key "+*made.KeyMetadata.KeyId) {
		t.Error(text)
	}
	text := s.succeeds(t, "report", "--region", "eu-west-1")
	if !strings.Contains(text, "region eu-west-1") || !strings.Contains(text, ": 0 keys") {
		t.Error(text)
	}
	refused(t, s.run(t, "report", "--format", "pdf"), "pdf is not text, json or html")
}
