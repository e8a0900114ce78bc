package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	credentialsprovider "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service"
	"github.com/verenc/kms/service/certtest"
	"github.com/verenc/kms/service/iam"
	"github.com/verenc/kms/softhsm/faults"
	"github.com/verenc/kms/transport/sdktest"
)

// accessKey reads the file that verenc init wrote.
func (s *site) accessKey(t testing.TB) aws.Credentials {
	t.Helper()
	key := credentials.FindStringSubmatch(read(t, s.path("credentials")))
	if key == nil {
		t.Fatal("no credentials")
	}
	return aws.Credentials{AccessKeyID: key[1], SecretAccessKey: key[2]}
}

func (s *site) sdk(t testing.TB, url string, client *http.Client) *kms.Client {
	t.Helper()
	c := s.accessKey(t)
	return kms.New(kms.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1,
		HTTPClient:  sdktest.Of(client),
		Credentials: credentialsprovider.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, "")})
}

func get(t testing.TB, client *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// ready returns the answer of a URL with status 200. On a busy machine the checks behind /readyz may
// take longer than the server allows, and an answer is a second old.
func ready(t testing.TB, url string) (body string) {
	t.Helper()
	eventually(t, url+" says OK", func() bool {
		var status int
		status, body = get(t, http.DefaultClient, url)
		return status == http.StatusOK
	})
	return body
}

// operations are the methods of Service that take a request of a caller.
func operations() (names []string) {
	s := reflect.TypeFor[*service.Service]()
	for i := range s.NumMethod() {
		m := s.Method(i)
		if m.Type.NumIn() == 4 && m.Type.In(2) == reflect.TypeFor[*iam.Caller]() &&
			strings.HasSuffix(m.Type.In(3).String(), "."+m.Name+"Request") {
			if m.Name == "AssumeRole" { // of AWS STS
				m.Name = "sts:AssumeRole"
			}
			names = append(names, m.Name)
		}
	}
	return names
}

func TestServe(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	api, private := "http://"+r.api, "http://"+r.private
	client := s.sdk(t, api, http.DefaultClient)

	t.Run("main job", func(t *testing.T) {
		made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := client.GenerateDataKeyWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: made.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(16)})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil || len(opened.Plaintext) != 16 {
			t.Errorf("%+v, %v", opened, err)
		}
	})
	t.Run("health", func(t *testing.T) {
		for _, base := range []string{api, private} {
			for _, path := range []string{"/healthz", "/readyz"} {
				if body := ready(t, base+path); !strings.Contains(body, `"ok"`) {
					t.Errorf("%s: %s", path, body)
				}
			}
		}
	})
	t.Run("metrics", func(t *testing.T) {
		status, body := get(t, http.DefaultClient, private+"/metrics")
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		if n := len(operations()); n < 17 {
			t.Errorf("only %d operations", n)
		}
		for _, op := range operations() {
			for _, metric := range []string{"verenc_requests_total{error=\"\",operation=%q}",
				"verenc_request_seconds_count{operation=%q}"} {
				if metric = fmt.Sprintf(metric, op); !strings.Contains(body, metric) {
					t.Errorf("%s is missing", metric)
				}
			}
		}
		for _, line := range []string{`verenc_requests_total{error="",operation="Decrypt"} 1`,
			"verenc_token_connected 1", "verenc_token_failures_total 0", "go_goroutines", "process_open_fds"} {
			if !strings.Contains(body, "\n"+line) {
				t.Errorf("%s is missing", line)
			}
		}
	})
	t.Run("each listener has its own", func(t *testing.T) {
		for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/vars", "/config"} {
			if status, body := get(t, http.DefaultClient, api+path); status != http.StatusNotFound ||
				strings.Contains(body, "verenc_") {
				t.Errorf("public %s: %d %s", path, status, body)
			}
		}
		if _, err := s.sdk(t, private, http.DefaultClient).ListKeys(t.Context(), &kms.ListKeysInput{}); err == nil {
			t.Error("the private listener serves the API")
		}
	})
	t.Run("taken port", func(t *testing.T) {
		refused(t, s.with("VERENC_LISTEN="+r.api).run(t, "serve"), "listen for api: ", "address already in use",
			"choose another address")
		refused(t, s.with("VERENC_PRIVATE_LISTEN="+r.api).run(t, "serve"), "listen for private: ",
			"address already in use")
	})
	t.Run("without private listener", func(t *testing.T) {
		alone := s.with("VERENC_PRIVATE_LISTEN=", "VERENC_AUDIT_DIR=none").serve(t)
		ready(t, "http://"+alone.api+"/readyz")
		if code := alone.stop(t); code != 0 || strings.Contains(alone.text(t), `"private"`) {
			t.Errorf("exit code %d, %v", code, alone.log())
		}
	})

	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM", code)
	}
	checkServerLog(t, r, s.accessKey(t).SecretAccessKey, s.soft.PIN)
}

