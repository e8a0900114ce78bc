package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// hangUp sends SIGHUP and waits until the server has read its files again.
func (r *running) hangUp(t *testing.T) {
	t.Helper()
	seen := len(r.log())
	if err := r.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for {
		r.mu.Lock()
		lines, more := r.lines, r.more
		r.mu.Unlock()
		for _, line := range lines[seen:] {
			if line["msg"] == "read the files again, as SIGHUP asks" {
				return
			}
		}
		select {
		case <-more:
		case <-r.ended:
			t.Fatalf("the server ended:\n%v", r.log())
		}
	}
}

// TestCertificateIsRenewedUnderLoad: clients that connect anew for each request see no error while the
// certificate is renewed, also badly, and at the end they see the new one.
func TestCertificateIsRenewedUnderLoad(t *testing.T) {
	s := initialised(t)
	certificate, key, pool := selfSigned(t, s)
	r := s.with("VERENC_TLS_CERT="+certificate, "VERENC_TLS_KEY="+key).serve(t)
	next := &site{soft: s.soft, dir: t.TempDir()}
	nextCertificate, nextKey, _ := selfSigned(t, next)
	pool.AppendCertsFromPEM([]byte(read(t, nextCertificate)))

	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	var requests atomic.Int64
	for range 3 {
		transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}
		client := s.sdk(t, "https://"+r.api, &http.Client{Transport: transport})
		clients.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.ListKeys(context.WithoutCancel(ctx), &kms.ListKeysInput{}); err != nil {
					t.Error(err)
					return
				}
				requests.Add(1)
			}
		})
	}
	served := func() *x509.Certificate {
		c, err := tls.Dial("tcp", r.api, &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	first := served()
	s.write(t, "tls.crt", "rubbish", 0o600)
	r.hangUp(t)
	r.await(t, "a changed file can't be used; its old contents stay in force", "what", "TLS certificates")
	if !served().Equal(first) {
		t.Error("another certificate is served")
	}
	s.write(t, "tls.crt", read(t, nextCertificate), 0o600)
	s.write(t, "tls.key", read(t, nextKey), 0o600)
	r.hangUp(t)
	if served().Equal(first) {
		t.Error("the old certificate is served")
	}
	for done := requests.Load() + 10; requests.Load() < done && !t.Failed(); {
		served()
	}
	stop()
	clients.Wait()
}

// TestFilesAreReadAgain: the settings, and the authorization of the audit log's HTTP output, on SIGHUP.
func TestFilesAreReadAgain(t *testing.T) {
	var authorization atomic.Value
	authorization.Store("")
	sink := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		authorization.Store(r.Header.Get("Authorization"))
	}))
	t.Cleanup(sink.Close)
	s := initialised(t)
	settings := s.write(t, "verenc.yaml", "log_level: info\n", 0o600)
	token := s.write(t, "token", "Bearer one", 0o600)
	r := s.with("VERENC_CONFIG="+settings, "VERENC_AUDIT_HTTP="+sink.URL, "VERENC_AUDIT_HTTP_REQUIRED=true",
		"VERENC_AUDIT_HTTP_AUTHORIZATION_FILE="+token).serve(t)
	list := func(want string) {
		t.Helper()
		if _, err := s.sdk(t, "http://"+r.api, http.DefaultClient).ListKeys(t.Context(),
			&kms.ListKeysInput{}); err != nil {
			t.Error(err)
		}
		if got := authorization.Load(); got != want {
			t.Errorf("authorization %q, and not %q", got, want)
		}
	}
	list("Bearer one")
	s.write(t, "token", "", 0o600)
	s.write(t, "verenc.yaml", "log_level: info\nregions: [us-east-1, eu-west-1]\n", 0o600)
	r.hangUp(t)
	list("Bearer one")
	r.await(t, "a changed file can't be used; its old contents stay in force", "what", "audit.http_authorization_file")
	waiting := r.await(t, "these settings are used after a restart", "", "")["settings"]
	if names, ok := waiting.([]any); !ok || len(names) != 1 || names[0] != "regions" {
		t.Errorf("%v", waiting)
	}
	s.write(t, "token", "Bearer two\n", 0o600)
	r.hangUp(t)
	list("Bearer two")
	if strings.Contains(r.text(t), "Bearer") {
		t.Error("the log has the authorization")
	}
}

// TestLogLevelIsReadAgain: a file that can't be used changes nothing.
func TestLogLevelIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verenc.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("token: {module: /m}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func() (*Config, error) {
		return loadConfig(path, pflag.NewFlagSet("", pflag.ContinueOnError), func() []string { return nil })
	}
	write("log_level: info\n")
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	c.run.file, c.run.load = path, load
	f := &settingsFile{inForce: *c, level: zap.NewAtomicLevel(), log: zap.NewNop()}
	for _, step := range []struct {
		text    string
		changed bool
		problem string
		level   zapcore.Level
	}{
		{"log_level: debug\n", true, "", zap.DebugLevel},
		{"log_level: debug\n", false, "", zap.DebugLevel},
		{"log_level: [\n", false, "read configuration", zap.DebugLevel},
		{"log_level: nonsense\n", false, "log_level", zap.DebugLevel},
		{"log_levle: info\n", false, "log_levle", zap.DebugLevel},
		{"log_level: error\n", true, "", zap.ErrorLevel},
	} {
		write(step.text)
		changed, err := f.reload()
		if changed != step.changed || (err == nil) != (step.problem == "") ||
			err != nil && !strings.Contains(err.Error(), step.problem) || f.level.Level() != step.level {
			t.Errorf("%q: %v, %v, %v", step.text, changed, err, f.level)
		}
	}
}
