package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	credentialsprovider "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/verenc/kms/transport/sdktest"
)

// onlyDecrypt is the declaration that allows one application to Decrypt with one key and a fixed
// encryption context.
const onlyDecrypt = `
accounts:
  "111122223333":
    users:
      app:
        policies:
          decrypt-orders:
            Version: "2012-10-17"
            Statement:
              Sid: OnlyTenantBlue
              Effect: Allow
              Action: kms:Decrypt
              Resource: KEY
              Condition:
                StringEquals: {"kms:EncryptionContext:tenant": blue}
                "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": [tenant]}
`

var blue = map[string]string{"tenant": "blue"}

// application is the SDK with the access key in a file of the site.
func (s *site) application(t *testing.T, url, file string) *kms.Client {
	t.Helper()
	key := credentials.FindStringSubmatch(read(t, s.path(file)))
	if key == nil {
		t.Fatal("no credentials in " + file)
	}
	return kms.New(kms.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1,
		HTTPClient:  sdktest.Client(),
		Credentials: credentialsprovider.NewStaticCredentialsProvider(key[1], key[2], "")})
}

// call calls the operation of an input.
func call(t *testing.T, client *kms.Client, input any) (operation string, err error) {
	t.Helper()
	operation = strings.TrimSuffix(reflect.TypeOf(input).Elem().Name(), "Input")
	method := reflect.ValueOf(client).MethodByName(operation)
	out := method.Call([]reflect.Value{reflect.ValueOf(t.Context()), reflect.ValueOf(input)})
	err, _ = out[1].Interface().(error)
	return operation, err
}

// requests returns a request of every operation, complete enough to be authorised. The key must be one
// that app may not use.
func requests(key, grant string, sealed []byte) []any {
	k, arn := &key, aws.String("arn:aws:iam::111122223333:user/app")
	return []any{
		&kms.CancelKeyDeletionInput{KeyId: k},
		&kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-0123456789abcdef0")},
		&kms.CreateAliasInput{AliasName: aws.String("alias/app"), TargetKeyId: k},
		&kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("app"),
			CloudHsmClusterId: aws.String("cluster-2a23b4cdefg"), KeyStorePassword: aws.String("12345678"),
			TrustAnchorCertificate: aws.String("x")},
		&kms.CreateGrantInput{KeyId: k, GranteePrincipal: arn, Operations: []types.GrantOperation{"Decrypt"}},
		&kms.CreateKeyInput{},
		&kms.DecapsulateInput{KeyId: k, EncapsulationAlgorithm: "ML_KEM", SharedSecretCiphertextBlob: sealed},
		&kms.DecryptInput{CiphertextBlob: sealed},
		&kms.DeleteAliasInput{AliasName: aws.String("alias/orders")},
		&kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-0123456789abcdef0")},
		&kms.DeleteImportedKeyMaterialInput{KeyId: k},
		&kms.DeriveSharedSecretInput{KeyId: k, KeyAgreementAlgorithm: "ECDH", PublicKey: []byte{1}},
		&kms.DescribeCustomKeyStoresInput{},
		&kms.DescribeKeyInput{KeyId: k},
		&kms.DisableKeyInput{KeyId: k},
		&kms.DisableKeyRotationInput{KeyId: k},
		&kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-0123456789abcdef0")},
		&kms.EnableKeyInput{KeyId: k},
		&kms.EnableKeyRotationInput{KeyId: k},
		&kms.EncapsulateInput{KeyId: k, EncapsulationAlgorithm: "ML_KEM"},
		&kms.EncryptInput{KeyId: k, Plaintext: []byte{1}, EncryptionContext: blue},
		&kms.GenerateDataKeyInput{KeyId: k, KeySpec: "AES_256", EncryptionContext: blue},
		&kms.GenerateDataKeyPairInput{KeyId: k, KeyPairSpec: "ECC_NIST_P256", EncryptionContext: blue},
		&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: k, KeyPairSpec: "ECC_NIST_P256", EncryptionContext: blue},
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: k, KeySpec: "AES_256", EncryptionContext: blue},
		&kms.GenerateMacInput{KeyId: k, MacAlgorithm: "HMAC_SHA_256", Message: []byte{1}},
		&kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)},
		&kms.GetKeyLastUsageInput{KeyId: k},
		&kms.GetKeyPolicyInput{KeyId: k},
		&kms.GetKeyRotationStatusInput{KeyId: k},
		&kms.GetParametersForImportInput{KeyId: k, WrappingAlgorithm: "RSAES_OAEP_SHA_256",
			WrappingKeySpec: "RSA_2048"},
		&kms.GetPublicKeyInput{KeyId: k},
		&kms.ImportKeyMaterialInput{KeyId: k, ImportToken: []byte{1}, EncryptedKeyMaterial: []byte{1},
			ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE"},
		&kms.ListAliasesInput{},
		&kms.ListGrantsInput{KeyId: k},
		&kms.ListKeyPoliciesInput{KeyId: k},
		&kms.ListKeyRotationsInput{KeyId: k},
		&kms.ListKeysInput{},
		&kms.ListResourceTagsInput{KeyId: k},
		&kms.ListRetirableGrantsInput{RetiringPrincipal: arn},
		&kms.PutKeyPolicyInput{KeyId: k, Policy: aws.String("{}")},
		&kms.ReEncryptInput{CiphertextBlob: sealed, DestinationKeyId: k, SourceEncryptionContext: blue},
		&kms.ReplicateKeyInput{KeyId: k, ReplicaRegion: aws.String("eu-west-1")},
		&kms.RetireGrantInput{KeyId: k, GrantId: &grant},
		&kms.RevokeGrantInput{KeyId: k, GrantId: &grant},
		&kms.RotateKeyOnDemandInput{KeyId: k},
		&kms.ScheduleKeyDeletionInput{KeyId: k},
		&kms.SignInput{KeyId: k, Message: []byte{1}, SigningAlgorithm: "ECDSA_SHA_256"},
		&kms.TagResourceInput{KeyId: k, Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}},
		&kms.UntagResourceInput{KeyId: k, TagKeys: []string{"a"}},
		&kms.UpdateAliasInput{AliasName: aws.String("alias/orders"), TargetKeyId: k},
		&kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: aws.String("cks-0123456789abcdef0")},
		&kms.UpdateKeyDescriptionInput{KeyId: k, Description: aws.String("mine")},
		&kms.UpdatePrimaryRegionInput{KeyId: k, PrimaryRegion: aws.String("eu-west-1")},
		&kms.VerifyInput{KeyId: k, Message: []byte{1}, Signature: []byte{1}, SigningAlgorithm: "ECDSA_SHA_256"},
		&kms.VerifyMacInput{KeyId: k, MacAlgorithm: "HMAC_SHA_256", Message: []byte{1}, Mac: []byte{1}},
	}
}