// checkServerLog expects JSON, request ids, and no secrets.
func checkServerLog(t *testing.T, r *running, secrets ...string) {
	t.Helper()
	ids := map[any]bool{}
	checkJSON(t, r)
	for _, line := range r.log() {
		if _, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line["time"])); err != nil || line["level"] == nil {
			t.Errorf("a line without time or level: %v", line)
		}
		if line["msg"] == "request" {
			id := line["request_id"]
			if id == nil || ids[id] {
				t.Errorf("a request without an id of its own: %v", line)
			}
			ids[id] = true
		}
	}
	if len(ids) < 3 {
		t.Errorf("%d requests are in the log", len(ids))
	}
	text := r.text(t)
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

func checkJSON(t *testing.T, r *running) {
	t.Helper()
	for _, line := range r.log() {
		if text, bad := line["not JSON"]; bad {
			t.Errorf("not JSON: %v", text)
		}
	}
}

func TestServeRefuses(t *testing.T) {
	s := newSite(t)
	refused(t, s.run(t, "serve"), "open database", "verenc init creates it")
	if r := s.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Fatal(r)
	}
	for _, test := range []struct {
		env   string
		words []string
	}{
		{"VERENC_TOKEN_LABEL=nobody", []string{`find token (label "nobody"`, "run verenc doctor"}},
		{"VERENC_TOKEN_MODULE=/nowhere/module.so", []string{"/nowhere/module.so", "scripts/setup.sh"}},
		{"VERENC_TOKEN_PIN_FILE=" + s.write(t, "wrong.pin", "00000000", 0o600),
			[]string{"token refused the PIN", "correct the PIN in the file " + s.path("wrong.pin")}},
		{"VERENC_TOKEN_PIN_FILE=/nowhere/pin", []string{"read PIN", "/nowhere/pin"}},
		{"VERENC_LISTEN=nonsense", []string{"listen: ", "nonsense", "give host:port"}},
		{"VERENC_LOG_LEVEL=loud", []string{"log_level", "loud"}},
	} {
		refused(t, s.with(test.env).run(t, "serve"), test.words...)
	}
	certificate, key, _ := selfSigned(t, s)
	refused(t, s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY=/nowhere/key").run(t, "serve"), "tls_key",
		"/nowhere/key")
	refused(t, s.with("VERENC_TLS_CERT="+key, "VERENC_TLS_KEY="+key).run(t, "serve"), "load tls_cert and tls_key")
}

// selfSigned makes a certificate for 127.0.0.1, and a pool that trusts it.
func selfSigned(t *testing.T, s *site, names ...string) (certificate, key string, pool *x509.CertPool) {
	t.Helper()
	a := certtest.New(t, "test", append(names, "127.0.0.1")...)
	return s.write(t, "tls.crt", certtest.CertificatePEM(a.Leaf), 0o600),
		s.write(t, "tls.key", certtest.KeyPEM(t, a.Certificate), 0o600), a.Pool()
}

