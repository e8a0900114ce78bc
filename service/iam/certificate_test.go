package iam_test

import (
	"strings"
	"testing"

	"github.com/verenc/kms/service/iam"
)

func TestCertificatesOfUser(t *testing.T) {
	dir, _ := newDirectory(t)
	app, other := createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "app")),
		createPrincipal(t, dir, plainPrincipal(iam.KindUser, "/", "other"))
	fingerprint, err := iam.ParseFingerprint(strings.TrimSuffix(strings.Repeat("AB:", 32), ":"))
	if err != nil || fingerprint != strings.Repeat("ab", 32) {
		t.Fatal(fingerprint, err)
	}
	for _, text := range []string{"", "ab", strings.Repeat("xy", 32), strings.Repeat("ab", 33)} {
		_, err := iam.ParseFingerprint(text)
		wantWords(t, err, "is not the SHA-256 of a certificate", "openssl x509")
	}
	for range 2 {
		if err := dir.MapCertificate(t.Context(), fingerprint, app); err != nil {
			t.Error(err)
		}
	}
	wantWords(t, dir.MapCertificate(t.Context(), fingerprint, other), "is already mapped to "+app.ARN,
		"unmap "+fingerprint)
	if all, err := dir.Certificates(t.Context()); err != nil || len(all) != 1 || all[0].PrincipalARN != app.ARN {
		t.Errorf("%v, %v", all, err)
	}
	if err := dir.UnmapCertificate(t.Context(), fingerprint); err != nil {
		t.Error(err)
	}
	wantWords(t, dir.UnmapCertificate(t.Context(), fingerprint), "no principal has the certificate")
}
