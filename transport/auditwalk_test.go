package transport_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service"
)

// changing matches the operations whose records say that they are not read-only.
var changing = regexp.MustCompile("^(Cancel|Connect|Create|Delete|Disable|Disconnect|Enable|GetParameters|Import|Put|" +
	"Replicate|Retire|Revoke|Rotate|Schedule|Tag|Untag|Update)")

// hidden are members of the SDK's requests and answers that no record may show.
var hidden = []string{"Plaintext", "CiphertextBlob", "Message", "Mac", "Signature", "GrantToken", "GrantTokens",
	"ImportToken", "EncryptedKeyMaterial",
	"KeyStorePassword", "PrivateKeyPlaintext", "PrivateKeyCiphertextBlob", "SharedSecret",
	"SharedSecretCiphertextBlob", "Recipient"}

// secrets returns what a record must not contain of a request or an answer, in the spelling that it
// would have.
func secrets(v any) (found []string) {
	s := reflect.Indirect(reflect.ValueOf(v))
	if s.Kind() != reflect.Struct {
		return nil
	}
	for i := range s.NumField() {
		if !slices.Contains(hidden, s.Type().Field(i).Name) {
			continue
		}
		switch x := s.Field(i).Interface().(type) {
		case []byte:
			if len(x) >= 8 { // fewer may be there by chance
				found = append(found, string(x), base64.StdEncoding.EncodeToString(x), hex.EncodeToString(x))
			}
		case *string:
			if x != nil {
				found = append(found, *x)
			}
		case []string:
			found = append(found, x...)
		}
	}
	return found
}

// checkParameters expects each member of a request that is set and not secret, under its name in
// CloudTrail.
func checkParameters(t *testing.T, in any, got map[string]json.RawMessage) {
	t.Helper()
	s := reflect.Indirect(reflect.ValueOf(in))
	var names []string
	for i := range s.NumField() {
		f := s.Type().Field(i)
		if !f.IsExported() || slices.Contains(hidden, f.Name) || s.Field(i).IsZero() {
			continue
		}
		name := strings.ToLower(f.Name[:1]) + f.Name[1:]
		names = append(names, name)
		var want any
		switch x := s.Field(i).Interface().(type) {
		case []types.Tag:
			tags := make([]map[string]string, len(x))
			for i, tag := range x {
				tags[i] = map[string]string{"tagKey": *tag.TagKey, "tagValue": *tag.TagValue}
			}
			want = tags
		case *types.GrantConstraints:
			want = map[string]any{"encryptionContextSubset": x.EncryptionContextSubset}
		default:
			want = x
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, got[name]) {
			t.Errorf("requestParameters.%s is %s, want %s", name, got[name], text)
		}
	}
	slices.Sort(names)
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, names) {
		t.Errorf("requestParameters has %v, want %v", have, names)
	}
}

// TestEveryOperationHasARecord walks all operations: one record a request, with what an auditor
// wants to know and no secret.
func TestEveryOperationHasARecord(t *testing.T) {
	a := newAudited(t)
	w := &walk{audited: a, t: t, done: map[string]bool{}}
	w.keys()
	w.dataPlane()
	w.asymmetric()
	w.names()
	w.imports()
	w.keyStores()
	w.ends()

	client := reflect.TypeFor[*kms.Client]()
	for i := range client.NumMethod() {
		if m := client.Method(i); m.Type.NumIn() == 4 && strings.HasSuffix(m.Type.In(2).String(), m.Name+"Input") &&
			!w.done[m.Name] {
			t.Errorf("%s was not tried", m.Name)
		}
	}
	for _, method := range []string{"InsertKey", "UpdateKey", "ChangeRelatedKeys", "InsertAlias", "UpdateAlias",
		"DeleteAlias", "InsertGrant", "DeleteGrant",
		"InsertKeyStore", "UpdateKeyStore", "RemoveKeyStore", "InsertWrappingKey"} {
		if a.changed[method] == 0 {
			t.Errorf("no operation came to %s", method)
		}
	}
	a.search(t, append(w.secrets, a.Secret.SecretAccessKey))
	if len(w.secrets) < 60 {
		t.Errorf("only %d secrets were looked for", len(w.secrets))
	}
}

// walk calls the operations one after the other.
type walk struct {
	*audited
	t       *testing.T
	done    map[string]bool
	secrets []string

	id, arn string // a symmetric key
	last    entry
}

