package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service/audit"
	"github.com/verenc/kms/transport/sdktest"
)

// succeeds runs a command that must succeed, and returns its standard output.
func (s *site) succeeds(t *testing.T, args ...string) string {
	t.Helper()
	r := s.run(t, args...)
	if r.code != 0 {
		t.Fatalf("verenc %v: %v", args, r)
	}
	return r.stdout
}

// auditKey is the log's current public key.
func (s *site) auditKey(t *testing.T) string {
	t.Helper()
	keys := strings.Fields(s.succeeds(t, "audit", "keys"))
	return keys[len(keys)-1]
}

// recorded returns the request ids in the log.
func (s *site) recorded(t *testing.T) map[string]string {
	t.Helper()
	ids := map[string]string{}
	err := audit.Read(os.DirFS(s.path("audit")), func(_ int64, text []byte) error {
		var r struct{ RequestID, EventName string }
		err := json.Unmarshal(text, &r)
		ids[r.RequestID] = r.EventName
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// answers collects the request ids of answers.
type answers struct {
	mu  sync.Mutex
	ids []string // guarded by mu
}

func (a *answers) Do(r *http.Request) (*http.Response, error) {
	resp, err := sdktest.Of(http.DefaultClient).Do(r)
	if err == nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ids = append(a.ids, resp.Header.Get("X-Amzn-Requestid"))
	}
	return resp, err
}

func (a *answers) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}

// recordedClient is an AWS client that collects the ids of its requests.
func (s *site) recordedClient(t *testing.T, r *running, a *answers) *kms.Client {
	t.Helper()
	return kms.New(s.sdk(t, "http://"+r.api, http.DefaultClient).Options(), func(o *kms.Options) { o.HTTPClient = a })
}

// copyLog copies the log's folder, so that a test can change it.
func (s *site) copyLog(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.path("audit"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAuditCommands(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	a := &answers{}
	client := s.recordedClient(t, r, a)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{Description: aws.String("of the audit")})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if _, err := client.Encrypt(t.Context(),
			&kms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: []byte("secret")}); err != nil {
			t.Fatal(err)
		}
	}
	key := s.auditKey(t) // while the server runs, like the next four
	if text := s.succeeds(t, "audit", "verify", s.path("audit"), "--key", key); !strings.Contains(text, "7 records") ||
		!strings.Contains(text, "the log is as it was written") {
		t.Error(text)
	}
	refused(t, s.run(t, "audit", "init"), "audit")
	busy := s.run(t, "audit", "rotate-key")
	refused(t, busy, "another process writes this log (stop the server first)")
	if strings.Contains(busy.stderr, "audit init") || strings.Contains(busy.stderr, "temporarily") {
		t.Error(busy)
	}
	refused(t, s.run(t, "serve"), "another process writes this log (give each server an audit.dir of its own)")
	if text := s.succeeds(t, "init", "--add-access-key"); credentials.FindStringSubmatch(text) == nil {
		t.Error(text)
	}
	if code := r.stop(t); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	refused(t, s.run(t, "audit", "prove", s.path("audit"), "nobody"), "no record has the event or request id nobody")

	proof := s.write(t, "proof", s.succeeds(t, "audit", "prove", s.path("audit"), a.ids[0]), 0o600)
	text := s.succeeds(t, "audit", "check-proof", proof, "--key", key)
	if !strings.Contains(text, "record 1 of 8 in log verenc-kms") ||
		!strings.Contains(text, `"eventName":"CreateKey"`) || !strings.Contains(text, a.ids[0]) {
		t.Error(text)
	}
	forged := []byte(read(t, proof))
	forged[len(forged)/2] ^= 1
	refused(t, s.run(t, "audit", "check-proof", s.write(t, "forged", string(forged), 0o600), "--key", key), "proof")
	other := initialised(t).auditKey(t)
	refused(t, s.run(t, "audit", "check-proof", proof, "--key", other), "proof")
	refused(t, s.run(t, "audit", "verify", s.path("audit"), "--key", other))
	checkpoint := s.write(t, "known", read(t, filepath.Join(s.path("audit"), "checkpoint")), 0o600)

	t.Run("flipped byte", func(t *testing.T) {
		dir := s.copyLog(t)
		segments, err := filepath.Glob(filepath.Join(dir, "records", "*.jsonl"))
		if err != nil || len(segments) != 1 {
			t.Fatal(segments, err)
		}
		text := []byte(read(t, segments[0]))
		third := bytes.Index(text, []byte(a.ids[2]))
		text[third] ^= 1
		if err := os.WriteFile(segments[0], text, 0o600); err != nil {
			t.Fatal(err)
		}
		got := s.run(t, "audit", "verify", dir, "--key", key)
		if got.code != 1 || !regexp.MustCompile(`records/0+\.jsonl.*3\b`).MatchString(got.stdout) ||
			strings.Contains(got.stdout, "as it was written") {
			t.Errorf("%v", got)
		}
	})
	t.Run("an earlier state", func(t *testing.T) {
		old := s.copyLog(t)
		r := s.serve(t)
		if _, err := s.recordedClient(t, r, a).ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
			t.Fatal(err)
		}
		r.stop(t)
		known := s.write(t, "later", read(t, filepath.Join(s.path("audit"), "checkpoint")), 0o600)
		s.succeeds(t, "audit", "verify", old, "--key", key)
		if got := s.run(t, "audit", "verify", old, "--key", key, "--known", known); got.code != 1 {
			t.Errorf("a log that was set back passes for the latest: %v", got)
		}
		s.succeeds(t, "audit", "verify", s.path("audit"), "--key", key, "--known", checkpoint)
	})
	t.Run("rotated key", func(t *testing.T) {
		s.succeeds(t, "audit", "rotate-key")
		keys := strings.Fields(s.succeeds(t, "audit", "keys"))
		if len(keys) != 2 || keys[0] != key || keys[1] == key {
			t.Fatalf("%v", keys)
		}
		for _, k := range keys {
			if text := s.succeeds(t, "audit", "verify", s.path("audit"), "--key", k, "--known",
				checkpoint); !strings.Contains(text, "as it was written") {
				t.Error(text)
			}
		}
		r := s.serve(t)
		if _, err := s.recordedClient(t, r, a).Encrypt(t.Context(),
			&kms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: []byte("x")}); err != nil {
			t.Error(err)
		}
		r.stop(t)
		s.succeeds(t, "audit", "verify", s.path("audit"), "--key", keys[1])
	})
	t.Run("none", func(t *testing.T) {
		refused(t, s.with("VERENC_AUDIT_DIR=none").run(t, "audit", "rotate-key"), "audit.dir is none")
		refused(t, s.with("VERENC_AUDIT_DIR="+s.path("nowhere")).run(t, "serve"), "verenc audit init makes a log")
		second := s.with("VERENC_AUDIT_DIR=" + s.path("second"))
		refused(t, second.run(t, "audit", "init"), "with the name verenc-kms: choose another audit.origin")
		second.with("VERENC_AUDIT_ORIGIN=second").succeeds(t, "audit", "init")
		s.succeeds(t, "audit", "verify", s.path("second"), "--key",
			second.with("VERENC_AUDIT_ORIGIN=second").auditKey(t))
	})
	ids := s.recorded(t)
	for _, id := range a.ids {
		if ids[id] == "" {
			t.Errorf("request %s is not in the log", id)
		}
	}
}

