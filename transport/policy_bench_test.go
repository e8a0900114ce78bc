package transport_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/transport"
)

// manyStatements is a key policy whose 50th statement allows what the caller wants. The others, with conditions of each
// sort, must all be looked at.
func manyStatements(arn string) string {
	var all []statement
	for i := range 48 {
		s := statement{Sid: fmt.Sprint("s", i), Principal: principals(arn, iamARN(account, fmt.Sprintf("role/r%d", i))),
			Action: []string{"kms:Generate*", "kms:Decrypt"}}
		if i%4 == 0 {
			s.Effect = "Deny"
		}
		s.Condition = []map[string]any{
			{"StringEquals": map[string]string{"kms:EncryptionContext:tenant": fmt.Sprint("t", i)}},
			{"StringLike": map[string]string{"aws:PrincipalTag/team": fmt.Sprintf("t%d-*", i)}},
			{"IpAddress": map[string]string{"aws:SourceIp": fmt.Sprintf("10.%d.0.0/16", i)}},
			{"DateLessThan": map[string]string{"aws:CurrentTime": "2020-01-01T00:00:00Z"}},
			{"ForAnyValue:StringEquals": map[string]string{"kms:EncryptionContextKeys": fmt.Sprint("k", i)}},
			{"Bool": map[string]string{"aws:SecureTransport": "true"},
				"NumericLessThan": map[string]string{"aws:EpochTime": fmt.Sprint(i)}},
		}[i%6]
		all = append(all, s)
	}
	return keyPolicy(append(all, statement{Principal: principals(arn), Action: "kms:Generate*",
		Condition: map[string]any{"StringEquals": map[string]string{"kms:EncryptionContext:tenant": "blue"}}})...)
}

// BenchmarkPolicy measures what a key policy of 50 statements adds to a data-plane request over
// HTTP: it and a policy of two statements take turns, so that a machine which changes its speed
// changes both, and the first quartiles are compared, which other load moves least. No more than 5
// % is allowed.
func BenchmarkPolicy(b *testing.B) {
	s := newServer(b, options{})
	alice := s.user(b, account, "alice")
	for i := range 48 { // whom the policy names
		s.role(b, account, fmt.Sprintf("r%d", i), iam.PrincipalDetails{Trust: trusting(alice.ARN)})
	}
	few := s.keyWith(b, keyPolicy(statement{Principal: principals(alice.ARN), Action: "kms:Generate*"}))
	many := s.keyWith(b, manyStatements(alice.ARN))
	h, err := transport.New(transport.Config{Service: s.Service, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		Regions: []string{region}})
	if err != nil {
		b.Fatal(err)
	}
	l := httptest.NewServer(h)
	b.Cleanup(l.Close)
	timed := func(key string) time.Duration {
		body := fmt.Sprintf(`{"KeyId":%q,"KeySpec":"AES_256","EncryptionContext":{"tenant":"blue","purpose":"test"}}`,
			key)
		r := post(b, l.URL, jsonType, "TrentService.GenerateDataKeyWithoutPlaintext", body)
		signRequest(b, r, alice.Secret, "kms", body, time.Now())
		begun := time.Now()
		resp, text := send(b, http.DefaultClient, r)
		took := time.Since(begun)
		if resp.StatusCode != http.StatusOK {
			b.Fatalf("%s %s", resp.Status, text)
		}
		return took
	}
	var withFew, withMany []time.Duration
	for b.Loop() {
		withFew, withMany = append(withFew, timed(few)), append(withMany, timed(many))
		withMany, withFew = append(withMany, timed(many)), append(withFew, timed(few)) // neither is always the first
	}
	quartile := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/4].Nanoseconds()) / 1000
	}
	f, m := quartile(withFew), quartile(withMany)
	b.ReportMetric(f, "µs/few")
	b.ReportMetric(m, "µs/many")
	b.ReportMetric(100*(m/f-1), "%more")
}