func TestTLS(t *testing.T) {
	s := initialised(t)
	certificate, key, pool := selfSigned(t, s)
	r := s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY="+key).serve(t)
	over := func(c *tls.Config) *http.Client {
		c.RootCAs = pool
		transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true}
		t.Cleanup(transport.CloseIdleConnections)
		return &http.Client{Transport: transport}
	}
	client := over(&tls.Config{})
	if _, err := s.sdk(t, "https://"+r.api, client).ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
		t.Error(err)
	}
	resp, err := client.Get("https://" + r.api + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s, %v", resp.Proto, resp.Status, err)
	}
	if status, body := get(t, http.DefaultClient, "http://"+r.api+"/healthz"); status != http.StatusBadRequest ||
		!strings.Contains(body, "HTTPS") {
		t.Errorf("plain HTTP: %d %s", status, body)
	}
	if _, err := over(&tls.Config{MaxVersion: tls.VersionTLS11}).Get("https://" + r.api + "/healthz"); err == nil {
		t.Error("TLS 1.1 is served")
	}
	if _, err := (&http.Client{Transport: &http.Transport{}}).Get("https://" + r.api + "/healthz"); err == nil {
		t.Error("a client that does not trust the certificate is content")
	}
	ready(t, "http://"+r.private+"/readyz")
	if line := r.await(t, "serving", "listener", "api"); line["tls"] != true {
		t.Errorf("%v", line)
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	checkJSON(t, r)
	if !strings.Contains(r.text(t), "TLS handshake error") {
		t.Error("a failed handshake is not in the log")
	}
}

// signed is a request of an operation.
func signed(ctx context.Context, by aws.Credentials, url, operation, body string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	hash := sha256.Sum256([]byte(body))
	return r, v4.NewSigner().SignHTTP(ctx, by, r, hex.EncodeToString(hash[:]), "kms", "us-east-1", time.Now())
}

// halfRequest sends a signed request with only half of its body, and returns once the server reads
// it.
func (s *site) halfRequest(t *testing.T, address string) (conn net.Conn, answers *bufio.Reader, rest string) {
	t.Helper()
	body := `{"Limit":7` + strings.Repeat(" ", 20) + `}`
	r, err := signed(t.Context(), s.accessKey(t), "http://"+address+"/", "ListKeys", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Expect", "100-continue") // which the server answers when it begins to read the body
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n", address, len(body))
	if err := r.Header.Write(&head); err != nil {
		t.Fatal(err)
	}
	conn, err = net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := fmt.Fprintf(conn, "%s\r\n%s", head.Bytes(), body[:10]); err != nil {
		t.Fatal(err)
	}
	answers = bufio.NewReader(conn)
	for _, want := range []string{"HTTP/1.1 100 Continue\r\n", "\r\n"} {
		if line, err := answers.ReadString('\n'); err != nil || line != want {
			t.Fatalf("%q, %v", line, err)
		}
	}
	return conn, answers, body[10:]
}

// TestShutdownAnswers: a request that is in progress at SIGTERM is answered, and then the process
// ends well.
func TestShutdownAnswers(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	conn, answers, rest := s.halfRequest(t, r.api)
	r.terminate(t)
	r.await(t, "shutting down", "", "")
	if _, err := io.WriteString(conn, rest); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != `{"Keys":[],"Truncated":false}` {
		t.Errorf("%s %s, %v", resp.Status, body, err)
	}
	if code := r.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", r.api); !errors.Is(err,
		syscall.ECONNREFUSED) {
		t.Errorf("the port is still served: %v", err)
	}
	if line := r.await(t, "request", "operation", "ListKeys"); line["status"] != 200.0 {
		t.Errorf("%v", line)
	}
}

// TestShutdownGivesUp: a request that never ends does not keep the process from ending.
func TestShutdownGivesUp(t *testing.T) {
	s := initialised(t)
	r := s.with("VERENC_SHUTDOWN_TIMEOUT=10ms").serve(t)
	s.halfRequest(t, r.api)
	r.terminate(t)
	if code := r.wait(); code != 1 {
		t.Errorf("exit code %d, want 1: a request was cut off", code)
	}
	told := func(line logLine) bool {
		return strings.Contains(fmt.Sprint(line["not JSON"]), "shut down api: context deadline exceeded")
	}
	if !slices.ContainsFunc(r.log(), told) {
		t.Errorf("nothing is said of the api:\n%v", r.log())
	}
}