// TestKilledUnderLoad: everything that was answered before a kill -9 is in the log, which is
// intact.
func TestKilledUnderLoad(t *testing.T) {
	s := initialised(t).with("VERENC_AUDIT_SEGMENT_BYTES=50000", "VERENC_AUDIT_CHECKPOINT_EVERY=64")
	key := s.auditKey(t)
	a := &answers{}
	for round := range 2 {
		r := s.serve(t)
		client := s.recordedClient(t, r, a)
		made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for i := 0; ; i++ {
					var err error
					if i%10 == 9 {
						_, err = client.TagResource(t.Context(), tagged(made.KeyMetadata.KeyId, i))
					} else {
						_, err = client.GenerateDataKey(t.Context(),
							&kms.GenerateDataKeyInput{KeyId: made.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(32)})
					}
					if err != nil {
						return
					}
					if a.count() >= 400*(round+1) {
						_ = r.cmd.Process.Kill() // by several, perhaps
					}
				}
			})
		}
		clients.Wait()
		if code := r.wait(); code != -1 {
			t.Fatalf("exit code %d: the server was not killed", code)
		}
	}
	s.serve(t).stop(t)
	if text := s.succeeds(t, "audit", "verify", s.path("audit"), "--key", key); !strings.Contains(text,
		" 0 behind it") {
		t.Error(text)
	}
	ids := s.recorded(t)
	for _, id := range a.ids {
		if ids[id] == "" {
			t.Errorf("request %s was answered and is not in the log", id)
		}
	}
	if len(a.ids) < 800 || len(ids) < len(a.ids) {
		t.Errorf("%d answers, %d records", len(a.ids), len(ids))
	}
}

// TestReadyFollowsTheLog: while the log can't be written, no request is served and /readyz says so;
// both heal by themselves.
func TestReadyFollowsTheLog(t *testing.T) {
	s := initialised(t).with("VERENC_AUDIT_SEGMENT_BYTES=1") // each batch begins a file
	r := s.serve(t)
	client := s.recordedClient(t, r, &answers{})
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func() error {
		_, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: []byte("x")})
		return err
	}
	ready := func(want int) { // an answer may be a second old
		t.Helper()
		for _, listener := range []string{r.api, r.private} {
			status, body := get(t, http.DefaultClient, "http://"+listener+"/readyz")
			for status != want {
				status, body = get(t, http.DefaultClient, "http://"+listener+"/readyz")
			}
			if want != http.StatusOK && !strings.Contains(body, "audit") {
				t.Errorf("/readyz: %d %s", status, body)
			}
		}
	}
	ready(http.StatusOK)
	// where the next file goes
	obstacle := filepath.Join(s.path("audit"), "records", fmt.Sprintf("%020d.jsonl", len(s.recorded(t))))
	if err := os.Mkdir(obstacle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := encrypt(); err == nil || !strings.Contains(err.Error(), "KMSInternalException") {
		t.Errorf("without a record: %v", err)
	}
	ready(http.StatusServiceUnavailable)
	if err := os.Remove(obstacle); err != nil {
		t.Fatal(err)
	}
	ready(http.StatusOK)
	if err := encrypt(); err != nil {
		t.Error(err)
	}
	r.stop(t)
	s.succeeds(t, "audit", "verify", s.path("audit"), "--key", s.auditKey(t))
	if !slices.ContainsFunc(r.log(), func(l logLine) bool {
		return l["error"] == "KMSInternalException" && l["cause"] != nil
	}) {
		t.Error("the server's log does not say why")
	}
}

func tagged(id *string, n int) *kms.TagResourceInput {
	return &kms.TagResourceInput{KeyId: id, Tags: []types.Tag{
		{TagKey: aws.String("n"), TagValue: aws.String(fmt.Sprint(n))}}}
}
