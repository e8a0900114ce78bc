package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestClientsOfEachForm: doctor says which clients need which form of ARNs, and that a new user's
// configuration suits all of them.
func TestClientsOfEachForm(t *testing.T) {
	s := initialised(t)
	for form, words := range map[string][]string{
		"verenc": {"note  clients", "arn_format: aws for SOPS, cosign, Terraform, the AWS Encryption SDKs"},
		"aws":    {"ok    clients", "suits every AWS client"}} {
		got := s.with("VERENC_ARN_FORMAT="+form).run(t, "doctor").stdout
		for _, w := range words {
			if !strings.Contains(got, w) {
				t.Errorf("with %s, %q is not in:\n%s", form, w, got)
			}
		}
	}
	c, err := load(t, blockWith(t, "yaml", "token:"), nil)
	if err != nil || c.ARNFormat != "aws" {
		t.Errorf("the README's configuration: %+v, %v", c, err)
	}
	if defaults().ARNFormat != "verenc" {
		t.Error("the default changed")
	}
	text, err := os.ReadFile(filepath.Join(root, "scripts", "demo.sh"))
	if err != nil || !strings.Contains(string(text), "arn_format: ") {
		t.Errorf("demo.sh does not say its arn_format: %v", err)
	}
}
