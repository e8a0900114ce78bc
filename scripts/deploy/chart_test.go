// Package deploy tests the Helm chart. It is a module of its own, since nothing else needs Helm and Kubernetes.
package deploy

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	chartcommon "helm.sh/helm/v4/pkg/chart/common"
	chartutil "helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// objects are the objects of a rendered chart.
type objects struct {
	set       *apps.StatefulSet
	config    *core.ConfigMap
	service   *core.Service // of the AWS API
	private   *core.Service
	network   *networking.NetworkPolicy
	budget    *policy.PodDisruptionBudget
	monitor   *monitoring.ServiceMonitor
	notes     string
	documents int
}

// render renders the chart with values over its own, as helm template does with its schema.
func render(values string) (map[string]string, error) {
	chart, err := loader.Load("chart")
	if err != nil {
		return nil, err
	}
	var own map[string]any
	if err := yaml.Unmarshal([]byte(values), &own); err != nil {
		return nil, err
	}
	merged, err := chartutil.ToRenderValues(chart, own, chartcommon.ReleaseOptions{
		Name: "prod", Namespace: "keys", Revision: 1, IsInstall: true}, chartcommon.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Engine{Strict: true}.RenderWithContext(context.Background(), chart, merged)
}

// decode renders the chart, and reads each object as Kubernetes' types, without fields that they don't have.
func decode(t *testing.T, values string) (o objects) {
	t.Helper()
	files, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			o.notes = text
			continue
		}
		for document := range strings.SplitSeq(text, "\n---\n") {
			var kind struct{ Kind string }
			if err := yaml.Unmarshal([]byte(document), &kind); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, document)
			}
			switch o.documents++; kind.Kind {
			case "":
				o.documents--
			case "StatefulSet":
				o.set = strict[apps.StatefulSet](t, document)
			case "ConfigMap":
				o.config = strict[core.ConfigMap](t, document)
			case "Service":
				if s := strict[core.Service](t, document); s.Spec.ClusterIP == core.ClusterIPNone {
					o.private = s
				} else {
					o.service = s
				}
			case "NetworkPolicy":
				o.network = strict[networking.NetworkPolicy](t, document)
			case "PodDisruptionBudget":
				o.budget = strict[policy.PodDisruptionBudget](t, document)
			case "ServiceMonitor":
				o.monitor = strict[monitoring.ServiceMonitor](t, document)
			default:
				t.Errorf("%s has a %s", name, kind.Kind)
			}
		}
	}
	return o
}

func strict[T any](t *testing.T, document string) *T {
	t.Helper()
	object := new(T)
	if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	return object
}

// several servers, with everything that can be switched on.
const everything = `
image: {repository: images.example.com/verenc, tag: v1.2.3}
replicas: 3
initialise: true
config:
  database: postgres://verenc@db.example.com/verenc?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt
  quotas: {account: [rsa=500]}
secrets:
  databasePassword: {name: verenc-database, key: password}
  tls: {name: verenc-tls, clientCA: ca.crt}
hsm:
  image: images.example.com/hsm-client:1
  command: [cp, -r, /client/., /opt/hsm]
  env: [{name: ChrystokiConfigurationPath, value: /opt/hsm}]
storage: {className: fast}
networkPolicy:
  egress: [{to: [{ipBlock: {cidr: 10.0.0.0/24}}], ports: [{port: 1792}]}]
serviceMonitor: {enabled: true, labels: {release: prometheus}}
imagePullSecrets: [{name: registry}]
priorityClassName: system-cluster-critical
nodeSelector: {hsm: "yes"}
tolerations: [{key: hsm, operator: Exists}]
podAnnotations: {a: b}
podLabels: {c: d}
`

// a TLS key in the token, with its certificate in a Secret.
const tokenKey = `
config: {tls_key: "pkcs11:token=verenc;object=verenc%2Ftls%2Fkms"}
secrets: {tls: {name: verenc-tls}}
`

// files that settings name.
const files = `
config:
  oidc_issuers:
    - {url: "https://a.example.com", audiences: [verenc], ca_file: /etc/verenc-issuers/ca.crt}
    - {url: "https://b.example.com", audiences: [verenc], jwks_file: /etc/verenc-issuers/jwks.json}
  tracing: {endpoint: "https://collector.example.com:4318", headers_file: /etc/verenc-tracing/headers}
extraVolumes:
  - {name: issuers, configMap: {name: verenc-issuers}}
  - {name: tracing, secret: {secretName: verenc-tracing, defaultMode: 0440}}
extraVolumeMounts:
  - {name: issuers, mountPath: /etc/verenc-issuers, readOnly: true}
  - {name: tracing, mountPath: /etc/verenc-tracing, readOnly: true}
`