// fails checks an exception and the beginning of its message.
func fails(t *testing.T, err error, code, message string) {
	t.Helper()
	if e := smithy.APIError(nil); !errors.As(err, &e) || e.ErrorCode() != code ||
		!strings.HasPrefix(e.ErrorMessage(), message) {
		t.Errorf("got  %v\nwant %s: %s", err, code, message)
	}
}

// auditRecord has the members of a record that this test checks.
type auditRecord struct {
	EventName, ErrorCode, ErrorMessage, RequestID string
	UserIdentity                                  struct{ ARN string }
}

// auditRecords reads the records of a server that has ended.
func (s *site) auditRecords(t *testing.T) (records []auditRecord) {
	t.Helper()
	files, err := filepath.Glob(s.path("audit/records/*.jsonl"))
	if err != nil || files == nil {
		t.Fatal("no records", err)
	}
	for _, file := range files {
		for line := range strings.Lines(read(t, file)) {
			var r auditRecord
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			records = append(records, r)
		}
	}
	return records
}

// eventually waits until a running server has seen a change, which it does within a second.
func eventually(t testing.TB, what string, seen func() bool) {
	t.Helper()
	// far more than promised, so that a slow machine doesn't fail
	for deadline := time.Now().Add(time.Minute); !seen(); {
		if time.Now().After(deadline) {
			t.Fatal("the server does not see it: " + what)
		}
	}
}

