package transport_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// The distribution's, as scripts/setup.sh clients installs them.
const (
	awsCLI = "/usr/bin/aws"
	python = "/usr/bin/python3"
)

// manyCommands runs the AWS CLI as often as there are lines of arguments (JSON) on its input, all
// in one process: most of the second that the CLI takes is for its start. It ends each with a line
// that has the exit code.
const manyCommands = `
import json, runpy, sys
for line in sys.stdin:
    sys.argv = ["aws"] + json.loads(line)
    code = 0
    try:
        runpy.run_path("` + awsCLI + `", run_name="__main__")
    except SystemExit as end:
        code = end.code or 0
    print("exit", code, sys.argv[sys.argv.index("kms") + 1], file=sys.stderr, flush=True)
`

// command has the settings of the server for AWS clients.
func (f *fixture) command(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LANG=C.UTF-8", "AWS_CONFIG_FILE=/dev/null",
		"AWS_DEFAULT_REGION=" + region, "AWS_PAGER=",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_ACCESS_KEY_ID=" + f.Secret.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + f.Secret.SecretAccessKey}
	return cmd
}

func (f *fixture) arguments(args ...string) []string {
	return append([]string{"--endpoint-url", f.URL, "--output", "json", "kms"}, args...)
}

var wordStart = regexp.MustCompile(`\B[A-Z]`)

// commandOf is the CLI's name of an operation.
func commandOf(op string) string {
	return strings.ToLower(wordStart.ReplaceAllString(op, "-$0"))
}

// commands are those that the installed CLI knows: it lists them when it is asked for another.
func (f *fixture) commands(t *testing.T) []string {
	t.Helper()
	out, err := f.command(t, awsCLI, f.arguments("no-such-command")...).CombinedOutput()
	_, list, found := strings.Cut(string(out), "valid choices are:")
	if err == nil || !found {
		t.Fatalf("the CLI lists no commands: %v: %s", err, out)
	}
	return strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(" |\n", r) })
}

// newMembers are members of requests that are newer than the CLI's model.
var newMembers = []string{"RotationPeriodInDays"}

// inputJSON writes a request as the CLI reads it.
func inputJSON(t *testing.T, in any) string {
	t.Helper()
	all := map[string]any{}
	v := reflect.ValueOf(in).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if v.Type().Field(i).IsExported() && !v.Field(i).IsZero() && !slices.Contains(newMembers, name) {
			all[name] = v.Field(i).Interface()
		}
	}
	return string(ok(json.Marshal(all))(t))
}

// TestCLI lets the AWS CLI call every operation that it knows, with success.
func TestCLI(t *testing.T) {
	if _, err := os.Stat(awsCLI); err != nil {
		t.Fatalf("%v: run scripts/setup.sh clients", err)
	}
	f := newFixture(t)
	known := f.commands(t)
	var lines bytes.Buffer
	called := map[string]bool{}
	for _, op := range operationNames() {
		if !slices.Contains(known, commandOf(op)) {
			continue
		}
		called[commandOf(op)] = true
		f.spare = "" // each has a key store of its own
		in := f.request(op)
		if random, is := in.(*kms.GenerateRandomInput); is {
			random.CustomKeyStoreId = nil
		}
		args := f.arguments(commandOf(op), "--cli-input-json", inputJSON(t, in))
		if err := json.NewEncoder(&lines).Encode(args); err != nil {
			t.Fatal(err)
		}
	}
	want := bytes.Count(lines.Bytes(), []byte("\n"))
	cmd := f.command(t, python, "-c", manyCommands)
	cmd.Stdin = &lines
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if done := strings.Count(errs.String(), "exit 0 "); err != nil || done != want ||
		done != strings.Count(errs.String(), "\n") {
		t.Errorf("%d of %d commands succeeded: %v: %s%s", done, want, err, errs.String(), out)
	}
	for _, command := range known {
		if command != "help" && command != "wizard" && !called[command] {
			t.Errorf("the CLI knows %s, which was not called", command)
		}
	}
	t.Logf("the CLI called %d operations", len(called))
}
