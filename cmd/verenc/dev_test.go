package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	credentialsprovider "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/softhsm/reset"
	"github.com/verenc/kms/transport/sdktest"
)

// devSite is a folder for verenc dev, with no settings but generous times.
func devSite(t testing.TB) *site {
	t.Helper()
	dir := t.TempDir()
	return &site{dir: dir, env: []string{"VERENC_TOKEN_CONNECT_TIMEOUT=1m", "VERENC_TOKEN_CALL_TIMEOUT=1m",
		"VERENC_TOKEN_GENERATE_TIMEOUT=5m", "VERENC_SHUTDOWN_TIMEOUT=1m", "VERENC_LISTEN=127.0.0.1:0", "TMPDIR=" + dir}}
}

// leftovers are what temporary folders of servers have left.
func (s *site) leftovers(t testing.TB) []string {
	t.Helper()
	left, err := filepath.Glob(s.path("verenc-dev-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

var exported = regexp.MustCompile(`(?m)^ *export (\w+)=(.*)$`)

// environmentOf returns the variables that a server has printed.
func environmentOf(text string) map[string]string {
	all := map[string]string{}
	for _, m := range exported.FindAllStringSubmatch(text, -1) {
		all[m[1]] = m[2]
	}
	return all
}

// clientOf returns a client that has these variables, for a region.
func clientOf(env map[string]string, region string) *kms.Client {
	return kms.New(kms.Options{BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL_KMS"]), Region: region,
		RetryMaxAttempts: 1, HTTPClient: sdktest.Client(),
		Credentials: credentialsprovider.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"],
			env["AWS_SECRET_ACCESS_KEY"], "")})
}

// startDev starts a server in the foreground, and waits for what it prints.
func (s *site) startDev(t *testing.T, args ...string) (*exec.Cmd, map[string]string) {
	t.Helper()
	cmd := s.command(t, append([]string{"dev"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	var printed strings.Builder
	lines := bufio.NewReader(out)
	for !strings.Contains(printed.String(), "Ctrl-C stops it.") {
		line, err := lines.ReadString('\n')
		printed.WriteString(line)
		if err != nil {
			_ = cmd.Wait() // its end completes stderr
			t.Fatalf("%v: %s%s", err, printed.String(), stderr.String())
		}
	}
	return cmd, environmentOf(printed.String())
}

// endDev ends such a server as Ctrl-C does.
func endDev(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestDev: a server needs no setting, serves what its seed declares in every region, goes back to that, and leaves
// nothing behind.
func TestDev(t *testing.T) {
	s := devSite(t)
	s.copyTestdata(t, "seed.yaml")
	cmd, env := s.startDev(t, "--seed", "seed.yaml", "--account", "111122223333", "--access-key", "test",
		"--secret-key", "it's")
	if env["AWS_ACCESS_KEY_ID"] != "test" || env["AWS_SECRET_ACCESS_KEY"] != `'it'\''s'` {
		t.Errorf("%v", env)
	}
	env["AWS_SECRET_ACCESS_KEY"] = "it's"
	client, ctx := clientOf(env, "us-east-1"), t.Context()
	encrypted, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/known"), Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:kms:us-east-1:111122223333:key/" + seedKey + "3"; aws.ToString(encrypted.KeyId) != want {
		t.Errorf("%s, want %s", aws.ToString(encrypted.KeyId), want)
	}
	elsewhere, err := clientOf(env, "ap-southeast-2").CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{
		KeyId: encrypted.KeyId}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/orders")}); err != nil {
		t.Fatal(err)
	}
	if status := postReset(t, env["AWS_ENDPOINT_URL_KMS"]); status != http.StatusNoContent {
		t.Errorf("reset: status %d", status)
	}
	if _, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob}); err != nil {
		t.Error(err)
	}
	if _, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/orders")}); err != nil {
		t.Error(err)
	}
	if _, err := clientOf(env, "ap-southeast-2").DescribeKey(ctx, &kms.DescribeKeyInput{
		KeyId: elsewhere.KeyMetadata.KeyId}); err == nil {
		t.Error("a later key is still there")
	}
	if len(s.leftovers(t)) != 1 {
		t.Errorf("%q", s.leftovers(t))
	}
	endDev(t, cmd)
	if left := s.leftovers(t); left != nil {
		t.Errorf("%q are left", left)
	}
}

// postReset asks for a reset.
func postReset(t *testing.T, url string) (status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+reset.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set(reset.Header, "1")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return errorless(t, resp.Body.Close(), resp.StatusCode)
}

func errorless[T any](t *testing.T, err error, v T) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestServeHasNoReset: verenc serve resets nothing.
func TestServeHasNoReset(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	if _, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{r.api, r.private} {
		if status := postReset(t, "http://"+address); status != http.StatusNotFound &&
			status != http.StatusMethodNotAllowed && status != http.StatusBadRequest {
			t.Errorf("status %d", status)
		}
	}
	if keys, err := client.ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil || len(keys.Keys) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
}

// TestDevExec: a command has the environment and its own arguments, gets signals, and its status is the program's.
func TestDevExec(t *testing.T) {
	s := devSite(t).with("AWS_SESSION_TOKEN=of another", "AWS_REGION=of-another", devAccessKeyVariable+"=test",
		devSecretKeyVariable+"=secret")
	r := s.run(t, "dev", "--exec", "sh", "-c", "env; exit 7")
	if r.code != 7 || r.stderr != "" {
		t.Errorf("%v", r)
	}
	lines := strings.Split(r.stdout, "\n")
	for _, want := range []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=secret", "AWS_REGION=us-east-1"} {
		if !slices.Contains(lines, want) {
			t.Errorf("%s is not in %q", want, lines)
		}
	}
	if strings.Contains(r.stdout, "AWS_SESSION_TOKEN") || !strings.Contains(r.stdout, "AWS_ENDPOINT_URL_KMS=http://127.") {
		t.Errorf("%s", r.stdout)
	}
	// A command that ends itself at SIGTERM, which the program gets.
	r = s.run(t, "dev", "--exec", "--", "sh", "-c", "trap 'exit 42' TERM; kill -TERM $PPID; while :; do sleep 0.1; done")
	if r.code != 42 {
		t.Errorf("%v", r)
	}
	if r = s.run(t, "dev", "--exec", "--", "sh", "-c", "kill -KILL $$"); r.code != 128+9 {
		t.Errorf("%v", r)
	}
	// A server inside another one's command takes another port.
	anyPort := devSite(t)
	anyPort.env = slices.DeleteFunc(anyPort.env, func(v string) bool { return strings.HasPrefix(v, "VERENC_LISTEN=") })
	if program, err := os.Executable(); err != nil {
		t.Error(err)
	} else if r = anyPort.run(t, "dev", "--exec", "--", program, "dev", "--exec", "true"); r.code != 0 {
		t.Errorf("%v", r)
	}
	refused(t, s.run(t, "dev", "--exec", "/nowhere/command"), "run the command", "/nowhere/command")
	refused(t, s.run(t, "dev", "--exec"), "--exec and a command go together")
	refused(t, s.run(t, "dev", "true"), "--exec and a command go together")
	if left := s.leftovers(t); left != nil {
		t.Errorf("%q are left", left)
	}
}

// untilGone waits for the temporary folder of a server in the background: nobody else may wait for its process.
const untilGone = `until ! compgen -G "$TMPDIR/verenc-dev-*" >/dev/null; do sleep 0.1; done`

// TestDevPrintEnv: a shell evaluates what a server in the background prints, uses it and ends it.
func TestDevPrintEnv(t *testing.T) {
	s := devSite(t)
	self := s.command(t).Path
	cmd := exec.Command("bash", "-ec", `eval "$("$0" dev --print-env=1)"; env; "$0" config >/dev/null; kill "$`+
		devPIDVariable+`"; `+untilGone, self)
	cmd.Env, cmd.Dir = append(s.environ(), asVerenc+"=1", "VERENC_TOKEN_MODULE="), s.dir
	r := runCommand(t, cmd)
	if !strings.Contains(r.stdout, "AWS_ENDPOINT_URL_KMS=http://127.0.0.1:") {
		t.Errorf("%v", r)
	}
	refused(t, s.run(t, "dev", "--print-env", "--seed", "nowhere.yaml"), "the server did not start", "nowhere.yaml")
}

// TestDevData: a folder that is given is kept, with keys and the access key; an access key that was chosen is not.
func TestDevData(t *testing.T) {
	s := devSite(t)
	cmd, env := s.startDev(t, "--data", "data")
	made, err := clientOf(env, "us-east-1").CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	endDev(t, cmd)
	chosen := map[string]string{"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
	uses := func(who map[string]string) error {
		_, err := clientOf(who, "us-east-1").DescribeKey(t.Context(), &kms.DescribeKeyInput{
			KeyId: made.KeyMetadata.KeyId})
		return err
	}
	for _, args := range [][]string{{"--access-key", "test", "--secret-key", "test"}, nil} {
		cmd, now := s.startDev(t, append([]string{"--data", "data"}, args...)...)
		env["AWS_ENDPOINT_URL_KMS"], chosen["AWS_ENDPOINT_URL_KMS"] = now["AWS_ENDPOINT_URL_KMS"],
			now["AWS_ENDPOINT_URL_KMS"]
		if err := uses(env); err != nil {
			t.Error(err)
		}
		if err := uses(chosen); (err == nil) != (args != nil) {
			t.Errorf("%v: the chosen access key: %v", args, err)
		}
		if args == nil && now["AWS_ACCESS_KEY_ID"] != env["AWS_ACCESS_KEY_ID"] {
			t.Errorf("%v", now)
		}
		endDev(t, cmd)
	}
	if mode := modeOf(t, s.path("data/aws-credentials")); mode != 0o600 {
		t.Errorf("the credentials have mode %o", mode)
	}
}

func TestDevRefuses(t *testing.T) {
	s := devSite(t)
	for _, test := range []struct {
		env  string
		args []string
		want string
	}{
		{"VERENC_LISTEN=0.0.0.0:0", []string{"--access-key", "test", "--secret-key", "test"}, "loopback address only"},
		{"VERENC_LISTEN=:0", []string{"--access-key", "test", "--secret-key", "test"}, "loopback address only"},
		{"VERENC_LISTEN=192.0.2.1:0", []string{"--access-key", "test", "--secret-key", "test"}, "loopback address only"},
		{"", []string{"--access-key", "test"}, "give both"},
		{"", []string{"--access-key", "a/b", "--secret-key", "test"}, "give both"},
		{"VERENC_DATABASE=verenc.db2", nil, "unset database"},
		{"VERENC_TOKEN_MODULE=/usr/lib/libCryptoki2_64.so", nil, "unset token.module"},
		{"", []string{"--audit-dir", "none"}, "unset audit.dir"},
		{"", []string{"-c", "verenc.yaml"}, "it reads no configuration file"},
		{"VERENC_SOFTHSM_MODULE=/nowhere/libsofthsm2.so", nil, "apt-get install softhsm2"},
		{"", []string{"--seed", "none.yaml"}, "open none.yaml"},
		{"", []string{"--print-env", "--exec", "true"}, "none of the others can be"},
	} {
		refused(t, s.with(test.env).run(t, append([]string{"dev"}, test.args...)...), test.want)
	}
	if left := s.leftovers(t); left != nil {
		t.Errorf("%q are left", left)
	}
}
