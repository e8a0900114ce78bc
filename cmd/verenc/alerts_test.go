package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

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

// TestMetricsTable: docs/metrics.md has each metric that a server exports, with its type, labels, meaning and unit,
// and no other. The words on metrics of the Go runtime and the process are their libraries', and may change.
func TestMetricsTable(t *testing.T) {
	s, i := initialised(t), newIssuer(t)
	r := s.tlsKey(t, i, "kms", "ec-p256").with("VERENC_AUDIT_SYSLOG=udp://127.0.0.1:9",
		"VERENC_TRACING_ENDPOINT=http://127.0.0.1:9").serve(t)
	get(t, i.over(&tls.Config{}), "https://"+r.api+"/docs") // metrics of pages begin with the first request for one
	_, text := get(t, http.DefaultClient, "http://"+r.private+"/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	_, table, _ := strings.Cut(read(t, root+"/docs/metrics.md"), "|---|---|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 5 {
			t.Fatalf("not five cells: %s", line)
		}
		name := strings.Trim(cells[0], "`")
		listed = append(listed, name)
		family := families[name]
		if family == nil {
			t.Errorf("the server has no %s", name)
			continue
		}
		got := []string{strings.ToLower(family.GetType().String()), labelsOf(family)}
		want := []string{cells[1], strings.ReplaceAll(cells[2], "`", "")}
		if strings.HasPrefix(name, "verenc_") {
			got, want = append(got, family.GetHelp(), unitOf(name)), append(want, cells[3], cells[4])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s is %q, and not %q", name, got, want)
		}
	}
	for name, family := range families {
		if !slices.Contains(listed, name) {
			t.Errorf("docs/metrics.md lacks | `%s` | %s | %s | %s | %s |", name,
				strings.ToLower(family.GetType().String()), labelsOf(family), family.GetHelp(), unitOf(name))
		}
	}
}

// labelsOf returns the names of a family's labels, as in "a, b".
func labelsOf(family *dto.MetricFamily) string {
	var names []string
	for _, label := range family.GetMetric()[0].GetLabel() {
		names = append(names, label.GetName())
	}
	return strings.Join(names, ", ")
}

// unitOf returns the unit in a metric's name.
func unitOf(name string) string {
	for _, unit := range []string{"seconds", "bytes"} {
		if strings.HasSuffix(strings.TrimSuffix(name, "_total"), "_"+unit) {
			return unit
		}
	}
	return "1"
}