// TestFarToken: a token whose calls take long has the server use more of Go's processors, unless
// its operator has said how many.
func TestFarToken(t *testing.T) {
	s := initialised(t)
	module := faults.New(t, s.soft)
	module.SetLatency(2*time.Millisecond, "C_GenerateRandom")
	for name, test := range map[string]struct {
		site *site
		told bool
	}{
		"far":      {s.with("VERENC_TOKEN_MODULE=" + module.Path), true},
		"far, set": {s.with("VERENC_TOKEN_MODULE="+module.Path, "GOMAXPROCS=3"), false},
	} {
		r := test.site.serve(t)
		told := false
		for _, line := range r.log() {
			if line["msg"] == "the token is far away" {
				told = line["processors"].(float64) >= 4 && line["call"].(float64) >= 0.002
			}
		}
		if told != test.told {
			t.Errorf("%s: told %v:\n%v", name, told, r.log())
		}
		if code := r.stop(t); code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
	}
}

// TestProfiles: the private listener has profiles if the settings say so, and the API's never has.
func TestProfiles(t *testing.T) {
	s := initialised(t)
	for on, want := range map[string]int{"false": http.StatusNotFound, "true": http.StatusOK} {
		r := s.with("VERENC_PROFILING=" + on).serve(t)
		for _, name := range []string{"", "heap", "goroutine", "cmdline", "symbol", "profile?seconds=1", "trace?seconds=1"} {
			path := "/debug/pprof/" + name
			if got, text := get(t, http.DefaultClient, "http://"+r.private+path); got != want {
				t.Errorf("profiling %s: %s on the private listener: %d %s", on, path, got, text)
			}
			if got, text := get(t, http.DefaultClient, "http://"+r.api+path); got != http.StatusNotFound {
				t.Errorf("profiling %s: %s on the API's listener: %d %s", on, path, got, text)
			}
		}
		if on == "true" {
			cmd := exec.Command("go", "tool", "pprof", "-raw", "http://"+r.private+"/debug/pprof/heap?gc=1")
			cmd.Env = append(os.Environ(), "PPROF_TMPDIR="+t.TempDir())
			// serveOn holds the heapFloor.
			if out := runCommand(t, cmd); out.code != 0 || !strings.Contains(out.stdout, "inuse_space/bytes") ||
				!strings.Contains(out.stdout, "cmd/verenc.serveOn") {
				t.Errorf("the heap profile: %v", out)
			}
		}
		if code := r.stop(t); code != 0 {
			t.Errorf("profiling %s: the server ended with %d", on, code)
		}
	}
}

// TestRefusedSignature: the log says why a signature was refused, and for which access key, unless it may be a secret.
func TestRefusedSignature(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	mine := s.accessKey(t)
	for _, test := range []struct {
		by              aws.Credentials
		region          string
		code, logged    string
		mustNotBeLogged string
	}{
		{aws.Credentials{AccessKeyID: mine.AccessKeyID, SecretAccessKey: secret}, "us-east-1", "InvalidSignatureException",
			"access key " + mine.AccessKeyID + ": the signature is not that of the secret access key", secret},
		{aws.Credentials{AccessKeyID: "AKIAAAAAAAAAAAAAAAAA", SecretAccessKey: secret}, "us-east-1",
			"UnrecognizedClientException",
			"access key AKIAAAAAAAAAAAAAAAAA: the access key or its session token is not known", secret},
		{aws.Credentials{AccessKeyID: strings.ReplaceAll(secret, "/", ""), SecretAccessKey: "AKIAAAAAAAAAAAAAAAAA"},
			"us-east-1", "UnrecognizedClientException", "", strings.ReplaceAll(secret, "/", "")},
		{mine, strings.ReplaceAll(secret, "/", ""), "InvalidSignatureException",
			"access key " + mine.AccessKeyID + ": the signature is ", strings.ReplaceAll(secret, "/", "")},
	} {
		before := len(r.text(t))
		request, err := signed(t.Context(), test.by, "http://"+r.api, "ListKeys", "{}")
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization",
			strings.Replace(request.Header.Get("Authorization"), "/us-east-1/", "/"+test.region+"/", 1))
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		line := r.await(t, "request", "request_id", answer.Header.Get("X-Amzn-Requestid"))
		cause, _ := line["cause"].(string)
		if line["error"] != test.code || !strings.HasPrefix(cause, test.logged) || (cause == "") != (test.logged == "") {
			t.Errorf("%v, want the cause %q", line, test.logged)
		}
		if strings.Contains(r.text(t)[before:], test.mustNotBeLogged) {
			t.Errorf("the log has %s", test.mustNotBeLogged)
		}
	}
}
