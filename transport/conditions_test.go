package transport_test

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/service/iam"
)

// act sends a request about a key.
type act func(t *testing.T, c *kms.Client, key string) error

func encrypting(context map[string]string) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"),
			EncryptionContext: context})
		return err
	}
}

func encryptingBy(algorithm types.EncryptionAlgorithmSpec) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x"),
			EncryptionAlgorithm: algorithm})
		return err
	}
}

func decryptingBy(algorithm types.EncryptionAlgorithmSpec) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.Decrypt(t.Context(), &kms.DecryptInput{KeyId: &key, CiphertextBlob: make([]byte, 256),
			EncryptionAlgorithm: algorithm})
		return err
	}
}

func describing(t *testing.T, c *kms.Client, key string) error { return describeWith(t, c, key) }

func creating(in kms.CreateKeyInput) act {
	return func(t *testing.T, c *kms.Client, _ string) error {
		_, err := c.CreateKey(t.Context(), &in)
		return err
	}
}

func granting(change func(*kms.CreateGrantInput)) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		in := kms.CreateGrantInput{KeyId: &key, GranteePrincipal: aws.String(iamARN(account, "user/bob")),
			Operations: []types.GrantOperation{"Decrypt"}}
		change(&in)
		_, err := c.CreateGrant(t.Context(), &in)
		return err
	}
}

func signing(algorithm types.SigningAlgorithmSpec, form types.MessageType) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.Sign(t.Context(), &kms.SignInput{KeyId: &key, Message: make([]byte, 32), MessageType: form,
			SigningAlgorithm: algorithm})
		return err
	}
}

func pairOf(spec types.DataKeyPairSpec) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.GenerateDataKeyPairWithoutPlaintext(t.Context(),
			&kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &key, KeyPairSpec: spec})
		return err
	}
}

func parameters(algorithm types.AlgorithmSpec, spec types.WrappingKeySpec) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.GetParametersForImport(t.Context(),
			&kms.GetParametersForImportInput{KeyId: &key, WrappingAlgorithm: algorithm, WrappingKeySpec: spec})
		return err
	}
}

func importing(model types.ExpirationModelType, validTo *time.Time) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.ImportKeyMaterial(t.Context(),
			&kms.ImportKeyMaterialInput{KeyId: &key, ImportToken: []byte("x"), EncryptedKeyMaterial: []byte("x"),
				ExpirationModel: model, ValidTo: validTo})
		return err
	}
}

func tagging(keys ...string) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.TagResource(t.Context(), &kms.TagResourceInput{KeyId: &key, Tags: tags(keys...)})
		return err
	}
}

func tags(keys ...string) (all []types.Tag) {
	for _, k := range keys {
		all = append(all, types.Tag{TagKey: aws.String(k), TagValue: aws.String("blue")})
	}
	return all
}

func reencrypting(toItself bool) act {
	return func(t *testing.T, c *kms.Client, key string) error {
		sealed, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &key, Plaintext: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		to := key
		if !toItself {
			made, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{})
			if err != nil {
				t.Fatal(err)
			}
			to = *made.KeyMetadata.KeyId
		}
		_, err = c.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob,
			DestinationKeyId: &to})
		return err
	}
}

