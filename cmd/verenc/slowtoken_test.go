package main

import (
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/verenc/kms/softhsm/faults"
)

// TestSlowToken: twenty clients request RSA_4096 keys from a token that does not generate them in
// time. Each gets an answer, and so do requests for the server's health, on both listeners.
func TestSlowToken(t *testing.T) {
	s := newSite(t)
	module := faults.New(t, s.soft)
	cert, key, pool := selfSigned(t, s)
	s = s.with("VERENC_TOKEN_MODULE="+module.Path, "VERENC_TLS_CERT="+cert, "VERENC_TLS_KEY="+key,
		"VERENC_TOKEN_MAX_STUCK=64")
	if r := s.run(t, "init", "--credentials", s.path("credentials")); r.code != 0 {
		t.Fatal(r)
	}
	// The generation that hangs has the time of those that the server tries when it starts.
	r := s.with("VERENC_TOKEN_CALL_TIMEOUT=5s", "VERENC_TOKEN_GENERATE_TIMEOUT=20s").serve(t)
	https := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	t.Cleanup(https.CloseIdleConnections)
	client := s.sdk(t, "https://"+r.api, https)
	module.Hang("C_GenerateKeyPair")
	errs := make([]error, 20)
	var all sync.WaitGroup
	for n := range errs {
		all.Go(func() {
			_, errs[n] = client.CreateKey(t.Context(),
				&kms.CreateKeyInput{KeySpec: "RSA_4096", KeyUsage: "SIGN_VERIFY"})
		})
	}
	for _, url := range []string{"https://" + r.api + "/readyz", "http://" + r.private + "/readyz",
		"http://" + r.private + "/metrics"} {
		if status, body := get(t, https, url); status != http.StatusOK && status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", url, status, body)
		}
	}
	all.Wait()
	for _, err := range errs {
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != "DependencyTimeoutException" {
			t.Errorf("got %v, want DependencyTimeoutException", err)
		}
	}
	// The calls hang until the server has ended: with the race detector a process runs C's exit
	// functions, and SoftHSM crashes in them when it has work in progress.
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestLimits: whatever the times of the token, its last answer is given before a connection ends.
func TestLimits(t *testing.T) {
	for _, times := range [][2]time.Duration{{5 * time.Second, 30 * time.Second}, {time.Second, time.Second},
		{time.Minute, 10 * time.Minute}, {time.Minute, time.Second}} {
		c := defaults()
		c.Token.CallTimeout, c.Token.GenerateTimeout = times[0], times[1]
		l := limits(&c)
		if waits := requestTimeout + times[1] + 4*times[0]; l.Read != requestTimeout || l.Answer < waits ||
			l.Write <= l.Answer+times[1]+times[0] {
			t.Errorf("%v: %+v", times, l)
		}
		var servers serverGroup
		server, err := servers.listen("api", "127.0.0.1:0", &c)
		if err != nil {
			t.Fatal(err)
		}
		if server.ReadTimeout != l.Read || server.WriteTimeout != l.Write {
			t.Errorf("the server has %v and %v, not %+v", server.ReadTimeout, server.WriteTimeout, l)
		}
		if err := servers.closeListeners(); err != nil {
			t.Error(err)
		}
	}
}
