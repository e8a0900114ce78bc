package transport_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// TestDifferencesHaveTests: each section of docs/differences.md names tests that are there.
func TestDifferencesHaveTests(t *testing.T) {
	text := string(ok(os.ReadFile("../docs/differences.md"))(t))
	sections := strings.Split(text, "\n## ")[1:]
	if len(sections) < 5 {
		t.Errorf("only %d differences", len(sections))
	}
	for _, section := range sections {
		title, _, _ := strings.Cut(section, "\n")
		m := regexp.MustCompile(`(?m)^Tests: (.+)$`).FindStringSubmatch(section)
		if m == nil {
			t.Errorf("%s: no tests", title)
			continue
		}
		for name := range strings.SplitSeq(m[1], ", ") {
			if err := exec.CommandContext(t.Context(), "grep", "-qr", "--include=*_test.go", "^func "+name+"(",
				".").Run(); err != nil {
				t.Errorf("%s: there is no %s: %v", title, name, err)
			}
		}
	}
}

func TestStatementsWithoutEffectAreRefused(t *testing.T) {
	s := newServer(t, options{})
	for name, lacking := range map[string]string{"Action": `"Resource":"*"`, "Resource": `"Action":"kms:Decrypt"`} {
		text := `{"Statement":[` + strings.TrimSuffix(strings.SplitAfterN(openPolicy, `"Statement":`, 2)[1], "}") +
			`,{"Effect":"Allow","Principal":"*",` + lacking + `}]}`
		_, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &text})
		wantError(t, err, "MalformedPolicyDocumentException",
			"Statement 2: A statement must have "+name+" or Not"+name+".")
	}
}

func TestChangesAreSeenAtOnce(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	for range 50 {
		ok(s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}))(t)
		_, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
		wantError(t, err, "DisabledException", "*")
		ok(s.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id}))(t)
		ok(s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}))(t)
	}
	ok(s.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id}))(t)
	if status := ok(s.GetKeyRotationStatus(t.Context(),
		&kms.GetKeyRotationStatusInput{KeyId: &id}))(t); status.OnDemandRotationStartDate != nil {
		t.Errorf("%+v", status)
	}
	list := ok(s.ListKeyRotations(t.Context(), &kms.ListKeyRotationsInput{KeyId: &id}))(t)
	if len(list.Rotations) != 1 {
		t.Errorf("%+v", list)
	}
}

func TestNoKeysOfAWS(t *testing.T) {
	s := newServer(t, options{})
	_, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: aws.String("alias/aws/s3")})
	wantError(t, err, "NotFoundException", "Alias arn:verenc:"+account+":alias/aws/s3 is not found.")
	if list := ok(s.ListAliases(t.Context(), &kms.ListAliasesInput{}))(t); len(list.Aliases) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestWhatIsNotServed(t *testing.T) {
	f := newFixture(t)
	recipient := &types.RecipientInfo{KeyEncryptionAlgorithm: "RSAES_OAEP_SHA_256", AttestationDocument: []byte("x")}
	for _, op := range []string{"Decrypt", "DeriveSharedSecret", "GenerateDataKey", "GenerateDataKeyPair",
		"GenerateRandom"} {
		in := f.request(op)
		if !set(in, "Recipient", recipient) {
			t.Errorf("%s has no Recipient", op)
		}
		wantError(t, invoke(t.Context(), f.Client, op, in), "UnsupportedOperationException", "*")
	}
	_, err := f.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore,
		XksKeyId: aws.String("x"), CustomKeyStoreId: &f.keyStore})
	wantError(t, err, "UnsupportedOperationException", "*")
}

func TestGrantConstraintsAreExact(t *testing.T) {
	s := newServer(t, options{})
	app := s.user(t, account, "app")
	id, _ := s.newKey(t)
	ok(s.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: &id, GranteePrincipal: &app.ARN,
		Operations:  []types.GrantOperation{"Encrypt"},
		Constraints: &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "blue"}}}))(t)
	encrypt := func(name string) error {
		_, err := app.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x"),
			EncryptionContext: map[string]string{name: "blue"}})
		return err
	}
	if err := encrypt("tenant"); err != nil {
		t.Error(err)
	}
	wantError(t, encrypt("Tenant"), "AccessDeniedException", "*")
}
