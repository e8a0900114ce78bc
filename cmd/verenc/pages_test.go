package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/verenc/kms/softhsm"
)

// fenced returns the blocks of one language in a page, without the indentation that they have in a list.
func fenced(t *testing.T, page, language string) (texts []string) {
	t.Helper()
	pattern := regexp.MustCompile("(?ms)^( *)```" + language + "\n(.*?)^ *```$")
	for _, m := range pattern.FindAllStringSubmatch(read(t, page), -1) {
		texts = append(texts, strings.TrimPrefix(strings.ReplaceAll("\n"+m[2], "\n"+m[1], "\n"), "\n"))
	}
	return texts
}

// installed is what docs/install.md leaves on a server, in the folder $HOME: the package's files with other paths, a
// token of SoftHSM2, and stand-ins for what the package and systemd have. The ports are those that are free.
const installed = `set -euo pipefail
mkdir -p etc var/tokens credentials
export SOFTHSM2_CONF=$HOME/etc/softhsm2.conf VERENC_CONFIG=$HOME/etc/verenc.yaml
softhsm2-util --init-token --free --label verenc --so-pin 8765-4321 --pin 1234-5678 >/dev/null
echo 1234-5678 >credentials/verenc-pin
verenc-admin() {
	if [ "$1" = softhsm2-util ]; then "$@"; else CREDENTIALS_DIRECTORY=$HOME/credentials verenc "$@"; fi
}
address() { sed -n "s/.*\"listener\":\"$1\",\"address\":\"\([^\"]*\)\".*/\1/p" log | tail -n 1; }
systemctl() {
	case $1 in
	start)
		: >log
		CREDENTIALS_DIRECTORY=$HOME/credentials verenc serve 2>log &
		server=$!
		until grep -q '"listener":"private"' log; do
			kill -0 "$server" || { cat log; return 1; }
			sleep 0.1
		done
		;;
	stop) kill "$server" && wait "$server" ;;
	esac
}
trap 'kill "${server:-}" 2>/dev/null || true' EXIT
kms() {
	AWS_SHARED_CREDENTIALS_FILE=$HOME/var/first-access-key AWS_DEFAULT_REGION=us-east-1 \
		aws --endpoint-url "http://$(address api)" kms "$@"
}
`

// TestPages: the commands of the pages for operators and auditors do what the pages say, one after the other.
func TestPages(t *testing.T) {
	if _, err := os.Stat(awsCLI); err != nil {
		t.Fatalf("%v: run scripts/setup.sh clients", err)
	}
	t.Parallel()
	home := t.TempDir()
	installBinary(t, home)
	module, err := softhsm.FindModule()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	local := strings.NewReplacer("/var/lib/verenc", home+"/var", "/etc/verenc", home+"/etc",
		"/usr/lib/softhsm/libsofthsm2.so", module, "127.0.0.1:8600", "127.0.0.1:0", "127.0.0.1:8601", "127.0.0.1:0")
	write("etc/softhsm2.conf", local.Replace(read(t, root+"/scripts/deploy/softhsm2.conf")))
	write("etc/verenc.yaml", local.Replace(read(t, root+"/scripts/deploy/verenc.yaml")))
	declaration := fenced(t, root+"/docs/getting-started.md", "yaml")
	if len(declaration) != 1 {
		t.Fatalf("%d files for verenc apply", len(declaration))
	}
	write("declared.yaml", declaration[0])

	var text strings.Builder
	add := func(page string, least int) {
		t.Helper()
		blocks := fenced(t, root+"/docs/"+page, "sh")
		if len(blocks) < least {
			t.Errorf("%s has only %d blocks", page, len(blocks))
		}
		for _, block := range blocks {
			text.WriteString("echo '" + page + ": '; set -x\n" + local.Replace(block) + "{ set +x; } 2>/dev/null\n")
		}
	}
	text.WriteString("set -e\n")
	add("getting-started.md", 2)
	text.WriteString(installed)
	add("operations.md", 10)
	add("auditing.md", 5)
	text.WriteString(`verenc-admin apply -f declared.yaml
verenc-admin access-key create --user app
verenc-admin access-key rotate --user app
id=$(sed -n 's/^aws_access_key_id = //p' var/first-access-key)
verenc-admin access-key delete "$id"
systemctl stop
`)
	cmd := exec.Command("bash", "-c", text.String())
	cmd.Dir = home
	cmd.Env = []string{"HOME=" + home, "PATH=" + home + "/bin:/usr/bin:" + os.Getenv("PATH"), "AWS_PAGER=",
		"AWS_CONFIG_FILE=/dev/null", "VERENC_LISTEN=127.0.0.1:0", "VERENC_TOKEN_CONNECT_TIMEOUT=1m",
		"VERENC_TOKEN_CALL_TIMEOUT=1m", "VERENC_TOKEN_GENERATE_TIMEOUT=5m"}
	got := runCommand(t, cmd)
	if got.code != 0 {
		t.Fatal(got)
	}
	for _, want := range []string{`"KeyId"`, "hello", "database and token agree", "nothing to do", `"eventName":"CreateKey"`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("the output does not have %q:\n%v", want, got)
		}
	}
	for name, want := range map[string]string{"audit-key": "verenc-kms", "report.html": "<html",
		"findings": "verenc-kms", "keys.yaml": "alias/ceremony"} {
		if !strings.Contains(read(t, filepath.Join(home, name)), want) {
			t.Errorf("%s does not have %q", name, want)
		}
	}
}