var cases = map[string]string{
	"defaults":   "",
	"everything": everything,
	"volume":     "hsm: {volume: {persistentVolumeClaim: {claimName: client, readOnly: true}}}",
	"token key":  tokenKey,
	"files":      files,
}

// TestObjects: the objects are Kubernetes', belong together, and let a container do as little as it can do with.
func TestObjects(t *testing.T) {
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			o := decode(t, values)
			want := 6
			if o.monitor != nil {
				want++
				if got := o.monitor.Spec.Selector.MatchLabels; !contains(o.private.Labels, got) ||
					contains(o.service.Labels, got) {
					t.Errorf("the monitor selects %v", got)
				}
			}
			if o.documents != want || (o.monitor != nil) != (name == "everything") {
				t.Errorf("%d objects, ServiceMonitor %t", o.documents, o.monitor != nil)
			}
			pod := o.set.Spec.Template
			for _, selector := range []map[string]string{o.set.Spec.Selector.MatchLabels, o.service.Spec.Selector,
				o.private.Spec.Selector, o.network.Spec.PodSelector.MatchLabels, o.budget.Spec.Selector.MatchLabels} {
				if len(selector) != 2 || !contains(pod.Labels, selector) {
					t.Errorf("%v does not select the pods", selector)
				}
			}
			if o.set.Spec.ServiceName != o.private.Name {
				t.Errorf("the pods' names are of %s", o.set.Spec.ServiceName)
			}
			s := pod.Spec.SecurityContext
			if !*s.RunAsNonRoot || *s.RunAsUser == 0 ||
				s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault ||
				*pod.Spec.AutomountServiceAccountToken || *pod.Spec.EnableServiceLinks {
				t.Errorf("the pod may do too much: %+v", pod.Spec)
			}
			volumes := map[string]bool{"state": true}
			for _, v := range pod.Spec.Volumes {
				volumes[v.Name] = true
			}
			for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				s := c.SecurityContext
				if !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation ||
					!slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || s.Capabilities.Add != nil {
					t.Errorf("%s may do too much: %+v", c.Name, s)
				}
				for _, m := range c.VolumeMounts {
					if !volumes[m.Name] {
						t.Errorf("%s mounts %s, which is not there", c.Name, m.Name)
					}
				}
			}
			server := pod.Spec.Containers[0]
			ports := map[string]int32{}
			for _, p := range server.Ports {
				ports[p.Name] = p.ContainerPort
			}
			for _, port := range []string{o.service.Spec.Ports[0].TargetPort.StrVal,
				o.private.Spec.Ports[0].TargetPort.StrVal,
				server.StartupProbe.HTTPGet.Port.StrVal, server.LivenessProbe.HTTPGet.Port.StrVal,
				server.ReadinessProbe.HTTPGet.Port.StrVal} {
				if ports[port] == 0 {
					t.Errorf("the server has no port %s", port)
				}
			}
			if grace := *pod.Spec.TerminationGracePeriodSeconds; grace <= server.Lifecycle.PreStop.Sleep.Seconds+15 {
				t.Errorf("%d s are too short for the end", grace)
			}
			if strings.Contains(o.notes, "<no value>") || !strings.Contains(o.notes, "prod-verenc.keys:8600") {
				t.Error(o.notes)
			}
		})
	}
}

func contains(all, some map[string]string) bool {
	for name, value := range some {
		if all[name] != value {
			return false
		}
	}
	return true
}

// TestNobody: a policy without peers lets nobody in. A rule with an empty list of them would let everybody in.
func TestNobody(t *testing.T) {
	o := decode(t, "networkPolicy: {clients: [], monitoring: []}")
	if len(o.network.Spec.Ingress) != 0 || !slices.Equal(o.network.Spec.PolicyTypes,
		[]networking.PolicyType{networking.PolicyTypeIngress}) {
		t.Errorf("%+v", o.network.Spec)
	}
}

