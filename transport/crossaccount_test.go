package transport_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
)

// post sends a signed request as it is.
func (s *server) post(t *testing.T, c aws.Credentials, operation, body string) (status int, answer string) {
	t.Helper()
	r := post(t, s.URL, jsonType, "TrentService."+operation, body)
	signRequest(t, r, c, "kms", body, time.Now())
	resp, text := send(t, http.DefaultClient, r)
	return resp.StatusCode, string(text)
}

// onKeys are the operations on a key, with a request for each; @KEY stands for the key's name, @OWN
// for a key of the caller, @BLOB for what it has encrypted, @ALIEN for a ciphertext under the key.
var onKeys = map[string][]string{
	"CancelKeyDeletion": {`{"KeyId":@KEY}`},
	"CreateAlias":       {`{"TargetKeyId":@KEY,"AliasName":"alias/new"}`},
	"CreateGrant": {
		`{"KeyId":@KEY,"GranteePrincipal":"arn:aws:iam::444455556666:root","Operations":["Decrypt"]}`},
	"Decapsulate": {
		`{"KeyId":@KEY,"EncapsulationAlgorithm":"ML_KEM","SharedSecretCiphertextBlob":"eA=="}`},
	"Decrypt": {`{"KeyId":@KEY,"CiphertextBlob":@BLOB}`,
		`{"KeyId":@KEY,"CiphertextBlob":@ALIEN}`, `{"CiphertextBlob":@ALIEN}`},
	"DeleteImportedKeyMaterial": {`{"KeyId":@KEY}`},
	"DeriveSharedSecret":        {`{"KeyId":@KEY,"KeyAgreementAlgorithm":"ECDH","PublicKey":"eA=="}`},
	"DescribeKey":               {`{"KeyId":@KEY}`},
	"DisableKey":                {`{"KeyId":@KEY}`},
	"DisableKeyRotation":        {`{"KeyId":@KEY}`},
	"EnableKey":                 {`{"KeyId":@KEY}`},
	"EnableKeyRotation":         {`{"KeyId":@KEY}`},
	"Encapsulate":               {`{"KeyId":@KEY,"EncapsulationAlgorithm":"ML_KEM"}`},
	"Encrypt": {`{"KeyId":@KEY,"Plaintext":"eA=="}`,
		`{"KeyId":@KEY,"Plaintext":"eA==","DryRun":true}`},
	"GenerateDataKey":                     {`{"KeyId":@KEY,"KeySpec":"AES_256"}`},
	"GenerateDataKeyPair":                 {`{"KeyId":@KEY,"KeyPairSpec":"ECC_NIST_P256"}`},
	"GenerateDataKeyPairWithoutPlaintext": {`{"KeyId":@KEY,"KeyPairSpec":"ECC_NIST_P256"}`},
	"GenerateDataKeyWithoutPlaintext":     {`{"KeyId":@KEY,"KeySpec":"AES_256"}`},
	"GenerateMac":                         {`{"KeyId":@KEY,"Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}`},
	"GetKeyLastUsage":                     {`{"KeyId":@KEY}`},
	"GetKeyPolicy":                        {`{"KeyId":@KEY}`},
	"GetKeyRotationStatus":                {`{"KeyId":@KEY}`},
	"GetParametersForImport": {
		`{"KeyId":@KEY,"WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`},
	"GetPublicKey":      {`{"KeyId":@KEY}`},
	"ImportKeyMaterial": {`{"KeyId":@KEY,"ImportToken":"eA==","EncryptedKeyMaterial":"eA==","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`},
	"ListAliases":       {`{"KeyId":@KEY}`},
	"ListGrants":        {`{"KeyId":@KEY}`},
	"ListKeyPolicies":   {`{"KeyId":@KEY}`},
	"ListKeyRotations":  {`{"KeyId":@KEY}`},
	"ListResourceTags":  {`{"KeyId":@KEY}`},
	"PutKeyPolicy": {`{"KeyId":@KEY,"Policy":"{}"}`,
		`{"KeyId":@KEY,"Policy":"{}","BypassPolicyLockoutSafetyCheck":true}`},
	"ReEncrypt": {`{"DestinationKeyId":@KEY,"CiphertextBlob":@BLOB}`,
		`{"SourceKeyId":@KEY,"DestinationKeyId":@OWN,"CiphertextBlob":@ALIEN}`,
		`{"SourceKeyId":@KEY,"DestinationKeyId":@KEY,"CiphertextBlob":@ALIEN}`,
		`{"DestinationKeyId":@KEY,"CiphertextBlob":@ALIEN}`,
		`{"DestinationKeyId":@OWN,"CiphertextBlob":@ALIEN}`},
	"ReplicateKey":         {`{"KeyId":@KEY,"ReplicaRegion":"eu-west-1"}`},
	"RetireGrant":          {`{"KeyId":@KEY,"GrantId":"` + strings.Repeat("0", 64) + `"}`},
	"RevokeGrant":          {`{"KeyId":@KEY,"GrantId":"` + strings.Repeat("0", 64) + `"}`},
	"RotateKeyOnDemand":    {`{"KeyId":@KEY}`},
	"ScheduleKeyDeletion":  {`{"KeyId":@KEY}`},
	"Sign":                 {`{"KeyId":@KEY,"Message":"eA==","SigningAlgorithm":"RSASSA_PSS_SHA_256"}`},
	"TagResource":          {`{"KeyId":@KEY,"Tags":[{"TagKey":"a","TagValue":"b"}]}`},
	"UntagResource":        {`{"KeyId":@KEY,"TagKeys":["a"]}`},
	"UpdateAlias":          {`{"TargetKeyId":@KEY,"AliasName":"alias/own"}`},
	"UpdateKeyDescription": {`{"KeyId":@KEY,"Description":"x"}`},
	"UpdatePrimaryRegion":  {`{"KeyId":@KEY,"PrimaryRegion":"eu-west-1"}`},
	"Verify": {
		`{"KeyId":@KEY,"Message":"eA==","SigningAlgorithm":"RSASSA_PSS_SHA_256","Signature":"eA=="}`},
	"VerifyMac": {`{"KeyId":@KEY,"Message":"eA==","MacAlgorithm":"HMAC_SHA_256","Mac":"eA=="}`},
}

