package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const (
	seedKey    = "00000000-0000-4000-8000-00000000000" // and a digit
	seedRegion = "key us-east-1/"
)

// TestApplyKeys: keys are made as they are declared, known material is imported, and a second time nothing
// changes. What differs is changed, and what can't be changed is refused.
func TestApplyKeys(t *testing.T) {
	s := initialised(t).with("VERENC_REGIONS=us-east-1,eu-west-1")
	s.copyTestdata(t, "seed.yaml")
	plan := s.tokenlessly().does(t, "apply", "-f", "seed.yaml", "--dry-run")
	contains(t, plan, "create "+seedRegion+seedKey+"1: SYMMETRIC_DEFAULT, alias/orders, alias/app/orders, "+
		"grant to "+roleARN+"worker, grant to "+userARN+"app, rotation\n",
		"create "+seedRegion+seedKey+"2: ECC_NIST_P256 SIGN_VERIFY, disabled\n",
		"create "+seedRegion+seedKey+"3: SYMMETRIC_DEFAULT EXTERNAL, known material, alias/known, ",
		"create key eu-west-1/mrk-00112233445566778899aabbccddeeff: replica of us-east-1, alias/shared\n",
		"11 to change; nothing was changed\n")
	if got := s.does(t, "apply", "-f", "seed.yaml"); got != strings.Replace(plan, " to change; nothing was", "", 1) {
		t.Errorf("got\n%swant\n%s", got, plan)
	}
	for _, again := range []*site{s, s.tokenlessly()} {
		if got := again.does(t, "apply", "-f", "seed.yaml", "--dry-run"); got != "nothing to change\n" {
			t.Errorf("again: %s", got)
		}
	}
	if got := s.does(t, "apply", "-f", "seed.yaml"); got != "nothing to change\n" {
		t.Errorf("again: %s", got)
	}

	client := s.sdk(t, "http://"+s.serve(t).api, http.DefaultClient)
	ctx := t.Context()
	mac, err := client.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: aws.String(seedKey + "4"),
		Message: []byte("message"), MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
	if err != nil {
		t.Fatal(err)
	}
	known := hmac.New(sha256.New, []byte("01234567890123456789012345678901"))
	known.Write([]byte("message"))
	if !hmac.Equal(mac.Mac, known.Sum(nil)) {
		t.Error("the HMAC key has other material than was declared")
	}
	for id, want := range map[string]types.KeyState{"1": types.KeyStateEnabled, "2": types.KeyStateDisabled,
		"3": types.KeyStateEnabled, "5": types.KeyStateDisabled, "6": types.KeyStateEnabled,
		"7": types.KeyStatePendingImport} {
		out, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(seedKey + id)})
		if err != nil || out.KeyMetadata.KeyState != want {
			t.Errorf("%s: %+v, %v", id, out, err)
		}
	}
	encrypted, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/orders"), Plaintext: []byte("x"),
		EncryptionContext: map[string]string{"tenant": "blue"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob,
		EncryptionContext: map[string]string{"tenant": "blue"}}); err != nil {
		t.Error(err)
	}

	// An imported material that was deleted is imported again; everything else that differs is set right.
	if _, err := client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{
		KeyId: aws.String(seedKey + "4")}); err != nil {
		t.Fatal(err)
	}
	text := read(t, s.path("seed.yaml"))
	for old, now := range map[string]string{"description: orders": "description: sold", "rotation: 180": "rotation: 0",
		`{team: blue, "cost centre": "7"}`: "{team: green, new: tag}", "[alias/orders, alias/app/orders]": "[alias/app/orders]",
		"[alias/known]": "[alias/known, alias/orders]", "operations: [DescribeKey]": "operations: [GetPublicKey, DescribeKey]",
		"usage: SIGN_VERIFY, enabled: false}": "usage: SIGN_VERIFY, enabled: true}", "{tags: {team: red}}": "{tags: {}}"} {
		text = strings.Replace(text, old, now, 1)
	}
	s.write(t, "seed.yaml", strings.Replace(text, "GetPublicKey", "Sign", 1), 0o600)
	refused(t, s.run(t, "apply", "-f", "seed.yaml"), "Operation Sign is not valid", "apply the file again")
	s.write(t, "seed.yaml", strings.Replace(text, "GetPublicKey", "Encrypt", 1), 0o600)
	contains(t, s.does(t, "apply", "-f", "seed.yaml"), "change "+seedRegion+seedKey+"1: ", "grant to "+userARN+"app",
		"no grant to "+userARN+"app, rotation\n", "change "+seedRegion+seedKey+"2: enabled\n",
		"change "+seedRegion+seedKey+"3: alias/orders\n", "change "+seedRegion+seedKey+"4: known material\n",
		"change "+seedRegion+"mrk-00112233445566778899aabbccddeeff: tags.team\n")
	if got := s.does(t, "apply", "-f", "seed.yaml"); got != "nothing to change\n" {
		t.Errorf("again: %s", got)
	}
	contains(t, s.does(t, "report"), "known to whoever has read a file")
	contains(t, s.does(t, "attest", seedKey+"4"), `"Known": true`)

	key := func(fields string) string {
		return "accounts:\n  '111122223333':\n    keys:\n      us-east-1:\n        " + seedKey + fields
	}
	for _, test := range []struct{ text, want string }{
		{key("1: {spec: RSA_2048, usage: SIGN_VERIFY}"),
			`f.yaml:5:9: key ` + seedKey + `1: its spec is "SYMMETRIC_DEFAULT" and can't be changed to "RSA_2048"`},
		{key("1: {origin: EXTERNAL}"), `its origin is "AWS_KMS" and can't be changed`},
		{key("3: {material: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDA=}"), "it has other material"},
		{key("9: {description: a, tags: {'aws:x': y}, aliases: [alias/known]}\n        " + seedKey +
			"8: {aliases: [alias/known]}"), "alias/known is already declared for key " + seedKey + "9 at f.yaml:5:9"},
		{key("9: {grants: [{grantee: 'a b', operations: [Fly]}]}"), "2 validation errors detected"},
		{strings.Replace(key("1: {}"), "us-east-1", "eu-west-1", 1) + "\n        mrk-00112233445566778899aabbccddeeff: {}",
			`its primary region is "us-east-1"`},
		{strings.Replace(key("9: {}"), "us-east-1", "us-west-2", 1), "region us-west-2 is not served"},
		{strings.Replace(key("1: {}"), "111122223333", "444455556666", 1), "another account has a key of this id"},
		{key("9: {}\n        mrk-99112233445566778899aabbccddeeff: {primary: eu-west-1}"),
			"region eu-west-1 has no primary key of this id"},
	} {
		s.write(t, "f.yaml", test.text, 0o600)
		refused(t, s.run(t, "apply", "-f", "f.yaml"), "nothing was changed", test.want)
	}
	if _, err := client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{
		KeyId: aws.String(seedKey + "1")}); err != nil {
		t.Fatal(err)
	}
	refused(t, s.run(t, "apply", "-f", "seed.yaml"), "nothing was changed", "it is to be deleted")
	exported := s.run(t, "export")
	contains(t, exported.stderr, "left out: "+seedRegion+seedKey+"1 is in state PendingDeletion")
	if strings.Contains(exported.stdout, "MDEy") || strings.Contains(exported.stdout, seedKey+"1") {
		t.Errorf("exported:\n%s", exported.stdout)
	}
}

