package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/audit"
)

// own calls one of Verenc's own operations as the root user.
func (s *site) own(t *testing.T, r *running, name, body string, answer any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.api+"/",
		strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-amz-json-1.1")
	request.Header.Set("X-Amz-Target", "Verenc."+name)
	sum := sha256.Sum256([]byte(body))
	err = v4.NewSigner().SignHTTP(t.Context(), s.accessKey(t), request, hex.EncodeToString(sum[:]), "kms", "us-east-1",
		time.Now())
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil || response.StatusCode != http.StatusOK {
		t.Errorf("%s: status %d, %v", name, response.StatusCode, err)
	}
	if err := response.Body.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestServerIsInspected: a server shows its audit log, with the record of the command that made its
// access key, proves it to auditors, and reports what it has measured of itself.
func TestServerIsInspected(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	if _, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	var list struct {
		Records []struct{ LogIndex, Record string }
	}
	s.own(t, r, "ListAuditRecords", `{"OperationName":"CreateAccessKey"}`, &list)
	if len(list.Records) != 1 || !strings.Contains(list.Records[0].Record, `"eventType":"VerencCommand"`) {
		t.Fatalf("the records are %+v", list)
	}
	if code := r.stop(t); code != 0 { // which signs a checkpoint
		t.Fatalf("exit code %d", code)
	}
	r = s.serve(t)
	var proof struct{ Proof string }
	s.own(t, r, "GetAuditProof", `{"LogIndex":"`+list.Records[0].LogIndex+`"}`, &proof)
	proven, err := audit.VerifyProof([]byte(proof.Proof), s.auditKey(t))
	if err != nil || string(proven.Record) != list.Records[0].Record {
		t.Errorf("%+v, %v", proven, err)
	}
	eventually(t, "the report has a sample", func() bool {
		var report struct {
			KeyCount int
			Plots    []struct {
				Name string
				Rows []struct{ Values []string }
			}
		}
		s.own(t, r, "GetReport", `{"Period":"DAY"}`, &report)
		measured := 0
		for _, p := range report.Plots {
			if last := p.Rows[len(p.Rows)-1]; (p.Name == "token" || p.Name == "audit") && last.Values[0] != "–" {
				measured++
			}
		}
		return report.KeyCount == 1 && measured == 2
	})
}