// TestSecrecy: whatever a caller of another account sends, and whatever its own policies ask of the
// key, a key or alias that is there answers as one that is not.
func TestSecrecy(t *testing.T) {
	s := newServer(t, options{})
	wantAllOnKeys(t)
	const absentID, absentAlias = "12345678-1234-4234-8234-123456789012", "alias/absent00"
	owner := func(in kms.CreateKeyInput) string {
		in.Tags = []types.Tag{{TagKey: aws.String("color"), TagValue: aws.String("blue")}}
		out, err := s.CreateKey(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		return *out.KeyMetadata.KeyId
	}
	denying := keyPolicy(statement{Effect: "Deny", Principal: "*",
		Condition: map[string]any{"StringNotEquals": map[string]string{"aws:PrincipalAccount": account}}})
	keys := map[string]string{
		"plain":   owner(kms.CreateKeyInput{}),
		"denying": owner(kms.CreateKeyInput{Policy: &denying}),
		"signing": owner(kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify}),
		"pending": owner(kms.CreateKeyInput{Origin: types.OriginTypeExternal}),
	}
	// as long as the absent one
	alias := func(name string) string { return "alias/" + name + strings.Repeat("x", 8-len(name)) }
	for name, id := range keys {
		if _, err := s.CreateAlias(t.Context(),
			&kms.CreateAliasInput{AliasName: aws.String(alias(name)), TargetKeyId: &id}); err != nil {
			t.Fatal(err)
		}
	}
	callers := map[string]*person{
		"root":    s.root(t, otherAccount),
		"nothing": s.user(t, otherAccount, "nothing"),
		"all":     s.user(t, otherAccount, "all", identityPolicy("kms:*")),
		"forbidden": s.user(t, otherAccount, "forbidden", identityPolicy("kms:*"),
			document(statement{Effect: "Deny", Resource: "arn:*:" + account + ":key/*"})),
		"comparing": s.user(t, otherAccount, "comparing", identityPolicy("kms:*"),
			document(statement{Effect: "Deny", Action: "kms:ReEncryptTo", Resource: "*",
				Condition: map[string]any{"Bool": map[string]string{"kms:ReEncryptOnSameKey": "true"}}},
				statement{Effect: "Deny", Action: "kms:ReEncryptFrom", Resource: "*",
					Condition: map[string]any{"Bool": map[string]string{"kms:ReEncryptOnSameKey": "true"}}})),
		"counting": s.user(t, otherAccount, "counting", identityPolicy("kms:*"),
			document(statement{Effect: "Deny", Action: "kms:ReEncryptFrom", Resource: "*",
				Condition: map[string]any{"Null": map[string]string{"kms:ReEncryptOnSameKey": "false"}}})),
		"curious": s.user(t, otherAccount, "curious", identityPolicy("kms:*"),
			document(statement{Effect: "Deny", Resource: "*",
				Condition: map[string]any{"StringEquals": map[string]string{"aws:ResourceTag/color": "blue"}}},
				statement{Effect: "Deny", Resource: "*",
					Condition: map[string]any{"StringEquals": map[string]string{"kms:KeySpec": "ECC_NIST_P256"}}},
				statement{Effect: "Deny", Resource: "*",
					Condition: map[string]any{
						"ForAnyValue:StringLike": map[string]string{"kms:ResourceAliases": "alias/*"}}})),
	}
	own, err := callers["root"].CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := callers["root"].CreateAlias(t.Context(),
		&kms.CreateAliasInput{AliasName: aws.String("alias/own"), TargetKeyId: own.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	blob, err := callers["root"].Encrypt(t.Context(),
		&kms.EncryptInput{KeyId: own.KeyMetadata.KeyId, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String(keys["plain"]), Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	body := func(template, name, id string) string {
		alien := append([]byte(nil), sealed.CiphertextBlob...)
		raw, err := hex.DecodeString(strings.ReplaceAll(id, "-", ""))
		if err != nil {
			t.Fatal(err)
		}
		copy(alien[3:19], raw)
		return strings.NewReplacer("@KEY", `"`+name+`"`, "@OWN", `"`+*own.KeyMetadata.KeyId+`"`, "@BLOB",
			quoted(blob.CiphertextBlob), "@ALIEN", quoted(alien)).Replace(template)
	}
	forms := map[string]func(id, alias string) string{
		"id":        func(id, _ string) string { return id },
		"ARN":       func(id, _ string) string { return "arn:verenc:" + account + ":key/" + id },
		"AWS ARN":   func(id, _ string) string { return "arn:aws:kms:" + region + ":" + account + ":key/" + id },
		"alias ARN": func(_, alias string) string { return "arn:aws:kms:" + region + ":" + account + ":" + alias },
	}
	for who, caller := range callers {
		t.Run(who, func(t *testing.T) {
			for operation, templates := range onKeys {
				for _, template := range templates {
					for form, name := range forms {
						absentStatus, absent := s.post(t, caller.Secret, operation,
							body(template, name(absentID, absentAlias), absentID))
						absent = strings.NewReplacer(absentID, "ID", absentAlias, "ALIAS").Replace(absent)
						noAlias := form == "alias ARN" &&
							(strings.Contains(absent, "InvalidArnException") ||
								strings.Contains(absent, "Aliases must refer to keys"))
						if !strings.Contains(absent, "AccessDeniedException") &&
							!strings.Contains(absent, "NotFoundException") && !noAlias {
							t.Errorf("%s %s by %s: %s", operation, template, form, absent)
						}
						for key, id := range keys {
							status, there := s.post(t, caller.Secret, operation,
								body(template, name(id, alias(key)), id))
							there = strings.NewReplacer(id, "ID", alias(key), "ALIAS").Replace(there)
							if status != absentStatus || there != absent {
								t.Errorf("%s %s by %s, %s key:\n  %d %s\nabsent:\n  %d %s", operation, template, form,
									key, status, there, absentStatus, absent)
							}
						}
					}
				}
			}
		})
	}
}

func quoted(b []byte) string { return fmt.Sprintf("%q", base64.StdEncoding.EncodeToString(b)) }

// wantAllOnKeys expects a request for every operation that takes a key.
func wantAllOnKeys(t *testing.T) {
	t.Helper()
	for _, name := range service.OperationNames() {
		if len(service.OperationNamed(name).KeyMembers()) > 0 && onKeys[name] == nil {
			t.Errorf("no request of %s", name)
		}
	}
}
