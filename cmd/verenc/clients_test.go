package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/softhsm/faults"
)

// The distribution's clients, as scripts/setup.sh installs them.
const (
	awsCLI = "/usr/bin/aws"
	python = "/usr/bin/python3"
)

// client is another vendor's command, with the site's settings for AWS clients.
func (s *site) client(t *testing.T, path string, args ...string) *exec.Cmd {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run scripts/setup.sh clients", err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + s.dir, "LANG=C.UTF-8",
		"AWS_SHARED_CREDENTIALS_FILE=" + s.path("credentials"), "AWS_CONFIG_FILE=/dev/null",
		"AWS_DEFAULT_REGION=us-east-1", "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true"}
	return cmd
}

// TestClients: the AWS CLI and boto3 do the main job as they are; the Go SDK reads the CLI's data key.
func TestClients(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	url := "http://" + r.api
	t.Parallel() // no earlier: a new token must not meet another test's process that reads SoftHSM2's configuration

	t.Run("CLI", func(t *testing.T) {
		kms := func(args ...string) result {
			t.Helper()
			return runCommand(t, s.client(t, awsCLI,
				append([]string{"--endpoint-url", url, "--output", "json", "kms"}, args...)...))
		}
		answer := func(into any, args ...string) {
			t.Helper()
			got := kms(args...)
			if got.code != 0 {
				t.Fatal(got)
			}
			if got.stdout == "" && into == nil {
				return
			}
			if err := json.Unmarshal([]byte(got.stdout), into); err != nil {
				t.Fatalf("%v: %v", err, got)
			}
		}
		fails := func(words string, args ...string) {
			t.Helper()
			if got := kms(args...); got.code != 254 || !strings.Contains(got.stderr, words) {
				t.Errorf("want 254 and %q: %v", words, got)
			}
		}
		var made struct {
			KeyMetadata struct{ KeyId, Arn, CreationDate string }
		}
		answer(&made, "create-key", "--description", "by the CLI")
		if m := made.KeyMetadata; !strings.HasSuffix(m.Arn, ":key/"+m.KeyId) ||
			!strings.HasPrefix(m.CreationDate, "20") {
			t.Errorf("%+v", made)
		}
		answer(nil, "create-alias", "--alias-name", "alias/cli", "--target-key-id", made.KeyMetadata.KeyId)
		var dataKey struct{ CiphertextBlob, KeyId string }
		answer(&dataKey, "generate-data-key-without-plaintext", "--key-id", "alias/cli", "--key-spec", "AES_256",
			"--encryption-context", "tenant=blue")
		if dataKey.KeyId != made.KeyMetadata.Arn {
			t.Errorf("%+v", dataKey)
		}
		blob, err := base64.StdEncoding.DecodeString(dataKey.CiphertextBlob)
		if err != nil {
			t.Fatal(err)
		}
		file := "fileb://" + s.write(t, "datakey", string(blob), 0o600)
		var opened struct{ Plaintext, KeyId string }
		answer(&opened, "decrypt", "--ciphertext-blob", file, "--encryption-context", "tenant=blue")
		if plaintext, err := base64.StdEncoding.DecodeString(opened.Plaintext); err != nil || len(plaintext) != 32 ||
			opened.KeyId != made.KeyMetadata.Arn {
			t.Errorf("%+v, %v", opened, err)
		}
		fails("An error occurred (InvalidCiphertextException) when calling the Decrypt operation", "decrypt",
			"--ciphertext-blob", file, "--encryption-context", "tenant=red")
		fails("An error occurred (NotFoundException) when calling the DescribeKey operation: Invalid keyId 'x'",
			"describe-key", "--key-id", "x")
		var list struct{ Keys []struct{ KeyId string } }
		answer(&list, "list-keys", "--page-size", "1")
		if len(list.Keys) != 1 || list.Keys[0].KeyId != made.KeyMetadata.KeyId {
			t.Errorf("%+v", list)
		}
		byGo, err := s.sdk(t, url, http.DefaultClient).Decrypt(t.Context(),
			&sdk.DecryptInput{CiphertextBlob: blob, EncryptionContext: map[string]string{"tenant": "blue"}})
		if err != nil || base64.StdEncoding.EncodeToString(byGo.Plaintext) != opened.Plaintext {
			t.Errorf("the Go SDK opens it as something else, %v", err)
		}
	})
	t.Run("boto3", func(t *testing.T) {
		job, err := filepath.Abs("testdata/boto3_job.py")
		if err != nil {
			t.Fatal(err)
		}
		if got := runCommand(t, s.client(t, python, "-c", "import boto3")); got.code != 0 {
			t.Fatalf("boto3 is missing: run scripts/setup.sh clients: %v", got)
		}
		got := runCommand(t, s.client(t, python, job, url))
		if got.code != 0 || !strings.HasPrefix(got.stdout, "arn:verenc:111122223333:key/") {
			t.Error(got)
		}
	})
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	checkServerLog(t, r, s.accessKey(t).SecretAccessKey, s.soft.PIN)
}

// TestMLDSAByTheCLI: a server on a token that has ML-DSA, from init on, as the AWS CLI sees it.
func TestMLDSAByTheCLI(t *testing.T) {
	s := newSite(t)
	module := faults.New(t, s.soft)
	module.AddPostQuantum(t)
	s = s.with("VERENC_TOKEN_MODULE=" + module.Path)
	s.succeeds(t, "init", "--credentials", s.path("credentials"))
	url := "http://" + s.serve(t).api
	kms := func(args ...string) map[string]any {
		t.Helper()
		got := runCommand(t, s.client(t, awsCLI,
			append([]string{"--endpoint-url", url, "--output", "json", "kms"}, args...)...))
		var answer map[string]any
		if err := json.Unmarshal([]byte(got.stdout), &answer); got.code != 0 || err != nil {
			t.Fatalf("%v: %v", err, got)
		}
		return answer
	}
	id := kms("create-key", "--key-spec", "ML_DSA_65", "--key-usage",
		"SIGN_VERIFY")["KeyMetadata"].(map[string]any)["KeyId"].(string)
	message := "fileb://" + s.write(t, "message", strings.Repeat("m", 4096), 0o600)
	common := []string{"--key-id", id, "--message", message, "--signing-algorithm", "ML_DSA_SHAKE_256"}
	signature, err := base64.StdEncoding.DecodeString(kms(append([]string{"sign"}, common...)...)["Signature"].(string))
	if err != nil || len(signature) != 3309 {
		t.Fatalf("%d bytes, %v", len(signature), err)
	}
	file := "fileb://" + s.write(t, "signature", string(signature), 0o600)
	if got := kms(append([]string{"verify", "--signature", file}, common...)...); got["SignatureValid"] != true {
		t.Errorf("%v", got)
	}
	if got := kms("get-public-key", "--key-id", id); got["KeySpec"] != "ML_DSA_65" {
		t.Errorf("%v", got)
	}
}