// do sends a request, whose type names the operation, and checks its record. Resources are ARNs of keys.
func do[Out any](w *walk, code string, in any, resources ...string) *Out {
	w.t.Helper()
	op := strings.TrimSuffix(reflect.TypeOf(in).Elem().Name(), "Input")
	w.done[op] = true
	var out *Out
	e, err := w.one(w.t, op, func() error {
		results := reflect.ValueOf(w.Client).MethodByName(op).Call(
			[]reflect.Value{reflect.ValueOf(w.t.Context()), reflect.ValueOf(in)})
		out, _ = results[0].Interface().(*Out)
		failure, _ := results[1].Interface().(error)
		return failure
	})
	w.last = e
	switch {
	case code == "" && err != nil:
		w.t.Fatalf("%s: %v", op, err)
	case code != "":
		wantError(w.t, err, code, e.ErrorMessage)
	}
	w.checkShape(w.t, e, op)
	if e.ErrorCode != code || (e.ErrorMessage == "") != (code == "" || code == "InvalidCiphertextException") {
		w.t.Errorf("%s: error %q: %q, want %q", op, e.ErrorCode, e.ErrorMessage, code)
	}
	if e.ReadOnly == changing.MatchString(op) {
		w.t.Errorf("%s: readOnly %v", op, e.ReadOnly)
	}
	if u := e.UserIdentity; u.Type != "Root" || u.PrincipalID != account || u.ARN != "arn:aws:iam::"+account+":root" ||
		u.AccountID != account || u.AccessKeyID != w.Secret.AccessKeyID {
		w.t.Errorf("%s: %+v", op, u)
	}
	for name := range e.AdditionalEventData {
		if !slices.Contains(service.OperationNamed(op).RecordData, name) {
			w.t.Errorf("%s: %s is not among the record's data in the table", op, name)
		}
	}
	checkParameters(w.t, in, e.RequestParameters)
	var got []string
	for _, r := range e.Resources {
		if r.AccountID != account || r.Type != "AWS::KMS::Key" {
			w.t.Errorf("%s: %+v", op, r)
		}
		got = append(got, r.ARN)
	}
	if !slices.Equal(got, resources) {
		w.t.Errorf("%s: resources %v, want %v", op, got, resources)
	}
	w.secrets = append(append(w.secrets, secrets(in)...), secrets(out)...)
	return out
}

// additional checks additionalEventData.
func (w *walk) additional(want map[string]any) {
	w.t.Helper()
	if !maps.Equal(w.last.AdditionalEventData, want) {
		w.t.Errorf("%s: additionalEventData %v, want %v", w.last.EventName, w.last.AdditionalEventData, want)
	}
}

// create creates a key, whose ARN is not known before.
func (w *walk) create(in *kms.CreateKeyInput) (id, arn string) {
	w.t.Helper()
	var out *kms.CreateKeyOutput
	e, err := w.one(w.t, "CreateKey", func() (err error) { out, err = w.CreateKey(w.t.Context(), in); return err })
	if err != nil {
		w.t.Fatal(err)
	}
	w.done["CreateKey"] = true
	w.checkShape(w.t, e, "CreateKey")
	checkParameters(w.t, in, e.RequestParameters)
	if len(e.Resources) != 1 || e.Resources[0].ARN != *out.KeyMetadata.Arn || e.ReadOnly {
		w.t.Errorf("%+v", e)
	}
	return *out.KeyMetadata.KeyId, *out.KeyMetadata.Arn
}

