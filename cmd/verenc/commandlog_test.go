package main

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestCommandsAreQuiet: a command that prints something, perhaps a secret, writes nothing else to
// the terminal, unless log_level is set.
func TestCommandsAreQuiet(t *testing.T) {
	s := newSite(t)
	for _, args := range [][]string{{"init"}, {"init", "--add-access-key"}, {"user", "create", "app"},
		{"access-key", "create", "--user", "app"},
		{"export"}, {"audit", "keys"}, {"audit", "rotate-key"}, {"report"}, {"backup", s.path("copy.db")},
		{"doctor", "--reconcile"}, {"config"}} {
		if got := s.run(t, args...); got.code != 0 || got.stderr != "" ||
			got.stdout == "" && args[0] != "user" && args[0] != "backup" && args[1] != "rotate-key" {
			t.Errorf("verenc %s: %v", strings.Join(args, " "), got)
		}
	}
	secret := func(got result) bool { return credentials.MatchString(got.stdout) }
	talking := s.with("VERENC_LOG_LEVEL=debug").run(t, "access-key", "create", "--user", "app")
	if !secret(talking) || !strings.Contains(talking.stderr, `"token connected"`) {
		t.Errorf("with log_level debug: %v", talking)
	}
	if got := s.run(t, "--log-level", "info", "init", "--add-access-key"); !secret(got) ||
		!strings.Contains(got.stderr, `"token connected"`) {
		t.Errorf("with --log-level info: %v", got)
	}
	// A server logs at info.
	r := s.serve(t)
	r.await(t, "token connected", "", "")
}

// TestLogRequests: the log has lines of the requests that the settings say; the audit log has records of all.
func TestLogRequests(t *testing.T) {
	s := initialised(t)
	settings := s.write(t, "verenc.yaml", "", 0o600)
	for which, want := range map[string][]string{
		logAll:     {"DescribeKey NotFoundException", "GET /docs 200", "GET unknown 404", "ListKeys"},
		logErrors:  {"DescribeKey NotFoundException", "GET unknown 404"},
		logSampled: {"DescribeKey NotFoundException", "GET /docs 200", "GET unknown 404", "ListKeys"},
	} {
		s.write(t, "verenc.yaml", "log_requests: "+which+"\n", 0o600)
		r := s.with("VERENC_CONFIG=" + settings).serve(t)
		var ids answers
		client, missing := s.recordedClient(t, r, &ids), "alias/missing"
		if _, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil {
			t.Error(err)
		}
		if _, err := client.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &missing}); err == nil {
			t.Error("there is an alias/missing")
		}
		get(t, http.DefaultClient, "http://"+r.api+"/docs")
		get(t, http.DefaultClient, "http://"+r.api+"/docs/missing")
		s.write(t, "verenc.yaml", "log_requests: all\nlog_level: info\n", 0o600)
		r.hangUp(t)
		if code := r.stop(t); code != 0 {
			t.Errorf("%s: the server ended with %d", which, code)
		}
		var got []string
		for _, line := range r.logged("request") {
			words := line["operation"].(string)
			if code, ok := line["error"].(string); ok {
				words += " " + code
			} else {
				words += " " + strconv.Itoa(int(line["status"].(float64)))
			}
			got = append(got, strings.TrimSpace(words))
		}
		slices.Sort(got) // a line may come after the next request
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", which, got)
		}
		if waiting := r.logged("these settings are used after a restart"); (len(waiting) == 1) != (which != logAll) {
			t.Errorf("%s: %v", which, waiting)
		}
		records := s.recorded(t)
		for _, id := range ids.ids {
			if records[id] == "" {
				t.Errorf("%s: no record of a request", which)
			}
		}
	}
}

// still is a clock that stands.
type still struct {
	zapcore.Clock
	now time.Time
}

func (c *still) Now() time.Time { return c.now }

// TestSampledRequests: of 350 requests in a second 102 have lines, and errors between them have theirs.
func TestSampledRequests(t *testing.T) {
	core, lines := observer.New(zap.InfoLevel)
	clock := &still{zapcore.DefaultClock, time.Unix(1_800_000_000, 0)}
	log := zap.New(core, zap.WithClock(clock))
	sampled := succeeded(log, logSampled)
	for range 2 { // seconds
		for n := range 350 {
			sampled.Info("request", zap.Int("n", n+1))
			log.Info("request", zap.String("error", "NotFoundException"))
		}
		good := lines.FilterFieldKey("n").All()
		if len(good) != 102 || good[99].ContextMap()["n"] != int64(100) ||
			good[100].ContextMap()["n"] != int64(200) || good[101].ContextMap()["n"] != int64(300) {
			t.Errorf("%d lines of requests without an error", len(good))
		}
		if errs := lines.FilterFieldKey("error").Len(); errs != 350 {
			t.Errorf("%d lines of requests with an error", errs)
		}
		lines.TakeAll()
		clock.now = clock.now.Add(time.Second)
	}
}