// TestTLSKey: a key in the token is that of the server; without one the Secret has it.
func TestTLSKey(t *testing.T) {
	for values, want := range map[string]string{
		tokenKey:                             "pkcs11:token=verenc;object=verenc%2Ftls%2Fkms",
		"secrets: {tls: {name: verenc-tls}}": "/etc/verenc-tls/tls.key",
	} {
		var config struct {
			Certificate string `json:"tls_cert"`
			Key         string `json:"tls_key"`
		}
		if err := yaml.Unmarshal([]byte(decode(t, values).config.Data["verenc.yaml"]), &config); err != nil {
			t.Fatal(err)
		}
		if config.Certificate != "/etc/verenc-tls/tls.crt" || config.Key != want {
			t.Errorf("%+v", config)
		}
	}
}

// TestFiles: each run of verenc has the files that settings name.
func TestFiles(t *testing.T) {
	pod := decode(t, files+"initialise: true").set.Spec.Template.Spec
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		paths := map[string]string{}
		for _, m := range c.VolumeMounts {
			paths[m.Name] = m.MountPath
		}
		if paths["issuers"] != "/etc/verenc-issuers" || paths["tracing"] != "/etc/verenc-tracing" {
			t.Errorf("%s has %v", c.Name, paths)
		}
	}
}

// TestRefused: values that the chart does not have, or that would be secrets, and what can't work.
func TestRefused(t *testing.T) {
	for values, words := range map[string]string{
		"nonsense: 1": "nonsense",
		"secrets: {pin: {name: a, key: b, value: 1234}}":  "value",
		`secrets: {pin: {name: "", key: b}}`:              "/secrets/pin",
		"config: {token: {pin_file: /etc/pin}}":           "/config/token/pin_file",
		"config: {database_password_file: /etc/password}": "database_password_file",
		"config: {tls_key: /etc/verenc/tls.key}":          "/config/tls_key",
		"config: {listen: 127.0.0.1:8600}":                "/config/listen",
		"config: {audit: {dir: /tmp/audit}}":              "/config/audit/dir",
		"replicas: -1":                                    "/replicas",
		"replicas: 2":                                     "several replicas need a PostgreSQL database",
		"hsm: {image: a, volume: {emptyDir: {}}}":         "give image or volume, not both",
		"image: {repository: a, pullPolicy: Sometimes}":   "/image/pullPolicy",
		"service: {type: ExternalName}":                   "/service/type",
	} {
		if _, err := render(values); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", values, err)
		}
	}
}

// TestConfiguration: the program reads the configuration and the environment of the pods, and finds nothing wrong with
// them but that the token is not there.
func TestConfiguration(t *testing.T) {
	verenc := build(t)
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			if err := check(t, verenc, decode(t, values)); err != nil {
				t.Error(err)
			}
		})
	}
	for values, words := range map[string]string{
		"config: {nonsense: 1}":                                              "nonsense",
		"config: {arn_format: x}":                                            "arn_format",
		"extraEnv: [{name: VERENC_X, value: y}]":                             "VERENC_X",
		"config: {database: postgres://verenc:secret@db.example.com/verenc}": "it holds a password",
	} {
		if err := check(t, verenc, decode(t, values)); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", values, err)
		}
	}
}

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "verenc")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/verenc")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// check runs verenc doctor as the pod would run it. The error is what the program says of the configuration.
func check(t *testing.T, verenc string, o objects) error {
	t.Helper()
	dir := t.TempDir()
	if keys := slices.Collect(maps.Keys(o.config.Data)); !slices.Equal(keys, []string{"verenc.yaml"}) {
		t.Fatal(keys)
	}
	path := filepath.Join(dir, "verenc.yaml")
	if err := os.WriteFile(path, []byte(o.config.Data["verenc.yaml"]), 0o600); err != nil {
		t.Fatal(err)
	}
	server := o.set.Spec.Template.Spec.Containers[0]
	cmd := exec.Command(verenc, "doctor")
	cmd.Dir = dir
	for _, v := range server.Env {
		switch {
		case v.Name == "VERENC_CONFIG":
			if v.Value != "/etc/verenc/verenc.yaml" {
				t.Errorf("the configuration is at %s", v.Value)
			}
			v.Value = path
		case v.ValueFrom != nil && v.ValueFrom.FieldRef.FieldPath == "metadata.name":
			v.Value = o.set.Name + "-0"
		}
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err == nil {
		t.Fatalf("the doctor finds a token: %s", out)
	}
	// The configuration was read when the doctor gives its table.
	if strings.HasPrefix(stderr.String(), "verenc: doctor: ") && bytes.Contains(out, []byte("module")) {
		return nil
	}
	return fmt.Errorf("%w: %s%s", err, out, stderr.Bytes())
}