func (w *walk) keys() {
	w.id, w.arn = w.create(&kms.CreateKeyInput{Description: aws.String("first"),
		Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("blue")}}})
	do[kms.DescribeKeyOutput](w, "", &kms.DescribeKeyInput{KeyId: &w.id}, w.arn)
	do[kms.ListKeysOutput](w, "", &kms.ListKeysInput{Limit: aws.Int32(7)})
	do[kms.UpdateKeyDescriptionOutput](w, "",
		&kms.UpdateKeyDescriptionInput{KeyId: &w.id, Description: aws.String("second")}, w.arn)
	do[kms.DisableKeyOutput](w, "", &kms.DisableKeyInput{KeyId: &w.id}, w.arn)
	do[kms.EncryptOutput](w, "DisabledException",
		&kms.EncryptInput{KeyId: &w.id, Plaintext: []byte("of a disabled key")}, w.arn)
	do[kms.EnableKeyOutput](w, "", &kms.EnableKeyInput{KeyId: &w.id}, w.arn)
	do[kms.EnableKeyRotationOutput](w, "", &kms.EnableKeyRotationInput{KeyId: &w.arn,
		RotationPeriodInDays: aws.Int32(180)}, w.arn)
	do[kms.GetKeyRotationStatusOutput](w, "", &kms.GetKeyRotationStatusInput{KeyId: &w.id}, w.arn)
	do[kms.DisableKeyRotationOutput](w, "", &kms.DisableKeyRotationInput{KeyId: &w.id}, w.arn)
	do[kms.RotateKeyOnDemandOutput](w, "", &kms.RotateKeyOnDemandInput{KeyId: &w.id}, w.arn)
	do[kms.ListKeyRotationsOutput](w, "", &kms.ListKeyRotationsInput{KeyId: &w.id}, w.arn)
	do[kms.TagResourceOutput](w, "", &kms.TagResourceInput{KeyId: &w.id,
		Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}}, w.arn)
	do[kms.ListResourceTagsOutput](w, "", &kms.ListResourceTagsInput{KeyId: &w.id}, w.arn)
	do[kms.UntagResourceOutput](w, "", &kms.UntagResourceInput{KeyId: &w.id, TagKeys: []string{"a"}}, w.arn)
	policy := do[kms.GetKeyPolicyOutput](w, "", &kms.GetKeyPolicyInput{KeyId: &w.id}, w.arn).Policy
	do[kms.PutKeyPolicyOutput](w, "", &kms.PutKeyPolicyInput{KeyId: &w.id, Policy: policy}, w.arn)
	do[kms.ListKeyPoliciesOutput](w, "", &kms.ListKeyPoliciesInput{KeyId: &w.id}, w.arn)

	primary, arn := w.create(&kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	do[kms.ReplicateKeyOutput](w, "", &kms.ReplicateKeyInput{KeyId: &primary,
		ReplicaRegion: aws.String(otherRegion)}, arn)
	do[kms.UpdatePrimaryRegionOutput](w, "", &kms.UpdatePrimaryRegionInput{KeyId: &primary,
		PrimaryRegion: aws.String(otherRegion)}, arn)
}

func (w *walk) dataPlane() {
	const sealed, wrapped = 1.0, 2.0
	form := func(form float64, material *string) map[string]any {
		return map[string]any{"ciphertextForm": form, "keyMaterialId": *material}
	}
	made := do[kms.GenerateDataKeyOutput](w, "",
		&kms.GenerateDataKeyInput{KeyId: &w.id, KeySpec: types.DataKeySpecAes256, EncryptionContext: blue}, w.arn)
	w.additional(form(sealed, made.KeyMaterialId))
	hidden := do[kms.GenerateDataKeyWithoutPlaintextOutput](w, "",
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &w.id, NumberOfBytes: aws.Int32(24)}, w.arn)
	w.additional(form(wrapped, hidden.KeyMaterialId))
	do[kms.DecryptOutput](w, "", &kms.DecryptInput{CiphertextBlob: hidden.CiphertextBlob}, w.arn)
	w.additional(form(wrapped, hidden.KeyMaterialId))
	event := w.last.EventID
	used := do[kms.GetKeyLastUsageOutput](w, "", &kms.GetKeyLastUsageInput{KeyId: &w.id}, w.arn)
	if id := used.KeyLastUsage.CloudTrailEventId; id == nil || *id != event {
		w.t.Errorf("CloudTrailEventId is %v, not that of the last use, %s", id, event)
	}
	do[kms.DecryptOutput](w, "InvalidCiphertextException",
		&kms.DecryptInput{CiphertextBlob: made.CiphertextBlob,
			EncryptionContext: map[string]string{"tenant": "red"}}, w.arn)
	w.additional(form(sealed, made.KeyMaterialId))
	do[kms.EncryptOutput](w, "", &kms.EncryptInput{KeyId: &w.id, Plaintext: []byte("the plaintext of a client"),
		EncryptionContext: blue}, w.arn)
	w.additional(form(sealed, made.KeyMaterialId))
	do[kms.EncryptOutput](w, "DryRunOperationException",
		&kms.EncryptInput{KeyId: &w.id, Plaintext: []byte("the plaintext of a dry run"), DryRun: aws.Bool(true)}, w.arn)
	do[kms.EncryptOutput](w, "NotFoundException",
		&kms.EncryptInput{KeyId: aws.String("alias/nobody"), Plaintext: []byte("the plaintext of nobody")})
	do[kms.GenerateRandomOutput](w, "", &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
	do[kms.GenerateDataKeyPairOutput](w, "", &kms.GenerateDataKeyPairInput{KeyId: &w.id,
		KeyPairSpec: types.DataKeyPairSpecEccNistP256}, w.arn)
	do[kms.GenerateDataKeyPairWithoutPlaintextOutput](w, "",
		&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &w.id,
			KeyPairSpec: types.DataKeyPairSpecEccNistP384}, w.arn)

	other, otherARN := w.create(&kms.CreateKeyInput{})
	moved := do[kms.ReEncryptOutput](w, "", &kms.ReEncryptInput{CiphertextBlob: hidden.CiphertextBlob,
		DestinationKeyId: &other, DestinationEncryptionContext: blue}, w.arn, otherARN)
	w.additional(map[string]any{"sourceCiphertextForm": wrapped, "destinationCiphertextForm": sealed,
		"sourceKeyMaterialId": *moved.SourceKeyMaterialId, "destinationKeyMaterialId": *moved.DestinationKeyMaterialId})
}