// TestExportKeys: what is exported, and applied to a new server, is exported in the same bytes.
func TestExportKeys(t *testing.T) {
	first := initialised(t).with("VERENC_REGIONS=us-east-1,eu-west-1")
	first.copyTestdata(t, "seed.yaml")
	first.does(t, "apply", "-f", "seed.yaml")
	exported := first.tokenlessly().does(t, "export")
	contains(t, exported, "origin: EXTERNAL", "primary: us-east-1", "enabled: false", "rotation: 180")
	if got := first.with().does(t, "apply", "-f", first.write(t, "exported.yaml", exported, 0o600)); got !=
		"nothing to change\n" {
		t.Errorf("applied where it came from: %s", got)
	}
	second := initialised(t).with("VERENC_REGIONS=us-east-1,eu-west-1")
	second.does(t, "apply", "-f", second.write(t, "exported.yaml", exported, 0o600))
	if again := second.does(t, "export"); again != exported {
		t.Errorf("got\n%s\nwant\n%s", again, exported)
	}
}

// TestApplyKeysWithoutAuditLog: a server that keeps no log has declared keys, too.
func TestApplyKeysWithoutAuditLog(t *testing.T) {
	s := newSite(t).with("VERENC_REGIONS=us-east-1,eu-west-1", "VERENC_AUDIT_DIR=none")
	s.does(t, "init", "--credentials", s.path("credentials"))
	s.copyTestdata(t, "seed.yaml")
	contains(t, s.does(t, "apply", "-f", "seed.yaml"), "create "+seedRegion+seedKey+"1: SYMMETRIC_DEFAULT")
	if got := s.does(t, "apply", "-f", "seed.yaml"); got != "nothing to change\n" {
		t.Errorf("again: %s", got)
	}
}
