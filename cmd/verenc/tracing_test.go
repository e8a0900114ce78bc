package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/transport/sdktest"
	"github.com/verenc/kms/transport/tracing/collectortest"
)

// traced sends requests with the header traceparent of a trace.
type traced struct {
	client  *http.Client
	traceID string
}

func (c traced) Do(r *http.Request) (*http.Response, error) {
	r.Header.Set("Traceparent", "00-"+c.traceID+"-00f067aa0ba902b7-01")
	return c.client.Do(r)
}

// inTrace is a client whose requests belong to a trace.
func inTrace(of *kms.Client, n int) (*kms.Client, string) {
	id := fmt.Sprintf("%032x", n)
	return kms.New(of.Options(), func(o *kms.Options) { o.HTTPClient = traced{sdktest.Of(http.DefaultClient), id} }), id
}

// TestTracing has a server trace every request, and looks at what the collector gets: the spans of each kind of
// request, and nothing that is secret. The variables of OpenTelemetry, which name another collector, change nothing.
func TestTracing(t *testing.T) {
	collector := collectortest.New(t)
	s := initialised(t)
	s.does(t, "user", "create", "app")
	s.write(t, "app", s.does(t, "access-key", "create", "--user", "app"), 0o600)
	headers := s.write(t, "headers", "Authorization: Bearer of-the-collector\nX-Scope-OrgID: kms\n", 0o600)
	s = s.with("VERENC_TRACING_ENDPOINT="+strings.TrimSuffix(collector.URL, "/v1/traces"), "VERENC_TRACING_SAMPLE=1",
		"VERENC_TRACING_HEADERS_FILE="+headers, "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_HEADERS=x-of=environment",
		"OTEL_EXPORTER_OTLP_CERTIFICATE="+headers, "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "OTEL_TRACES_SAMPLER=always_off", "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=1",
		"OTEL_BSP_MAX_QUEUE_SIZE=1", "OTEL_SERVICE_NAME=another", "OTEL_RESOURCE_ATTRIBUTES=deployment=test")
	r := s.serve(t)
	root := s.sdk(t, "http://"+r.api, http.DefaultClient)

	creating, creation := inTrace(root, 1)
	made, err := creating.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	key := made.KeyMetadata.KeyId
	const plaintext, tenant = "a plaintext that no trace has", "a value that no trace has"
	encrypt := &kms.EncryptInput{KeyId: key, Plaintext: []byte(plaintext),
		EncryptionContext: map[string]string{"tenant": tenant}}
	firstly, first := inTrace(root, 2)
	sealed, err := firstly.Encrypt(t.Context(), encrypt)
	if err != nil {
		t.Fatal(err)
	}
	again, second := inTrace(root, 3)
	if _, err := again.Encrypt(t.Context(), encrypt); err != nil {
		t.Fatal(err)
	}
	generating, generation := inTrace(root, 4)
	dataKey, err := generating.GenerateDataKeyWithoutPlaintext(t.Context(), &kms.GenerateDataKeyWithoutPlaintextInput{
		KeyId: key, KeySpec: types.DataKeySpecAes256, EncryptionContext: encrypt.EncryptionContext})
	if err != nil {
		t.Fatal(err)
	}
	denied, denial := inTrace(s.application(t, "http://"+r.api, "app"), 5)
	if _, err := denied.Encrypt(t.Context(), encrypt); err == nil {
		t.Fatal("a user without policies may encrypt")
	}
	unsigned, err := http.NewRequest(http.MethodPost, "http://"+r.api, strings.NewReader(`{"KeyId":"`+*key+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	unsigned.Header.Set("Content-Type", "application/x-amz-json-1.1")
	unsigned.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
	const refusal = "00000000000000000000000000000006"
	answer, err := traced{http.DefaultClient, refusal}.Do(unsigned)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	wrong, wrongly := inTrace(root, 7)
	if _, err := wrong.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err == nil {
		t.Fatal("decrypted without the encryption context")
	}

	const tokenCall = "  token wait for a session\n"
	for _, test := range []struct{ trace, want string }{
		{second, `KMS/Encrypt
  authenticate
  authorise
` + tokenCall + `  token C_Encrypt
  audit append
`},
		{generation, `KMS/GenerateDataKeyWithoutPlaintext
  authenticate
  authorise
` + tokenCall + `  token C_GenerateKey
  token C_WrapKey
  token C_DestroyObject
  token C_Encrypt
  audit append
`},
		{refusal, `KMS/DescribeKey (MissingAuthenticationTokenException)
  authenticate (MissingAuthenticationTokenException)
`},
	} {
		span := collector.Await(t, test.trace)
		if got := collector.Tree(span); got != test.want {
			t.Errorf("got\n%swant\n%s", got, test.want)
		}
		if span.Parent != "00f067aa0ba902b7" || span.Failed {
			t.Errorf("%+v", span)
		}
	}
	for trace, words := range map[string][]string{
		creation: {"KMS/CreateKey\n", "\n  store BEGIN\n", "\n  store INSERT\n", "\n  store COMMIT\n",
			"\n  token C_GenerateKey\n"},
		first: {"KMS/Encrypt\n", "\n  store SELECT\n", "\n  token C_Encrypt\n"},
		denial: {"KMS/Encrypt (AccessDeniedException)\n", "\n  authorise (AccessDeniedException)\n", "\n    store SELECT\n",
			"\n  audit append\n"},
		wrongly: {"KMS/Decrypt (InvalidCiphertextException)\n", "\n  token C_Decrypt (CKR_GENERAL_ERROR)\n"},
	} {
		contains(t, collector.Tree(collector.Await(t, trace)), words...)
	}

	span := collector.Await(t, second)
	for name, want := range map[string]string{"rpc.system": "aws-api", "rpc.service": "KMS", "rpc.method": "Encrypt",
		"http.request.method": "POST", "http.response.status_code": "200", "url.scheme": "http",
		"client.address": "127.0.0.1", "cloud.region": "us-east-1", "user.id": "arn:aws:iam::111122223333:root",
		"aws.kms.key_id": *key, "aws.request_id": fmt.Sprint(r.await(t, "request", "trace_id", second)["request_id"])} {
		if span.Attributes[name] != want {
			t.Errorf("%s is %q, and not %q", name, span.Attributes[name], want)
		}
	}
	for name, want := range map[string]string{"service.name": "verenc-kms", "deployment": "test"} {
		if span.Resource[name] != want {
			t.Errorf("the resource has %q as %s, and not %q", span.Resource[name], name, want)
		}
	}
	for _, s := range collector.Spans(second) {
		a := s.Attributes
		if s.Name == "token C_Encrypt" && (a["pkcs11.function"] != "C_Encrypt" || a["pkcs11.slot"] == "" ||
			a["pkcs11.profile"] != "softhsm" || a["pkcs11.return_value"] != "CKR_OK") {
			t.Errorf("%+v", s)
		}
	}
	for _, h := range collector.Headers() {
		if h.Get("Authorization") != "Bearer of-the-collector" || h.Get("X-Scope-Orgid") != "kms" || h.Get("X-Of") != "" {
			t.Errorf("the collector got the headers %v", h)
		}
	}
	r.exemplar(t)

	pin, err := os.ReadFile(s.soft.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	secret := s.accessKey(t).SecretAccessKey
	for what, text := range map[string]string{"plaintext": plaintext, "value of an encryption context": tenant,
		"secret access key": secret, "PIN": strings.TrimSpace(string(pin)), "ciphertext": string(sealed.CiphertextBlob),
		"data key": string(dataKey.CiphertextBlob), "the collector's token": "of-the-collector"} {
		for _, form := range []string{text, base64.StdEncoding.EncodeToString([]byte(text)), fmt.Sprintf("%x", text)} {
			if bytes.Contains(collector.Raw(), []byte(form)) {
				t.Errorf("a trace has a %s", what)
			}
		}
	}
	if log := r.text(t); strings.Contains(log, "traces are lost") || strings.Contains(log, "not JSON") {
		t.Error(log)
	}
}

// exemplar checks that traces are exemplars in the histogram of requests.
func (r *running) exemplar(t *testing.T) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, "http://"+r.private+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text")
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(answer.Body); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text.String()) {
		if strings.HasPrefix(line, `verenc_request_seconds_bucket{operation="Encrypt"`) &&
			strings.Contains(line, `# {trace_id="0000000000000000000000000000000`) {
			return
		}
	}
	t.Errorf("no exemplar in\n%s", text.String())
}

// TestTracingWithoutCollector: a collector that is away changes nothing for clients, is told in the log and counted,
// and the server ends as always.
func TestTracingWithoutCollector(t *testing.T) {
	s := initialised(t).with("VERENC_TRACING_ENDPOINT=http://127.0.0.1:9", "VERENC_TRACING_SAMPLE=1")
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	if _, err := client.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8)}); err != nil {
		t.Fatal(err)
	}
	r.await(t, "traces are lost", "", "")
	_, text := get(t, http.DefaultClient, "http://"+r.private+"/metrics")
	contains(t, text, "\nverenc_tracing_spans_sent_total 0\n")
	if strings.Contains(text, `verenc_tracing_spans_dropped_total{reason="collector"} 0`) {
		t.Error("lost spans are not counted")
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("the server ended with %d", code)
	}
}