func (w *walk) asymmetric() {
	rsaID, rsaARN := w.create(&kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048,
		KeyUsage: types.KeyUsageTypeSignVerify})
	message := []byte("the message that is signed")
	signed := do[kms.SignOutput](w, "", &kms.SignInput{KeyId: &rsaID, Message: message,
		SigningAlgorithm: types.SigningAlgorithmSpecRsassaPssSha256}, rsaARN)
	do[kms.VerifyOutput](w, "", &kms.VerifyInput{KeyId: &rsaID, Message: message, Signature: signed.Signature,
		SigningAlgorithm: types.SigningAlgorithmSpecRsassaPssSha256}, rsaARN)
	do[kms.GetPublicKeyOutput](w, "", &kms.GetPublicKeyInput{KeyId: &rsaID}, rsaARN)

	macID, macARN := w.create(&kms.CreateKeyInput{KeySpec: types.KeySpecHmac256,
		KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	mac := do[kms.GenerateMacOutput](w, "", &kms.GenerateMacInput{KeyId: &macID, Message: message,
		MacAlgorithm: types.MacAlgorithmSpecHmacSha256}, macARN)
	do[kms.VerifyMacOutput](w, "", &kms.VerifyMacInput{KeyId: &macID, Message: message, Mac: mac.Mac,
		MacAlgorithm: types.MacAlgorithmSpecHmacSha256}, macARN)

	ecdhID, ecdhARN := w.create(&kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256,
		KeyUsage: types.KeyUsageTypeKeyAgreement})
	public := do[kms.GetPublicKeyOutput](w, "", &kms.GetPublicKeyInput{KeyId: &ecdhID}, ecdhARN).PublicKey
	do[kms.DeriveSharedSecretOutput](w, "", &kms.DeriveSharedSecretInput{KeyId: &ecdhID, PublicKey: public,
		KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh}, ecdhARN)
	do[kms.EncapsulateOutput](w, "InvalidKeyUsageException",
		&kms.EncapsulateInput{KeyId: &ecdhID, EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem}, ecdhARN)
	do[kms.DecapsulateOutput](w, "InvalidKeyUsageException",
		&kms.DecapsulateInput{KeyId: &ecdhID, SharedSecretCiphertextBlob: make([]byte, 800),
			EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem}, ecdhARN)
}