// TestConditionKeys: each condition key lets one request through and not another, which differs in it alone.
func TestConditionKeys(t *testing.T) {
	s := newServer(t, options{})
	var (
		symmetric  = kms.CreateKeyInput{}
		external   = kms.CreateKeyInput{Origin: types.OriginTypeExternal}
		rsa        = kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt}
		rsaSigning = kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeSignVerify}
		hmac       = kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac}
		agreement  = kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement}
		multi      = kms.CreateKeyInput{MultiRegion: aws.Bool(true)}
		tagged     = kms.CreateKeyInput{Tags: tags("color")}
	)
	now := s.Now()
	soon, late := now.Add(24*time.Hour), now.Add(100*24*time.Hour)
	someone := iamARN(account, "user/alice")
	mac := func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.GenerateMac(t.Context(), &kms.GenerateMacInput{KeyId: &key, Message: []byte("x"),
			MacAlgorithm: types.MacAlgorithmSpecHmacSha256})
		return err
	}
	agree := func(t *testing.T, c *kms.Client, key string) error {
		public, err := c.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &key})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.DeriveSharedSecret(t.Context(),
			&kms.DeriveSharedSecretInput{KeyId: &key, KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh,
				PublicKey: public.PublicKey})
		return err
	}
	rotating := func(days int32) act {
		return func(t *testing.T, c *kms.Client, key string) error {
			_, err := c.EnableKeyRotation(t.Context(),
				&kms.EnableKeyRotationInput{KeyId: &key, RotationPeriodInDays: &days})
			return err
		}
	}
	scheduling := func(days int32) act {
		return func(t *testing.T, c *kms.Client, key string) error {
			_, err := c.ScheduleKeyDeletion(t.Context(),
				&kms.ScheduleKeyDeletionInput{KeyId: &key, PendingWindowInDays: &days})
			return err
		}
	}
	replicating := func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.ReplicateKey(t.Context(),
			&kms.ReplicateKeyInput{KeyId: &key, ReplicaRegion: aws.String(otherRegion)})
		return err
	}
	promoting := func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.UpdatePrimaryRegion(t.Context(),
			&kms.UpdatePrimaryRegionInput{KeyId: &key, PrimaryRegion: aws.String(otherRegion)})
		return err
	}
	putting := func(bypass bool) act {
		return func(t *testing.T, c *kms.Client, key string) error {
			_, err := c.PutKeyPolicy(t.Context(),
				&kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(keyPolicy()),
					BypassPolicyLockoutSafetyCheck: bypass})
			return err
		}
	}
	untagging := func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.UntagResource(t.Context(), &kms.UntagResourceInput{KeyId: &key, TagKeys: []string{"color"}})
		return err
	}
	listingGrants := func(t *testing.T, c *kms.Client, key string) error {
		_, err := c.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: &key})
		return err
	}
	byAlias := func(t *testing.T, c *kms.Client, key string) error { return encrypting(nil)(t, c, "alias/"+key) }
	constrained := granting(func(in *kms.CreateGrantInput) {
		in.Constraints = &types.GrantConstraints{EncryptionContextSubset: map[string]string{"tenant": "blue"}}
	})
	unconstrained := granting(func(*kms.CreateGrantInput) {})
	toService := granting(func(in *kms.CreateGrantInput) {
		in.GranteePrincipal, in.GranteeServicePrincipal = nil, aws.String("dynamodb.amazonaws.com")
		in.RetiringServicePrincipal = aws.String("rds.amazonaws.com")
		in.Constraints = &types.GrantConstraints{
			SourceArn: aws.String("arn:aws:dynamodb:us-east-1:" + account + ":table/a")}
	})
	retiredBy := granting(func(in *kms.CreateGrantInput) {
		in.RetiringPrincipal = aws.String(iamARN(account, "user/carol"))
	})

	for _, test := range []struct {
		name, key string // condition key, and its operator unless that is StringEquals
		operator  string
		value     string
		of        kms.CreateKeyInput
		yes, no   act    // if empty, it is yes with another value in the policy
		other     string // that value
		code      string // the error of yes when it is allowed
	}{
		{name: "CreateKey", key: "kms:BypassPolicyLockoutSafetyCheck", operator: "Bool", value: "false",
			yes: creating(symmetric), no: creating(kms.CreateKeyInput{BypassPolicyLockoutSafetyCheck: true})},
		{name: "PutKeyPolicy", key: "kms:BypassPolicyLockoutSafetyCheck", operator: "Bool", value: "false",
			yes: putting(false), no: putting(true)},
		{key: "kms:CallerAccount", value: account, yes: describing, other: otherAccount},
		{key: "kms:DataKeyPairSpec", value: "ECC_NIST_P256", yes: pairOf("ECC_NIST_P256"), no: pairOf("ECC_NIST_P384")},
		{name: "default", key: "kms:EncryptionAlgorithm", value: "SYMMETRIC_DEFAULT", yes: encrypting(nil),
			other: "RSAES_OAEP_SHA_256"},
		{name: "Encrypt", key: "kms:EncryptionAlgorithm", value: "RSAES_OAEP_SHA_256", of: rsa,
			yes: encryptingBy("RSAES_OAEP_SHA_256"), no: encryptingBy("RSAES_OAEP_SHA_1")},
		{name: "Decrypt", key: "kms:EncryptionAlgorithm", value: "RSAES_OAEP_SHA_256", of: rsa,
			yes: decryptingBy("RSAES_OAEP_SHA_256"), no: decryptingBy("RSAES_OAEP_SHA_1"),
			code: "InvalidCiphertextException"},
		{key: "kms:EncryptionContext:tenant", value: "blue", yes: encrypting(blue),
			no: encrypting(map[string]string{"tenant": "red"})},
		{name: "none", key: "kms:EncryptionContext:tenant", value: "blue", yes: encrypting(blue), no: encrypting(nil)},
		{name: "CreateGrant", key: "kms:EncryptionContext:tenant", value: "blue", yes: constrained, no: unconstrained},
		{key: "kms:EncryptionContextKeys", operator: "ForAnyValue:StringEquals", value: "tenant", yes: encrypting(blue),
			no: encrypting(map[string]string{"Tenant": "blue"})},
		{name: "CreateGrant", key: "kms:EncryptionContextKeys", operator: "ForAnyValue:StringEquals", value: "tenant",
			yes: constrained, no: unconstrained},
		{key: "kms:ExpirationModel", value: "KEY_MATERIAL_DOES_NOT_EXPIRE", of: external,
			yes: importing("KEY_MATERIAL_DOES_NOT_EXPIRE", nil), no: importing("KEY_MATERIAL_EXPIRES", &soon),
			code: "InvalidImportTokenException"},
		{name: "default", key: "kms:ExpirationModel", value: "KEY_MATERIAL_EXPIRES", of: external,
			yes: importing("", &soon), no: importing("KEY_MATERIAL_DOES_NOT_EXPIRE", nil),
			code: "InvalidImportTokenException"},
		{key: "kms:ValidTo", operator: "DateLessThan", value: now.Add(48 * time.Hour).UTC().Format(time.RFC3339),
			of: external, yes: importing("KEY_MATERIAL_EXPIRES", &soon), no: importing("KEY_MATERIAL_EXPIRES", &late),
			code: "InvalidImportTokenException"},
		{key: "kms:GrantConstraintType", value: "EncryptionContextSubset", yes: constrained, no: unconstrained},
		{key: "kms:GrantConstraintSourceArn", operator: "ArnLike", value: "arn:aws:dynamodb:*:" + account + ":table/*",
			yes: toService, no: unconstrained},
		{name: "CreateGrant", key: "kms:GrantIsForAWSResource", operator: "Bool", value: "false", yes: unconstrained,
			other: "true"},
		{name: "ListGrants", key: "kms:GrantIsForAWSResource", operator: "Bool", value: "false", yes: listingGrants,
			other: "true"},
		{key: "kms:GrantOperations", operator: "ForAllValues:StringEquals", value: "Decrypt", yes: unconstrained,
			no: granting(func(in *kms.CreateGrantInput) {
				in.Operations = []types.GrantOperation{"Decrypt", "Encrypt"}
			})},
		{key: "kms:GranteePrincipal", value: iamARN(account, "user/bob"), yes: unconstrained,
			no: granting(func(in *kms.CreateGrantInput) { in.GranteePrincipal = &someone })},
		{key: "kms:GranteeServicePrincipal", value: "dynamodb.amazonaws.com", yes: toService, no: unconstrained},
		{key: "kms:RetiringPrincipal", value: iamARN(account, "user/carol"), yes: retiredBy, no: unconstrained},
		{key: "kms:RetiringServicePrincipal", value: "rds.amazonaws.com", yes: toService, no: retiredBy},
		{key: "kms:KeyAgreementAlgorithm", value: "ECDH", of: agreement, yes: agree, other: "DH"},
		{key: "kms:MacAlgorithm", value: "HMAC_SHA_256", of: hmac, yes: mac, other: "HMAC_SHA_512"},
		{key: "kms:MessageType", value: "DIGEST", of: rsaSigning, yes: signing("RSASSA_PSS_SHA_256", "DIGEST"),
			no: signing("RSASSA_PSS_SHA_256", "RAW")},
		{name: "default", key: "kms:MessageType", value: "RAW", of: rsaSigning, yes: signing("RSASSA_PSS_SHA_256", ""),
			no: signing("RSASSA_PSS_SHA_256", "DIGEST")},
		{key: "kms:SigningAlgorithm", value: "RSASSA_PSS_SHA_256", of: rsaSigning,
			yes: signing("RSASSA_PSS_SHA_256", "RAW"), no: signing("RSASSA_PKCS1_V1_5_SHA_256", "RAW")},
		{key: "kms:PrimaryRegion", value: otherRegion, of: multi, yes: promoting, other: region,
			code: "NotFoundException"},
		{key: "kms:ReplicaRegion", value: otherRegion, of: multi, yes: replicating, other: region},
		{name: "same", key: "kms:ReEncryptOnSameKey", operator: "Bool", value: "true", yes: reencrypting(true),
			no: reencrypting(false)},
		{name: "another", key: "kms:ReEncryptOnSameKey", operator: "Bool", value: "false", yes: reencrypting(false),
			no: reencrypting(true)},
		{key: "kms:RequestAlias", operator: "StringLike", value: "alias/*", yes: byAlias, no: encrypting(nil)},
		{key: "kms:RotationPeriodInDays", operator: "NumericLessThanEquals", value: "180", yes: rotating(180),
			no: rotating(181)},
		{key: "kms:ScheduleKeyDeletionPendingWindowInDays", operator: "NumericGreaterThan", value: "9",
			yes: scheduling(10), no: scheduling(9)},
		{key: "kms:WrappingAlgorithm", value: "RSAES_OAEP_SHA_256", of: external,
			yes: parameters("RSAES_OAEP_SHA_256", "RSA_2048"), no: parameters("RSAES_OAEP_SHA_1", "RSA_2048")},
		{key: "kms:WrappingKeySpec", value: "RSA_2048", of: external, yes: parameters("RSAES_OAEP_SHA_256", "RSA_2048"),
			no: parameters("RSAES_OAEP_SHA_256", "RSA_3072")},
		{key: "kms:KeyOrigin", value: "AWS_KMS", yes: describing, other: "EXTERNAL"},
		{name: "CreateKey", key: "kms:KeyOrigin", value: "AWS_KMS", yes: creating(symmetric), no: creating(external)},
		{key: "kms:KeySpec", value: "RSA_2048", of: rsa, yes: describing, other: "SYMMETRIC_DEFAULT"},
		{name: "CreateKey", key: "kms:KeySpec", value: "SYMMETRIC_DEFAULT", yes: creating(symmetric),
			no: creating(hmac)},
		{key: "kms:KeyUsage", value: "GENERATE_VERIFY_MAC", of: hmac, yes: describing, other: "ENCRYPT_DECRYPT"},
		{name: "CreateKey", key: "kms:KeyUsage", value: "ENCRYPT_DECRYPT", yes: creating(symmetric),
			no: creating(hmac)},
		{key: "kms:CustomerMasterKeySpec", value: "RSA_2048", of: rsa, yes: describing, other: "SYMMETRIC_DEFAULT"},
		{key: "kms:CustomerMasterKeyUsage", value: "ENCRYPT_DECRYPT", yes: describing, other: "SIGN_VERIFY"},
		{key: "kms:MultiRegion", operator: "Bool", value: "true", of: multi, yes: describing, other: "false"},
		{name: "CreateKey", key: "kms:MultiRegion", operator: "Bool", value: "false", yes: creating(symmetric),
			no: creating(multi)},
		{key: "kms:MultiRegionKeyType", value: "PRIMARY", of: multi, yes: describing, other: "REPLICA"},
		{name: "single", key: "kms:MultiRegionKeyType", operator: "StringNotEqualsIfExists", value: "PRIMARY",
			yes: creating(symmetric), no: creating(multi)},
		{key: "kms:ResourceAliases", operator: "ForAnyValue:StringLike", value: "alias/*", yes: describing,
			other: "alias/no*"},
		{key: "aws:ResourceTag/color", value: "blue", of: tagged, yes: describing, other: "red"},
		{key: "aws:RequestTag/color", value: "blue", yes: tagging("color"), no: tagging("colour")},
		{name: "CreateKey", key: "aws:RequestTag/color", value: "blue", yes: creating(tagged), no: creating(symmetric)},
		{key: "aws:TagKeys", operator: "ForAllValues:StringEquals", value: "color", yes: tagging("color"),
			no: tagging("color", "size")},
		{name: "UntagResource", key: "aws:TagKeys", operator: "ForAnyValue:StringEquals", value: "color",
			yes: untagging, other: "size"},
		{key: "aws:PrincipalTag/team", value: "payments", yes: describing, other: "ads"},
		{key: "aws:PrincipalArn", operator: "ArnEquals", value: someone, yes: describing,
			other: iamARN(account, "user/bob")},
		{key: "aws:PrincipalAccount", value: account, yes: describing, other: otherAccount},
		{key: "aws:PrincipalType", value: "User", yes: describing, other: "AssumedRole"},
		{key: "aws:username", value: "alice", yes: describing, other: "bob"},
		{key: "aws:userid", value: "AIDAALICE", yes: describing, other: "AIDABOB"},
		{key: "aws:ResourceAccount", value: account, yes: describing, other: otherAccount},
		{key: "aws:SourceIp", operator: "IpAddress", value: "127.0.0.0/8", yes: describing, other: "10.0.0.0/8"},
		{key: "aws:CurrentTime", operator: "DateLessThan", value: now.Add(time.Hour).UTC().Format(time.RFC3339),
			yes: describing, other: now.Add(-time.Hour).UTC().Format(time.RFC3339)},
		{key: "aws:EpochTime", operator: "NumericGreaterThan", value: "1700000000", yes: describing,
			other: "99999999999"},
		{key: "aws:SecureTransport", operator: "Bool", value: "false", yes: describing, other: "true"},
		{key: "aws:UserAgent", operator: "StringLike", value: "aws-sdk-go-v2/*", yes: describing, other: "curl/*"},
		{key: "aws:RequestedRegion", value: region, yes: describing, other: otherRegion},
	} {
		if test.operator == "" {
			test.operator = "StringEquals"
		}
		t.Run(test.key+" "+test.name, func(t *testing.T) {
			made, err := s.CreateKey(t.Context(), &test.of)
			if err != nil {
				t.Fatal(err)
			}
			id := *made.KeyMetadata.KeyId
			if _, err := s.CreateAlias(t.Context(),
				&kms.CreateAliasInput{AliasName: aws.String("alias/" + id), TargetKeyId: &id}); err != nil {
				t.Fatal(err)
			}
			alice := func(value string) *kms.Client {
				// What the requests need besides, and what is left when the condition does not hold.
				also := map[string][]string{"kms:ReplicaRegion": {"kms:CreateKey"},
					"kms:ReEncryptOnSameKey":    {"kms:CreateKey", "kms:Encrypt"},
					"kms:KeyAgreementAlgorithm": {"kms:GetPublicKey"}}[test.key]
				return s.principal(t, account, "alice",
					iam.PrincipalDetails{Tags: map[string]string{"team": "payments"}, Policies: named([]string{
						document(statement{Resource: "*",
							Condition: map[string]any{test.operator: map[string]string{test.key: value}}}),
						identityPolicy(append(also, "kms:GenerateRandom")...)})}).Client
			}
			no, value := test.no, test.value
			if no == nil {
				no, value = test.yes, test.other
			}
			wantError(t, no(t, alice(value), id), "AccessDeniedException", "*")
			switch err := test.yes(t, alice(test.value), id); {
			case test.code != "":
				wantError(t, err, test.code, "*")
			case err != nil:
				t.Error(err)
			}
		})
	}
}

