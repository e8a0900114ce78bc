package main

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/miekg/pkcs11"

	"github.com/verenc/kms/hsm/selftest"
	"github.com/verenc/kms/softhsm/faults"
	"github.com/verenc/kms/softhsm/tokens"
)

// TestDoctorOnOtherTokens: for a token that is not as it should be, doctor says whether a server
// starts, and what to do.
func TestDoctorOnOtherTokens(t *testing.T) {
	for name, test := range map[string]struct {
		tell  func(*faults.Module)
		code  int
		words []string
	}{
		"a module that crashes": {func(m *faults.Module) { m.Crash("C_DeriveKey") }, 0,
			[]string{"note self-test " + selftest.CheckECDHP256 + ": C_DeriveKey", "ok self-test " + selftest.CheckSeal,
				"ok self-test " + selftest.CheckWrappedP521}},
		"no AES-GCM": {func(m *faults.Module) { m.Imitate(faults.YubiHSM) }, 1,
			[]string{"BAD self-test " + selftest.CheckSeal, "\nThis token can't be used: "}},
		"read-only": {func(m *faults.Module) {
			m.Fail("C_GenerateKey", pkcs11.CKR_TOKEN_WRITE_PROTECTED, faults.Times(1))
		}, 1,
			[]string{"BAD self-test " + selftest.CheckObjects, "let it be written to", "CKR_TOKEN_WRITE_PROTECTED"}},
		"many sessions": {func(m *faults.Module) {
			m.Lie("C_GetTokenInfo", faults.MaxRWSessions, 1<<64-2)
		}, 0, []string{"ok login"}},
		"the last try": {func(m *faults.Module) { m.TokenFlags(pkcs11.CKF_USER_PIN_FINAL_TRY, 0) }, 1,
			[]string{"BAD login", "--force-pin"}},
		"few tries": {func(m *faults.Module) { m.TokenFlags(pkcs11.CKF_USER_PIN_COUNT_LOW, 0) }, 0,
			[]string{"note PIN", "a few more lock it"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := initialised(t)
			m := faults.New(t, s.soft)
			test.tell(m)
			r := s.with("VERENC_TOKEN_MODULE="+m.Path).run(t, "doctor")
			if r.code != test.code {
				t.Errorf("exit code %d: %v", r.code, r)
			}
			stdout := regexp.MustCompile(` +`).ReplaceAllString(r.stdout, " ")
			for _, w := range test.words {
				if !strings.Contains(stdout, w) {
					t.Errorf("no %q in: %v", w, r)
				}
			}
		})
	}
}

// TestDoctorOnFiles: what a server does not start with is found before, and doctor says which setting it is.
func TestDoctorOnFiles(t *testing.T) {
	s := initialised(t)
	for settings, want := range map[string]string{
		"oidc_issuers: [{url: https://issuer.example, audiences: [verenc], jwks_file: none.json}]\n": "none.json",
		"oidc_issuers: [{url: https://issuer.example}]\n":                                            "audiences",
		"tracing: {endpoint: http://127.0.0.1:9, sample: 1, headers_file: none.txt}\n":               "none.txt",
		"tls_cert: none.pem\ntls_key: none.key\n":                                                    "none.pem",
	} {
		s := s.with("VERENC_CONFIG=" + s.write(t, "settings.yaml", settings, 0o600))
		for _, command := range []string{"doctor", "serve"} {
			if r := s.run(t, command); r.code != 1 || !strings.Contains(r.stdout+r.stderr, want) {
				t.Errorf("%s with %s: %v", command, settings, r)
			}
		}
	}
}

// TestServeIsolated: the module's own process serves the same as the server's; hsm tests how it
// ends.
func TestServeIsolated(t *testing.T) {
	s := initialised(t).with("VERENC_TOKEN_ISOLATE=true")
	r := s.serve(t)
	client := s.sdk(t, "http://"+r.api, http.DefaultClient)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := client.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: made.KeyMetadata.KeyId, NumberOfBytes: aws.Int32(32)})
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := client.Decrypt(t.Context(),
		&kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil || len(opened.Plaintext) != 32 {
		t.Errorf("%v", err)
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestServeEndsWithStatus3: a call that never returns prevents the module from being initialised
// again.
func TestServeEndsWithStatus3(t *testing.T) {
	s := initialised(t)
	m := faults.New(t, s.soft)
	m.HealOnlyByFinalize(pkcs11.CKR_DEVICE_ERROR)
	r := s.with("VERENC_TOKEN_MODULE="+m.Path, "VERENC_TOKEN_RESTART_AFTER=1ms",
		"VERENC_TOKEN_CALL_TIMEOUT=5s").serve(t)
	m.Hang("C_GenerateRandom", faults.Times(1))
	for m.Hanging() == 0 {
		get(t, http.DefaultClient, "http://"+r.api+"/readyz")
	}
	m.Unplug()
	get(t, http.DefaultClient, "http://"+r.api+"/readyz")
	if code := r.wait(); code != exitRestart {
		t.Errorf("exit code %d", code)
	}
}

// TestDoctorOnTokensOfOthers runs doctor on other vendors' tokens, without the system's
// configuration.
func TestDoctorOnTokensOfOthers(t *testing.T) {
	serves := map[string]bool{"softhsm": true, "softhsm-sqlite": true, "p11-kit-proxy": true}
	for _, kind := range tokens.Kinds() {
		t.Run(kind.Name, func(t *testing.T) {
			token := kind.New(t)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			pin := filepath.Join(dir, "pin")
			if err := os.WriteFile(pin, []byte(token.PIN), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := token.Command(t.Context(), self, "doctor")
			cmd.Dir = dir
			cmd.Env = append(cmd.Env, asVerenc+"=1", "VERENC_TOKEN_MODULE="+token.Module,
				"VERENC_TOKEN_LABEL="+token.Label,
				"VERENC_TOKEN_PIN_FILE="+pin, "VERENC_DATABASE="+filepath.Join(dir, "none.db"))
			r := runCommand(t, cmd)
			unusable := regexp.MustCompile(`(?m)^This token can't be used: .*CKM_AES_GCM`).MatchString(r.stdout)
			if unusable == serves[kind.Name] || !regexp.MustCompile(`(?m)^ok +login`).MatchString(r.stdout) {
				t.Errorf("unusable: %v; %v", unusable, r)
			}
			if strings.Contains(r.stdout+r.stderr, "panic") || strings.Contains(r.stdout+r.stderr, token.PIN) {
				t.Errorf("a panic, or the PIN: %v", r)
			}
		})
	}
}