func (w *walk) names() {
	alias := aws.String("alias/trail")
	do[kms.CreateAliasOutput](w, "", &kms.CreateAliasInput{AliasName: alias, TargetKeyId: &w.id}, w.arn)
	do[kms.ListAliasesOutput](w, "", &kms.ListAliasesInput{KeyId: &w.id})
	other, otherARN := w.create(&kms.CreateKeyInput{})
	do[kms.UpdateAliasOutput](w, "", &kms.UpdateAliasInput{AliasName: alias, TargetKeyId: &other}, w.arn, otherARN)
	do[kms.EncryptOutput](w, "", &kms.EncryptInput{KeyId: alias, Plaintext: []byte("by an alias' name")}, otherARN)
	do[kms.DeleteAliasOutput](w, "", &kms.DeleteAliasInput{AliasName: alias}, otherARN)

	grantee := aws.String("arn:aws:iam::" + account + ":user/bob")
	grant := do[kms.CreateGrantOutput](w, "",
		&kms.CreateGrantInput{KeyId: &w.id, GranteePrincipal: grantee, RetiringPrincipal: grantee,
			Operations:  []types.GrantOperation{types.GrantOperationDecrypt},
			Constraints: &types.GrantConstraints{EncryptionContextSubset: blue}, Name: aws.String("for-alice")}, w.arn)
	ofGrant := map[string]any{"grantId": *grant.GrantId}
	w.additional(ofGrant)
	do[kms.ListGrantsOutput](w, "", &kms.ListGrantsInput{KeyId: &w.id}, w.arn)
	do[kms.ListRetirableGrantsOutput](w, "", &kms.ListRetirableGrantsInput{RetiringPrincipal: grantee})
	do[kms.EncryptOutput](w, "", &kms.EncryptInput{KeyId: &w.id, Plaintext: []byte("with a grant token"),
		GrantTokens: []string{*grant.GrantToken}}, w.arn)
	do[kms.RetireGrantOutput](w, "", &kms.RetireGrantInput{GrantToken: grant.GrantToken}, w.arn)
	w.additional(ofGrant)
	do[kms.RevokeGrantOutput](w, "NotFoundException",
		&kms.RevokeGrantInput{KeyId: &w.id, GrantId: grant.GrantId}, w.arn)
	grant = do[kms.CreateGrantOutput](w, "", &kms.CreateGrantInput{KeyId: &w.id, GranteePrincipal: grantee,
		Operations: []types.GrantOperation{types.GrantOperationDecrypt}}, w.arn)
	do[kms.RevokeGrantOutput](w, "", &kms.RevokeGrantInput{KeyId: &w.id, GrantId: grant.GrantId}, w.arn)
}

func (w *walk) imports() {
	id, arn := w.create(&kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	p := do[kms.GetParametersForImportOutput](w, "",
		&kms.GetParametersForImportInput{KeyId: &id, WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256,
			WrappingKeySpec: types.WrappingKeySpecRsa2048}, arn)
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	material := []byte("imported material, of 32 bytes..")
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets = append(w.secrets, string(material))
	do[kms.ImportKeyMaterialOutput](w, "", &kms.ImportKeyMaterialInput{KeyId: &id, ImportToken: p.ImportToken,
		EncryptedKeyMaterial: wrapped,
		ExpirationModel:      types.ExpirationModelTypeKeyMaterialDoesNotExpire}, arn)
	do[kms.DeleteImportedKeyMaterialOutput](w, "", &kms.DeleteImportedKeyMaterialInput{KeyId: &id}, arn)
}

func (w *walk) keyStores() {
	made := do[kms.CreateCustomKeyStoreOutput](w, "",
		&kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("second"),
			CloudHsmClusterId:      aws.String("cluster-aaaabbbbccc"),
			TrustAnchorCertificate: aws.String("-----BEGIN CERTIFICATE-----"),
			KeyStorePassword:       aws.String("the-user-PIN-of-it")})
	do[kms.DescribeCustomKeyStoresOutput](w, "",
		&kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: made.CustomKeyStoreId})
	do[kms.UpdateCustomKeyStoreOutput](w, "",
		&kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: made.CustomKeyStoreId,
			KeyStorePassword: aws.String("another-user-PIN")})
	do[kms.ConnectCustomKeyStoreOutput](w, "", &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: made.CustomKeyStoreId})
	do[kms.DisconnectCustomKeyStoreOutput](w, "",
		&kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: made.CustomKeyStoreId})
	do[kms.DeleteCustomKeyStoreOutput](w, "", &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: made.CustomKeyStoreId})
}

func (w *walk) ends() {
	do[kms.ScheduleKeyDeletionOutput](w, "", &kms.ScheduleKeyDeletionInput{KeyId: &w.id,
		PendingWindowInDays: aws.Int32(7)}, w.arn)
	do[kms.CancelKeyDeletionOutput](w, "", &kms.CancelKeyDeletionInput{KeyId: &w.id}, w.arn)
}
