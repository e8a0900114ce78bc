package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/service/iam/oidc/issuertest"
	"github.com/verenc/kms/transport/sdktest"
)

// TestPods: a process that has a token of an issuer and the name of a role, and no secret, uses a key through the AWS
// CLI, boto3 and the AWS SDK for Go as they are. docs/web-identity.md describes these steps.
//
// The CLI and boto3 of some distributions know no AWS_ENDPOINT_URL. Here AWS's own names lead them to the server, by a
// proxy; the SDK for Go has the variable.
func TestPods(t *testing.T) {
	issuer := issuertest.New(t)
	s := initialised(t)
	role := "arn:aws:iam::111122223333:role/orders"
	certificate, private, pool := selfSigned(t, s, "kms.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com",
		"sts.amazonaws.com")
	settings := s.write(t, "settings.yaml", fmt.Sprintf("oidc_issuers:\n  - url: %s\n    audiences: [%s]\n    ca_file: %s\n",
		issuer.URL, issuertest.Audience, issuer.CAFile), 0o600)
	s = s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY="+private, "VERENC_CONFIG="+settings)
	s.does(t, "apply", "-f", s.write(t, "principals.yaml", fmt.Sprintf(`accounts:
  "111122223333":
    roles:
      orders:
        trust:
          Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Principal: {Federated: "arn:aws:iam::111122223333:oidc-provider/%[1]s"}
              Action: sts:AssumeRoleWithWebIdentity
              Condition:
                StringEquals:
                  "%[1]s:aud": verenc
                  "%[1]s:sub": system:serviceaccount:shop:orders
        policies:
          use:
            Version: "2012-10-17"
            Statement: {Effect: Allow, Action: ["kms:Encrypt", "kms:Decrypt"], Resource: "*"}
`, issuer.Name()), 0o600))
	r := s.serve(t)
	var made struct{ KeyMetadata struct{ KeyId string } }
	got := runCommand(t, s.client(t, awsCLI, "--endpoint-url", "https://"+r.api, "--ca-bundle", certificate,
		"--output", "json", "kms", "create-key"))
	if err := json.Unmarshal([]byte(got.stdout), &made); got.code != 0 || err != nil {
		t.Fatalf("%v: %v", err, got)
	}
	key, token := made.KeyMetadata.KeyId, issuer.TokenFile(t, nil)
	// pod is a command of a process that has nothing else.
	environment := []string{"AWS_WEB_IDENTITY_TOKEN_FILE=" + token, "AWS_ROLE_ARN=" + role, "AWS_REGION=us-east-1",
		"AWS_STS_REGIONAL_ENDPOINTS=regional", "AWS_CA_BUNDLE=" + certificate, "HTTPS_PROXY=" + tunnelTo(t, r.api)}
	pod := func(path string, args ...string) *exec.Cmd {
		cmd := s.client(t, path, args...)
		cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
			return strings.HasPrefix(v, "AWS_SHARED_CREDENTIALS_FILE=") || strings.HasPrefix(v, "HOME=")
		})
		cmd.Env = append(cmd.Env, append(environment, "HOME="+t.TempDir())...)
		return cmd
	}
	t.Run("CLI", func(t *testing.T) {
		sealed := runCommand(t, pod(awsCLI, "kms", "encrypt", "--key-id", key, "--plaintext", "b3JkZXI=", "--query",
			"CiphertextBlob", "--output", "text"))
		if sealed.code != 0 {
			t.Fatal(sealed)
		}
		opened := runCommand(t, pod(awsCLI, "kms", "decrypt", "--ciphertext-blob", strings.TrimSpace(sealed.stdout),
			"--query", "Plaintext", "--output", "text"))
		if strings.TrimSpace(opened.stdout) != "b3JkZXI=" {
			t.Error(opened)
		}
		if denied := runCommand(t, pod(awsCLI, "kms", "create-key")); denied.code != 254 ||
			!strings.Contains(denied.stderr, "AccessDeniedException") {
			t.Error(denied)
		}
		asked := runCommand(t, pod(awsCLI, "sts", "assume-role-with-web-identity", "--role-arn", role,
			"--role-session-name", "cli", "--web-identity-token", "file://"+token, "--output", "json"))
		var answer struct{ SubjectFromWebIdentityToken, Provider, Audience string }
		if err := json.Unmarshal([]byte(asked.stdout), &answer); err != nil ||
			answer.SubjectFromWebIdentityToken != "system:serviceaccount:shop:orders" || answer.Audience != "verenc" ||
			answer.Provider != "arn:aws:iam::111122223333:oidc-provider/"+issuer.Name() {
			t.Error(asked)
		}
	})
	t.Run("boto3", func(t *testing.T) {
		job, err := filepath.Abs("testdata/boto3_webidentity.py")
		if err != nil {
			t.Fatal(err)
		}
		if got := runCommand(t, pod(python, job, key)); got.code != 0 {
			t.Error(got)
		}
	})
	t.Run("Go", func(t *testing.T) {
		for name, value := range map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": role,
			"AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": "https://" + r.api,
			"AWS_ENDPOINT_URL_STS":  "https://" + r.api, // the SDK does not use the other one for credentials
			"AWS_ACCESS_KEY_ID":     "",
			"AWS_SECRET_ACCESS_KEY": "", "AWS_PROFILE": "", "AWS_CA_BUNDLE": "", "AWS_CONFIG_FILE": "/dev/null",
			"AWS_SHARED_CREDENTIALS_FILE": "/dev/null"} {
			t.Setenv(name, value)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		t.Cleanup(transport.CloseIdleConnections)
		loaded, err := config.LoadDefaultConfig(t.Context(),
			config.WithHTTPClient(&http.Client{Transport: sdktest.Transport{Transport: transport}}))
		if err != nil {
			t.Fatal(err)
		}
		c := kms.NewFromConfig(loaded)
		sealed, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("an order")})
		if err != nil {
			t.Fatal(err)
		}
		opened, err := c.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil || string(opened.Plaintext) != "an order" {
			t.Errorf("%+v, %v", opened, err)
		}
		if who, err := loaded.Credentials.Retrieve(t.Context()); err != nil || !who.CanExpire ||
			who.Source != "WebIdentityCredentials" {
			t.Errorf("%s, %v", aws.ToString(&who.Source), err)
		}
	})
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	sent, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	checkServerLog(t, r, s.soft.PIN, strings.Split(string(sent), ".")[2])

	// The recipe of a cluster without a way to its issuer: the keys are in a file.
	s.write(t, "settings.yaml", fmt.Sprintf("oidc_issuers: [{url: %s, audiences: [verenc], jwks_file: %s}]\n",
		issuer.URL, issuer.JWKSFile(t)), 0o600)
	fetches := issuer.Fetches()
	r = s.serve(t)
	environment = append(environment, "HTTPS_PROXY="+tunnelTo(t, r.api))
	if got := runCommand(t, pod(awsCLI, "sts", "get-caller-identity")); got.code != 0 ||
		!strings.Contains(got.stdout, ":assumed-role/orders/") {
		t.Error(got)
	}
	if n := issuer.Fetches(); n != fetches {
		t.Errorf("%d fetches of the keys", n-fetches)
	}
	r.stop(t)

	s.write(t, "settings.yaml", "oidc_issuers: [{url: http://issuer.example, audiences: [verenc]}]\n", 0o600)
	refused(t, s.run(t, "serve"), "oidc_issuers", `"http://issuer.example" is not a URL such as https://`)
	s.write(t, "settings.yaml", "oidc_issuers: [{url: https://issuer.example, audience: verenc}]\n", 0o600)
	refused(t, s.run(t, "serve"), "oidc_issuers", "audience")
}

// tunnelTo returns the URL of a proxy that leads all connections to one address.
func tunnelTo(t *testing.T, address string) string {
	t.Helper()
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := net.Dial("tcp", address)
		if err != nil || r.Method != http.MethodConnect {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		defer to.Close()
		from, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer from.Close()
		if _, err := io.WriteString(from, "HTTP/1.1 200 OK\r\n\r\n"); err != nil {
			return
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = io.Copy(to, buffered) // which ends with the client's connection
			_ = to.(*net.TCPConn).CloseWrite()
		}()
		_, _ = io.Copy(from, to)
		_ = from.Close()
		<-ended
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}
