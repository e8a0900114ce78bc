package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/verenc/kms/service/apierror"
)

const (
	alerts    = "../../scripts/deploy/alerts.yaml"
	dashboard = "../../scripts/deploy/dashboard.json"
)

// TestAlerts: Prometheus's own promtool finds that each rule fires when it should, and only then.
func TestAlerts(t *testing.T) {
	promtool(t, "check", "rules", alerts)
	promtool(t, "test", "rules", "../../scripts/deploy/alerts_test.yaml")
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	// scripts/setup.sh puts it there.
	if out, err := exec.Command(filepath.Join(cache, "verenc", "promtool"), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", args[0], err, out)
	}
}

// TestDashboard: Prometheus can evaluate what each panel of the dashboard asks for.
func TestDashboard(t *testing.T) {
	var board struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboard)), &board); err != nil {
		t.Fatal(err)
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			// Grafana sets its variables before it asks Prometheus.
			expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
			rules = append(rules, rule{fmt.Sprintf("panel:%d", len(rules)), expr})
		}
	}
	if len(rules) < 10 {
		t.Errorf("only %d expressions", len(rules))
	}
	file, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yaml") // JSON is YAML
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}

var (
	metricName = regexp.MustCompile(`\bverenc_[a-z_]+`)
	errorCodes = regexp.MustCompile(`error=~?"([A-Za-z|]+)"`)
)

// TestAlertsKnowTheServer: the rules and the dashboard ask for metrics and exceptions that a server really has.
func TestAlertsKnowTheServer(t *testing.T) {
	r := initialised(t).with("VERENC_AUDIT_SYSLOG=udp://127.0.0.1:9").serve(t)
	exceptions := map[string]bool{}
	for _, code := range []apierror.Code{apierror.AccessDenied, apierror.DependencyTimeout, apierror.Internal,
		apierror.KeyUnavailable} {
		exceptions[string(code)] = true
	}
	_, metrics := get(t, http.DefaultClient, "http://"+r.private+"/metrics")
	for _, file := range []string{alerts, dashboard} {
		text := read(t, file)
		names := metricName.FindAllString(text, -1)
		if len(names) < 5 {
			t.Errorf("%s has only %d metrics", file, len(names))
		}
		for _, name := range names {
			if !strings.Contains(metrics, "\n"+name+"{") && !strings.Contains(metrics, "\n"+name+" ") {
				t.Errorf("%s: the server has no %s", file, name)
			}
		}
		for _, match := range errorCodes.FindAllStringSubmatch(text, -1) {
			for code := range strings.SplitSeq(match[1], "|") {
				if !exceptions[code] {
					t.Errorf("%s: there is no %s", file, code)
				}
			}
		}
	}
}