// TestOnlyDecrypt: an application may Decrypt with one key and one encryption context, and nothing
// else. Operators see why, and can change it while the server runs.
func TestOnlyDecrypt(t *testing.T) {
	s := initialised(t)
	r := s.serve(t)
	url := "http://" + r.api
	root := s.sdk(t, url, http.DefaultClient)
	newKey := func() (arn string, seal func(map[string]string) []byte) {
		made, err := root.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		return *made.KeyMetadata.Arn, func(context map[string]string) []byte {
			sealed, err := root.Encrypt(t.Context(),
				&kms.EncryptInput{KeyId: made.KeyMetadata.KeyId, Plaintext: []byte("order 1"),
					EncryptionContext: context})
			if err != nil {
				t.Fatal(err)
			}
			return sealed.CiphertextBlob
		}
	}
	key, seal := newKey()
	otherKey, sealOther := newKey()
	if _, err := root.CreateAlias(t.Context(),
		&kms.CreateAliasInput{AliasName: aws.String("alias/orders"), TargetKeyId: &key}); err != nil {
		t.Fatal(err)
	}
	s.succeeds(t, "user", "create", "other")
	grant, err := root.CreateGrant(t.Context(),
		&kms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String("arn:aws:iam::111122223333:user/other"),
			Operations: []types.GrantOperation{"Encrypt"}})
	if err != nil {
		t.Fatal(err)
	}

	s.write(t, "app.yaml", strings.Replace(onlyDecrypt, "KEY", key, 1), 0o600)
	if got := s.tokenlessly().does(t, "apply", "-f", "app.yaml"); got != "create "+userARN+"app\n1 changed\n" {
		t.Errorf("applied %q", got)
	}
	s.does(t, "access-key", "create", "--user", "app", "--credentials", s.path("app"))
	app := s.application(t, url, "app")

	decrypt := func(blob []byte, context map[string]string) error {
		out, err := app.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: context})
		if err == nil && string(out.Plaintext) != "order 1" {
			t.Errorf("decrypted %q", out.Plaintext)
		}
		return err
	}
	denied := func(action, resource string) string {
		return fmt.Sprintf(
			"User: %sapp is not authorized to perform: kms:%s on resource: %s because no identity-based policy allows the kms:%[2]s action",
			userARN, action, resource)
	}
	const deniedCiphertext = "User: " + userARN +
		"app is not authorized to perform: kms:Decrypt on the resource associated with this ciphertext " +
		"because no identity-based policy allows the kms:Decrypt action"
	const accessDenied = "AccessDeniedException"
	denials := map[string]string{} // that were answered: operation by request id
	note := func(operation string, err error) {
		t.Helper()
		if e := (*awshttp.ResponseError)(nil); errors.As(err, &e) {
			denials[e.ServiceRequestID()] = operation
		}
	}
	blob := seal(blue)
	eventually(t, "the user", func() bool { return decrypt(blob, blue) == nil })

	t.Run("contexts", func(t *testing.T) {
		for _, context := range []map[string]string{nil, {"tenant": "red"}, {"tenant": "Blue"}, {"Tenant": "blue"},
			{"tenant": "blue", "more": ""}, {"more": "blue"}} {
			for _, sealed := range [][]byte{seal(context), blob} { // whether the context is right or not
				err := decrypt(sealed, context)
				fails(t, err, accessDenied, deniedCiphertext)
				note("Decrypt", err)
			}
		}
		fails(t, decrypt(seal(map[string]string{"tenant": "red"}), blue), "InvalidCiphertextException", "")
	})
	t.Run("other key", func(t *testing.T) {
		fails(t, decrypt(sealOther(blue), blue), accessDenied, deniedCiphertext)
		_, err := app.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: blob, KeyId: &otherKey,
			EncryptionContext: blue})
		fails(t, err, accessDenied, denied("Decrypt", otherKey))
	})
	t.Run("other operations", func(t *testing.T) {
		seen := map[string]bool{"sts:AssumeRole": true}
		for _, input := range requests(key, *grant.GrantId, blob) {
			operation, err := call(t, app, input)
			seen[operation] = true
			note(operation, err)
			if operation == "ReEncrypt" {
				operation = "ReEncryptFrom"
			}
			fails(t, err, accessDenied, "User: "+userARN+"app is not authorized to perform: kms:"+operation+" on ")
		}
		for _, operation := range operations() {
			if !seen[operation] {
				t.Errorf("%s was not tried", operation)
			}
		}
	})
	t.Run("explained", func(t *testing.T) {
		explain := func(args ...string) string {
			t.Helper()
			return s.tokenlessly().does(t, append(
				[]string{"policy", "explain", "--principal", userARN + "app"}, args...)...)
		}
		contains(t, explain("--action", "kms:Decrypt", "--key", "alias/orders", "--encryption-context", "tenant=blue"),
			"allowed: identity-based policy decrypt-orders statement 1 OnlyTenantBlue\n",
			"*  identity-based policy decrypt-orders  statement 1 OnlyTenantBlue", "names the caller's account")
		contains(t, explain("--action", "kms:Decrypt", "--key", key, "--encryption-context", "tenant=red"),
			"denied: no identity-based policy allows it\n", denied("Decrypt", key),
			"the condition StringEquals on kms:encryptioncontext:tenant does not hold")
		contains(t, explain("--action", "kms:Decrypt", "--key", key, "--encryption-context", "tenant=blue",
			"--encryption-context", "more="),
			"denied: no identity-based policy allows it\n",
			"the condition ForAllValues:StringEquals on kms:encryptioncontextkeys does not hold")
		contains(t, explain("--action", "kms:Decrypt", "--key", otherKey, "--encryption-context", "tenant=blue"),
			denied("Decrypt", otherKey), "does not have the resource")
		contains(t, explain("--action", "kms:ScheduleKeyDeletion", "--key", key), denied("ScheduleKeyDeletion", key),
			"does not have the action")
		refused(t, s.tokenlessly().run(t, "policy", "explain", "--principal", userARN+"app", "--action", "kms:Decrypt",
			"--key", "alias/none"), "alias/none is not found")
		refused(t, s.tokenlessly().run(t, "policy", "explain", "--principal", userARN+"app", "--action", "kms:Decrypt",
			"--key", key, "--encryption-context", "tenant"), "give NAME=VALUE")
		refused(t, s.tokenlessly().run(t, "policy", "explain"), `"action", "principal"`)
	})
	t.Run("changed while it runs", func(t *testing.T) {
		database := s.tokenlessly()
		first := credentials.FindStringSubmatch(read(t, s.path("app")))[1]
		database.does(t, "access-key", "disable", first)
		eventually(t, "the disabled access key", func() bool { return decrypt(blob, blue) != nil })
		fails(t, decrypt(blob, blue), "UnrecognizedClientException",
			"The security token included in the request is invalid.")
		database.does(t, "access-key", "enable", first)
		eventually(t, "the enabled access key", func() bool { return decrypt(blob, blue) == nil })

		s.does(t, "access-key", "rotate", "--user", "app", "--credentials", s.path("rotated"))
		eventually(t, "the rotated access key", func() bool { return decrypt(blob, blue) != nil })
		app = s.application(t, url, "rotated")
		if err := decrypt(blob, blue); err != nil {
			t.Errorf("with the second access key: %v", err)
		}
		s.write(t, "app.yaml", strings.ReplaceAll(strings.Replace(onlyDecrypt, "KEY", key, 1), "blue", "red"), 0o600)
		if got := database.does(t, "apply", "-f", "app.yaml"); got != "change "+userARN+
			"app: policies.decrypt-orders\n1 changed\n" {
			t.Errorf("applied %q", got)
		}
		eventually(t, "the changed policy", func() bool { return decrypt(blob, blue) != nil })
		fails(t, decrypt(blob, blue), accessDenied, deniedCiphertext)
		red := map[string]string{"tenant": "red"}
		if err := decrypt(seal(red), red); err != nil {
			t.Errorf("what the changed policy allows: %v", err)
		}
		database.does(t, "user", "delete", "app")
		eventually(t, "the deleted user", func() bool { return decrypt(seal(red), red) != nil })
		fails(t, decrypt(seal(red), red), "UnrecognizedClientException", "")
	})
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if len(denials) < len(operations()) {
		t.Errorf("only %d denials", len(denials))
	}
	for _, record := range s.auditRecords(t) {
		if denials[record.RequestID] == record.EventName && record.ErrorCode == accessDenied &&
			record.UserIdentity.ARN == userARN+"app" &&
			strings.HasPrefix(record.ErrorMessage,
				"User: "+userARN+"app is not authorized to perform: kms:"+record.EventName) {
			delete(denials, record.RequestID)
		}
	}
	if len(denials) > 0 {
		t.Errorf("not in the audit trail: %v", denials)
	}
	used := regexp.MustCompile(`(?m)^` + s.accessKey(t).AccessKeyID +
		` +enabled +20\S+ \S+Z +20\S+ \S+Z kms us-east-1 +never +arn:aws:iam::111122223333:root$`)
	// the server stores it when it ends
	if list := s.tokenlessly().does(t, "access-key", "list"); !used.MatchString(list) {
		t.Errorf("the last use is not in\n%s", list)
	}
}
