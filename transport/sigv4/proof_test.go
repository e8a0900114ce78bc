package sigv4

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// TestProof: the proof of a request verifies with the secret, for the target and the body that were signed.
func TestProof(t *testing.T) {
	const target, body = "Verenc.ApproveRequest", `{"RequestId":1}`
	prove := func(service, target string) *Proof {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://kms.example.com/",
			bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Target", target)
		hash := sha256.Sum256([]byte(body))
		credentials := aws.Credentials{AccessKeyID: exampleID, SecretAccessKey: exampleSecret, SessionToken: "session"}
		if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, hex.EncodeToString(hash[:]), service, "us-east-1",
			exampleTime); err != nil {
			t.Fatal(err)
		}
		if _, _, err := verifier(service).Verify(r, []byte(body), exampleTime); err != nil {
			t.Fatal(err)
		}
		p, err := Prove(r, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := prove("kms", target)
	if !good.Verify([]byte(exampleSecret), "kms", target, []byte(body)) || good.Scope.SecurityToken != "session" {
		t.Errorf("%+v does not verify", good)
	}
	if good.Verify([]byte("another"), "kms", target, []byte(body)) {
		t.Error("it verifies with another secret")
	}
	if good.Verify([]byte(exampleSecret), "kms", target, []byte(body+" ")) {
		t.Error("it verifies with another body")
	}
	if prove("kms", "TrentService.Decrypt").Verify([]byte(exampleSecret), "kms", target, []byte(body)) {
		t.Error("the signature of another operation verifies")
	}
	if prove("sts", target).Verify([]byte(exampleSecret), "kms", target, []byte(body)) {
		t.Error("the signature for another service verifies")
	}
	for name, change := range map[string]func(*Proof){
		"time":       func(p *Proof) { p.At = p.At.Add(time.Minute) },
		"day":        func(p *Proof) { p.At = p.At.AddDate(0, 0, 1) },
		"scope":      func(p *Proof) { p.Scope.Region = "eu-west-1" },
		"signature":  func(p *Proof) { p.Signature[0] ^= 1 },
		"header":     func(p *Proof) { p.Request = "POST\n/\n\nhost:x\n" + p.Request[len("POST\n/\n\n"):] },
		"method":     func(p *Proof) { p.Request = "GET" + p.Request[len("POST"):] },
		"no request": func(p *Proof) { p.Request = "" },
		"second line": func(p *Proof) {
			p.Request = "POST\n/\n\nx-amz-target:" + target + "\n" + p.Request[len("POST\n/\n\n"):]
		},
	} {
		changed := *good
		if change(&changed); changed.Verify([]byte(exampleSecret), "kms", target, []byte(body)) {
			t.Errorf("it verifies with another %s", name)
		}
	}
}