// TestReplicaIsNoPrimary: ReplicateKey needs CreateKey in the other region, for a key that is a replica there.
func TestReplicaIsNoPrimary(t *testing.T) {
	s := newServer(t, options{})
	made, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	replicate := func(kind string) error {
		alice := s.user(t, account, "alice", identityPolicy("kms:ReplicateKey"),
			document(statement{Action: "kms:CreateKey", Resource: "*", Condition: map[string]any{
				"StringEquals": map[string]string{"kms:MultiRegionKeyType": kind,
					"aws:RequestedRegion": otherRegion}}}))
		_, err := alice.ReplicateKey(t.Context(),
			&kms.ReplicateKeyInput{KeyId: made.KeyMetadata.KeyId, ReplicaRegion: aws.String(otherRegion)})
		return err
	}
	wantError(t, replicate("PRIMARY"), "AccessDeniedException",
		denial(iamARN(account, "user/alice"), "CreateKey", "*", noPolicy("identity-based", "CreateKey")))
	if err := replicate("REPLICA"); err != nil {
		t.Error(err)
	}
}

// TestTrailingDays: a policy can ask that a key has not been used for a time before it is disabled or deleted.
func TestTrailingDays(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	never, _ := s.newKey(t)
	alice := s.user(t, account, "alice", document(
		statement{Action: []string{"kms:DisableKey", "kms:ScheduleKeyDeletion"}, Resource: "*",
			Condition: map[string]any{"NumericGreaterThanEquals": map[string]string{
				"kms:TrailingDaysWithoutKeyUsage": "30"}}}))
	careless := s.user(t, account, "careless", document(statement{Action: "kms:DisableKey", Resource: "*",
		Condition: map[string]any{"NumericGreaterThanEqualsIfExists": map[string]string{
			"kms:TrailingDaysWithoutKeyUsage": "30"}}}))
	if err := encrypting(nil)(t, s.Client, id); err != nil {
		t.Fatal(err)
	}
	disable := func(p *person, id string) error {
		_, err := s.punctual(p.Secret).DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})
		return err
	}
	schedule := func(p *person, id string) error {
		_, err := s.punctual(p.Secret).ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id})
		return err
	}
	s.advance(30*24*time.Hour - time.Hour)
	wantError(t, disable(alice, id), "AccessDeniedException", "*")
	wantError(t, schedule(alice, id), "AccessDeniedException", "*")
	wantError(t, disable(careless, id), "AccessDeniedException", "*")
	wantError(t, disable(alice, never), "AccessDeniedException", "*")
	if err := disable(careless, never); err != nil {
		t.Error(err)
	}
	s.advance(time.Hour)
	if err := disable(alice, id); err != nil {
		t.Error(err)
	}
	if err := schedule(alice, id); err != nil {
		t.Error(err)
	}
}
