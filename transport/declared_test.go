package transport_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
)

// declared are the errors that AWS declares (API Reference, "Errors" of each operation), without
// "Exception" and without those of external key stores (Xks...), which this service has not.
const declared = `
CancelKeyDeletion NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState
ConnectCustomKeyStore CloudHsmClusterNotActive CustomKeyStoreInvalidState CustomKeyStoreNotFound KMSInternal CloudHsmClusterInvalidConfiguration
CreateAlias DependencyTimeout AlreadyExists NotFound InvalidAliasName KMSInternal LimitExceeded KMSInvalidState
CreateCustomKeyStore CloudHsmClusterInUse CustomKeyStoreNameInUse CloudHsmClusterNotFound KMSInternal CloudHsmClusterNotActive IncorrectTrustAnchor CloudHsmClusterInvalidConfiguration LimitExceeded
CreateGrant NotFound Disabled DependencyTimeout InvalidArn KMSInternal InvalidGrantToken LimitExceeded KMSInvalidState DryRunOperation
CreateKey MalformedPolicyDocument DependencyTimeout InvalidArn UnsupportedOperation KMSInternal LimitExceeded Tag CustomKeyStoreNotFound CustomKeyStoreInvalidState CloudHsmClusterInvalidConfiguration
Decapsulate NotFound Disabled KeyUnavailable DependencyTimeout InvalidCiphertext InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
Decrypt NotFound Disabled InvalidCiphertext KeyUnavailable IncorrectKey InvalidKeyUsage DependencyTimeout InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
DeleteAlias DependencyTimeout NotFound KMSInternal KMSInvalidState
DeleteCustomKeyStore CustomKeyStoreHasCMKs CustomKeyStoreInvalidState CustomKeyStoreNotFound KMSInternal
DeleteImportedKeyMaterial InvalidArn UnsupportedOperation DependencyTimeout NotFound KMSInternal KMSInvalidState
DeriveSharedSecret NotFound Disabled KeyUnavailable DependencyTimeout InvalidGrantToken InvalidKeyUsage KMSInternal KMSInvalidState DryRunOperation
DescribeCustomKeyStores CustomKeyStoreNotFound InvalidMarker KMSInternal
DescribeKey NotFound InvalidArn DependencyTimeout KMSInternal
DisableKey NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState
DisableKeyRotation NotFound Disabled InvalidArn DependencyTimeout KMSInternal KMSInvalidState UnsupportedOperation
DisconnectCustomKeyStore CustomKeyStoreInvalidState CustomKeyStoreNotFound KMSInternal
EnableKey NotFound InvalidArn DependencyTimeout KMSInternal LimitExceeded KMSInvalidState
EnableKeyRotation NotFound Disabled InvalidArn DependencyTimeout KMSInternal KMSInvalidState UnsupportedOperation
Encapsulate NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
Encrypt NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
GenerateDataKey NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
GenerateDataKeyPair NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState UnsupportedOperation DryRunOperation
GenerateDataKeyPairWithoutPlaintext NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState UnsupportedOperation DryRunOperation
GenerateDataKeyWithoutPlaintext NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
GenerateMac NotFound Disabled KeyUnavailable InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
GenerateRandom DependencyTimeout KMSInternal UnsupportedOperation CustomKeyStoreNotFound CustomKeyStoreInvalidState
GetKeyLastUsage NotFound InvalidArn DependencyTimeout KMSInternal
GetKeyPolicy NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState
GetKeyRotationStatus NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState UnsupportedOperation
GetParametersForImport InvalidArn UnsupportedOperation DependencyTimeout NotFound KMSInternal KMSInvalidState
GetPublicKey NotFound Disabled KeyUnavailable DependencyTimeout UnsupportedOperation InvalidArn InvalidGrantToken InvalidKeyUsage KMSInternal KMSInvalidState
ImportKeyMaterial InvalidArn UnsupportedOperation DependencyTimeout NotFound KMSInternal KMSInvalidState InvalidCiphertext IncorrectKeyMaterial ExpiredImportToken InvalidImportToken
ListAliases DependencyTimeout InvalidMarker KMSInternal InvalidArn NotFound
ListGrants NotFound DependencyTimeout InvalidMarker InvalidGrantId InvalidArn KMSInternal KMSInvalidState
ListKeyPolicies NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState
ListKeyRotations NotFound InvalidArn InvalidMarker KMSInternal KMSInvalidState UnsupportedOperation
ListKeys DependencyTimeout KMSInternal InvalidMarker
ListResourceTags KMSInternal NotFound InvalidArn InvalidMarker
ListRetirableGrants DependencyTimeout InvalidMarker InvalidArn NotFound KMSInternal
PutKeyPolicy NotFound InvalidArn MalformedPolicyDocument DependencyTimeout UnsupportedOperation KMSInternal LimitExceeded KMSInvalidState
ReEncrypt NotFound Disabled InvalidCiphertext KeyUnavailable IncorrectKey DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
ReplicateKey AlreadyExists Disabled InvalidArn KMSInvalidState KMSInternal LimitExceeded MalformedPolicyDocument NotFound Tag UnsupportedOperation
RetireGrant InvalidArn InvalidGrantToken InvalidGrantId NotFound DependencyTimeout KMSInternal KMSInvalidState DryRunOperation
RevokeGrant NotFound DependencyTimeout InvalidArn InvalidGrantId KMSInternal KMSInvalidState DryRunOperation
RotateKeyOnDemand NotFound Disabled InvalidArn DependencyTimeout KMSInternal KMSInvalidState UnsupportedOperation LimitExceeded Conflict
ScheduleKeyDeletion NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState
Sign NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState DryRunOperation
TagResource KMSInternal NotFound InvalidArn KMSInvalidState LimitExceeded Tag
UntagResource KMSInternal NotFound InvalidArn KMSInvalidState Tag
UpdateAlias DependencyTimeout NotFound KMSInternal LimitExceeded KMSInvalidState
UpdateCustomKeyStore CustomKeyStoreNotFound CustomKeyStoreNameInUse CloudHsmClusterNotFound CloudHsmClusterNotRelated CustomKeyStoreInvalidState KMSInternal CloudHsmClusterNotActive CloudHsmClusterInvalidConfiguration
UpdateKeyDescription NotFound InvalidArn DependencyTimeout KMSInternal KMSInvalidState
UpdatePrimaryRegion Disabled InvalidArn KMSInvalidState KMSInternal NotFound UnsupportedOperation
Verify NotFound Disabled KeyUnavailable DependencyTimeout InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidState KMSInvalidSignature DryRunOperation
VerifyMac NotFound Disabled KeyUnavailable InvalidKeyUsage InvalidGrantToken KMSInternal KMSInvalidMac KMSInvalidState DryRunOperation
`

// Why a declared error does not occur here.
const (
	noCluster   = "a cluster is a PKCS#11 token of the configuration, and has no state or configuration that AWS means"
	everyState  = "AWS's table of key states has none in which the operation fails"
	malformed   = "for an ARN that can't be read AWS sends NotFoundException (Invalid arn), and the operation takes aliases"
	publicOnly  = "the public key is in the store: the token is not asked"
	tooManyTags = "AWS sends TagException (Too many tags)"
)

// notHere are the declared errors that don't occur here.
var notHere = map[string]string{
	"ConnectCustomKeyStore CloudHsmClusterNotActive":            noCluster,
	"ConnectCustomKeyStore CloudHsmClusterInvalidConfiguration": noCluster,
	"CreateCustomKeyStore CloudHsmClusterNotActive":             noCluster,
	"CreateCustomKeyStore CloudHsmClusterInvalidConfiguration":  noCluster,
	"CreateKey CloudHsmClusterInvalidConfiguration":             noCluster,
	"UpdateCustomKeyStore CloudHsmClusterNotActive":             noCluster,
	"UpdateCustomKeyStore CloudHsmClusterInvalidConfiguration":  noCluster,
	"DeleteAlias KMSInvalidState":                               everyState,
	"GetKeyPolicy KMSInvalidState":                              everyState,
	"GetKeyRotationStatus KMSInvalidState":                      everyState,
	"ListGrants KMSInvalidState":                                everyState,
	"ListKeyPolicies KMSInvalidState":                           everyState,
	"ListKeyRotations KMSInvalidState":                          everyState,
	"PutKeyPolicy KMSInvalidState":                              everyState,
	"RetireGrant KMSInvalidState":                               everyState,
	"RevokeGrant KMSInvalidState":                               everyState,
	"DescribeKey InvalidArn":                                    malformed,
	"GetPublicKey InvalidArn":                                   malformed,
	"CreateKey InvalidArn":                                      "a policy with a malformed ARN is a MalformedPolicyDocumentException",
	"GetPublicKey KeyUnavailable":                               publicOnly,
	"GetPublicKey InvalidKeyUsage":                              "asymmetric keys of every usage have a public key; the others get UnsupportedOperationException",
	"EnableKey LimitExceeded":                                   "there is no quota of enabled keys",
	"TagResource LimitExceeded":                                 tooManyTags,
}

func readDeclared() map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(declared)) {
		fields := strings.Fields(line)
		all[fields[0]] = fields[1:]
	}
	return all
}

// provoker makes an operation fail with one code. It returns nil if it does not apply to the
// operation.
type provoker func(f *fixture, t *testing.T, op string) error

// TestEveryDeclaredErrorOfEveryOperation provokes each declared error of each operation.
func TestEveryDeclaredErrorOfEveryOperation(t *testing.T) {
	f := newFixture(t)
	seen := map[string]bool{}
	for op, codes := range readDeclared() {
		for _, code := range codes {
			name := op + " " + code
			if notHere[name] != "" {
				continue
			}
			seen[name] = true
			t.Run(op+"/"+code, func(t *testing.T) {
				provoke := special[name]
				if provoke == nil {
					provoke = general[code]
				}
				if provoke == nil {
					t.Fatal("nothing provokes this error")
				}
				err := provoke(f, t, op)
				wantError(t, err, code+"Exception", "*")
				var api smithy.APIError
				if errors.As(err, &api) && api.ErrorFault() == smithy.FaultUnknown {
					t.Errorf("the SDK does not know %s as an error of %s", code, op)
				}
			})
		}
	}
	for name := range notHere {
		op, code, _ := strings.Cut(name, " ")
		if !slices.Contains(readDeclared()[op], code) {
			t.Errorf("%s is not declared", name)
		}
	}
	for name := range special {
		if !seen[name] {
			t.Errorf("%s is not declared, or does not occur", name)
		}
	}
}

// undeclared are the errors that AWS does not declare, but that occur here, and at AWS too where it sends them.
var undeclared = map[string]string{
	"CreateAlias":                         "NotAuthorized",
	"CreateCustomKeyStore":                "XksProxyUriUnreachable",
	"Decapsulate":                         "UnsupportedOperation",
	"Decrypt":                             "UnsupportedOperation",
	"DeleteAlias":                         "InvalidAliasName NotAuthorized",
	"DeriveSharedSecret":                  "UnsupportedOperation",
	"DescribeKey":                         "InvalidGrantToken",
	"Encapsulate":                         "UnsupportedOperation",
	"Encrypt":                             "LimitExceeded UnsupportedOperation",
	"GenerateDataKey":                     "LimitExceeded UnsupportedOperation",
	"GenerateDataKeyPair":                 "LimitExceeded",
	"GenerateDataKeyPairWithoutPlaintext": "LimitExceeded",
	"GenerateDataKeyWithoutPlaintext":     "LimitExceeded UnsupportedOperation",
	"GenerateMac":                         "UnsupportedOperation",
	"GetParametersForImport":              "LimitExceeded",
	"ImportKeyMaterial":                   "LimitExceeded",
	"ListKeyPolicies":                     "InvalidMarker",
	"ReEncrypt":                           "LimitExceeded UnsupportedOperation",
	"Sign":                                "UnsupportedOperation",
	"UpdateAlias":                         "InvalidAliasName NotAuthorized",
	"UpdateCustomKeyStore":                "CloudHsmClusterInUse XksProxyInvalidConfiguration",
	"Verify":                              "UnsupportedOperation",
	"VerifyMac":                           "UnsupportedOperation",
}

// TestErrorsAreThoseOfTheTable compares what AWS declares with the table of operations.
func TestErrorsAreThoseOfTheTable(t *testing.T) {
	all := readDeclared()
	for _, op := range operationNames() {
		if all[op] == nil {
			t.Errorf("there are no declared errors of %s", op)
		}
		var want []string
		for _, code := range slices.Concat(all[op], strings.Fields(undeclared[op])) {
			if notHere[op+" "+code] == "" {
				want = append(want, code+"Exception")
			}
		}
		for _, code := range service.CommonErrors {
			want = append(want, string(code))
		}
		var got []string
		for _, code := range service.OperationNamed(op).ErrorCodes() {
			got = append(got, string(code))
		}
		slices.Sort(want)
		if want = slices.Compact(want); !slices.Equal(got, want) {
			t.Errorf("%s\n got %v\nwant %v", op, got, want)
		}
	}
}

// with calls the operation with a changed request.
func with(member string, value func(*fixture) any) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in := f.request(op)
		if !set(in, member, value(f)) {
			t.Fatalf("%s has no %s", op, member)
		}
		return invoke(t.Context(), f.Client, op, in)
	}
}

func text(s string) func(*fixture) any { return func(*fixture) any { return &s } }

// withKey calls it for another key.
func withKey(id func(*fixture) string) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in, key := f.request(op), id(f)
		set(in, keyMember(in), &key)
		return invoke(t.Context(), f.Client, op, in)
	}
}

// in calls it while its key is in a state.
func in(state service.KeyState) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in := f.request(op)
		return f.inState(t, f.keyOf(in), state, func() error { return invoke(t.Context(), f.Client, op, in) })
	}
}

// storeFails and tokenFails call it while the store or the token fails.
func storeFails(fault error) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in := f.request(op)
		f.failures.store.Store(&fault)
		defer f.failures.store.Store(nil)
		return invoke(t.Context(), f.Client, op, in)
	}
}

func tokenFails(fault error) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in := f.request(op)
		f.failures.token.Store(&fault)
		defer f.failures.token.Store(nil)
		return invoke(t.Context(), f.Client, op, in)
	}
}

// verifyMuFails verifies with the only algorithm for which the token is asked.
func verifyMuFails(f *fixture, t *testing.T, _ string) error {
	made := f.makeKey(t, kms.CreateKeyInput{KeySpec: types.KeySpecMlDsa44, KeyUsage: types.KeyUsageTypeSignVerify})
	fault := hsm.ErrUnavailable
	f.failures.token.Store(&fault)
	defer f.failures.token.Store(nil)
	_, err := f.Verify(t.Context(), &kms.VerifyInput{KeyId: made.KeyId, Message: make([]byte, 64),
		MessageType: types.MessageTypeExternalMu, Signature: make([]byte, 2420),
		SigningAlgorithm: types.SigningAlgorithmSpecMlDsaShake256})
	return err
}

// general has the provokers that are the same for many operations.
var general = map[string]provoker{
	"NotFound":               withKey(func(*fixture) string { return absentKey }),
	"InvalidArn":             withKey(func(*fixture) string { return "arn:aws:kms:us-east-1:" + account + ":alias/a" }),
	"DependencyTimeout":      storeFails(context.DeadlineExceeded),
	"KMSInternal":            storeFails(errors.New("the disk is on fire")),
	"KMSInvalidState":        in(service.StatePendingDeletion),
	"Disabled":               in(service.StateDisabled),
	"KeyUnavailable":         tokenFails(hsm.ErrUnavailable),
	"InvalidGrantToken":      with("GrantTokens", func(*fixture) any { return []string{"not a token"} }),
	"InvalidMarker":          with("Marker", text("x")),
	"DryRunOperation":        with("DryRun", func(*fixture) any { return aws.Bool(true) }),
	"CustomKeyStoreNotFound": with("CustomKeyStoreId", text("cks-none")),
	"InvalidKeyUsage": func(f *fixture, t *testing.T, op string) error {
		return withKey(func(f *fixture) string {
			if strings.HasSuffix(op, "Mac") {
				return f.symmetric
			}
			return f.mac
		})(f, t, op)
	},
	"UnsupportedOperation":    withKey(func(f *fixture) string { return f.mac }),
	"MalformedPolicyDocument": with("Policy", text("[]")),
	"Tag": with("Tags", func(*fixture) any {
		return []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("1")},
			{TagKey: aws.String("a"), TagValue: aws.String("2")}}
	}),
	"IncorrectKey": func(f *fixture, t *testing.T, op string) error {
		member := map[string]string{"Decrypt": "KeyId", "ReEncrypt": "SourceKeyId"}[op]
		return with(member, func(f *fixture) any { return &f.primary })(f, t, op)
	},
	"InvalidCiphertext": with("CiphertextBlob", func(f *fixture) any {
		changed := slices.Clone(f.sealed)
		changed[len(changed)-1] ^= 1
		return changed
	}),
}

// special has those of one operation.
var special = map[string]provoker{
	"Verify KeyUnavailable":             verifyMuFails,
	"CancelKeyDeletion KMSInvalidState": in(service.StateEnabled),
	"ConnectCustomKeyStore CustomKeyStoreInvalidState": with("CustomKeyStoreId", func(f *fixture) any {
		return &f.keyStore
	}),
	"CreateAlias AlreadyExists":                 with("AliasName", func(f *fixture) any { return f.alias() }),
	"Decrypt InvalidKeyUsage":                   withKey(func(f *fixture) string { return f.rsa }),
	"GetKeyRotationStatus UnsupportedOperation": withKey(func(f *fixture) string { return f.stored }),
	"CreateAlias InvalidAliasName":              with("AliasName", text("alias/")),
	"CreateAlias LimitExceeded":                 withKey(fullOfAliases),
	"CreateCustomKeyStore CloudHsmClusterInUse": with("CloudHsmClusterId", text(cluster(0))),
	"CreateCustomKeyStore CustomKeyStoreNameInUse": func(f *fixture, t *testing.T, op string) error {
		entry := f.connected(t, f.keyStore, types.ConnectionStateTypeConnected)
		return with("CustomKeyStoreName", func(*fixture) any { return entry.CustomKeyStoreName })(f, t, op)
	},
	"CreateCustomKeyStore CloudHsmClusterNotFound": with("CloudHsmClusterId", text("cluster-77777777777")),
	"CreateCustomKeyStore IncorrectTrustAnchor":    with("CloudHsmClusterId", text(clusterOfAnother)),
	"CreateCustomKeyStore LimitExceeded":           insertFails(service.ErrLimit),
	"CreateGrant InvalidArn":                       with("GranteePrincipal", text("arn:aws:iam::"+account+":nobody")),
	"CreateGrant LimitExceeded":                    insertFails(service.ErrLimit),
	"CreateKey UnsupportedOperation": func(f *fixture, t *testing.T, op string) error {
		_, err := f.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecSm2,
			KeyUsage: types.KeyUsageTypeSignVerify})
		return err
	},
	"CreateKey LimitExceeded": tokenFails(hsm.ErrFull),
	"CreateKey CustomKeyStoreNotFound": func(f *fixture, t *testing.T, op string) error {
		_, err := f.CreateKey(t.Context(), &kms.CreateKeyInput{CustomKeyStoreId: aws.String("cks-none"),
			Origin: types.OriginTypeAwsCloudhsm})
		return err
	},
	"CreateKey CustomKeyStoreInvalidState": func(f *fixture, t *testing.T, op string) error {
		f.newSpare()
		_, err := f.CreateKey(t.Context(), &kms.CreateKeyInput{CustomKeyStoreId: &f.spare,
			Origin: types.OriginTypeAwsCloudhsm})
		return err
	},
	"Decapsulate InvalidCiphertext": with("SharedSecretCiphertextBlob", func(f *fixture) any {
		return f.encapsulated[1:]
	}),
	"DeleteAlias NotFound": with("AliasName", text("alias/none")),
	"DeleteCustomKeyStore CustomKeyStoreInvalidState": with("CustomKeyStoreId", func(f *fixture) any {
		return &f.keyStore
	}),
	"DeleteCustomKeyStore CustomKeyStoreHasCMKs": func(f *fixture, t *testing.T, op string) error {
		f.newSpare()
		ok(f.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare}))(t)
		f.connected(t, f.spare, types.ConnectionStateTypeConnected)
		f.makeKey(t, kms.CreateKeyInput{CustomKeyStoreId: &f.spare, Origin: types.OriginTypeAwsCloudhsm})
		ok(f.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare}))(t)
		_, err := f.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &f.spare})
		return err
	},
	"DeleteImportedKeyMaterial KMSInvalidState": in(service.StateUpdating),
	"DescribeCustomKeyStores InvalidMarker": func(f *fixture, t *testing.T, op string) error {
		_, err := f.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{Marker: aws.String("x")})
		return err
	},
	"DisconnectCustomKeyStore CustomKeyStoreInvalidState": func(f *fixture, t *testing.T, op string) error {
		f.newSpare()
		_, err := f.DisconnectCustomKeyStore(t.Context(),
			&kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare})
		return err
	},
	"GenerateDataKeyPair UnsupportedOperation": with("KeyPairSpec", func(*fixture) any {
		return types.DataKeyPairSpecSm2
	}),
	"GenerateDataKeyPairWithoutPlaintext UnsupportedOperation": with("KeyPairSpec", func(*fixture) any {
		return types.DataKeyPairSpecSm2
	}),
	"GenerateRandom UnsupportedOperation": with("Recipient", func(*fixture) any {
		return &types.RecipientInfo{AttestationDocument: []byte("x"),
			KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256}
	}),
	"GenerateRandom CustomKeyStoreInvalidState": func(f *fixture, t *testing.T, op string) error {
		f.newSpare()
		return with("CustomKeyStoreId", func(f *fixture) any { return &f.spare })(f, t, op)
	},
	"ImportKeyMaterial InvalidCiphertext": with("EncryptedKeyMaterial", func(f *fixture) any {
		changed := slices.Clone(f.wrapped)
		changed[len(changed)-1] ^= 1
		return changed
	}),
	"ImportKeyMaterial IncorrectKeyMaterial": importOther,
	"ImportKeyMaterial ExpiredImportToken":   expired,
	"ImportKeyMaterial InvalidImportToken": with("ImportToken", func(*fixture) any {
		return []byte("no token at all, but of some length")
	}),
	"ListGrants InvalidGrantId":         with("GrantId", text("none")),
	"ListRetirableGrants NotFound":      with("RetiringPrincipal", text("arn:aws:iam::444455556666:root")),
	"ListRetirableGrants InvalidArn":    with("RetiringPrincipal", text("arn:aws:s3:::bucket")),
	"PutKeyPolicy LimitExceeded":        with("Policy", text(openPolicy+strings.Repeat(" ", 32768))),
	"PutKeyPolicy UnsupportedOperation": with("PolicyName", text("other")),
	"ReplicateKey AlreadyExists":        withKey(func(f *fixture) string { return f.primary }),
	"ReplicateKey LimitExceeded":        with("Policy", text(openPolicy+strings.Repeat(" ", 32768))),
	"ReplicateKey UnsupportedOperation": withKey(func(f *fixture) string { return f.symmetric }),
	"RetireGrant InvalidGrantId":        with("GrantId", text("none")),
	"RetireGrant InvalidGrantToken": func(f *fixture, t *testing.T, op string) error {
		_, err := f.RetireGrant(t.Context(), &kms.RetireGrantInput{GrantToken: aws.String("none")})
		return err
	},
	"RevokeGrant InvalidGrantId":      with("GrantId", text("none")),
	"RotateKeyOnDemand LimitExceeded": rotation(service.Rotation{OnDemand: 25}),
	"RotateKeyOnDemand Conflict": rotation(
		service.Rotation{PeriodDays: 365, NextAt: time.Now().Add(19 * time.Minute)}),
	"UntagResource Tag":         with("TagKeys", func(*fixture) any { return []string{"AWS:a"} }),
	"UpdateAlias NotFound":      with("AliasName", text("alias/none")),
	"UpdateAlias LimitExceeded": withKey(fullOfAliases),
	"UpdateCustomKeyStore CustomKeyStoreNameInUse": func(f *fixture, t *testing.T, op string) error {
		f.newSpare()
		entry := f.connected(t, f.keyStore, types.ConnectionStateTypeConnected)
		_, err := f.UpdateCustomKeyStore(t.Context(),
			&kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &f.spare, NewCustomKeyStoreName: entry.CustomKeyStoreName})
		return err
	},
	"UpdateCustomKeyStore CloudHsmClusterNotFound": updateSpare(
		kms.UpdateCustomKeyStoreInput{CloudHsmClusterId: aws.String("cluster-77777777777")}),
	"UpdateCustomKeyStore CloudHsmClusterNotRelated": updateSpare(
		kms.UpdateCustomKeyStoreInput{CloudHsmClusterId: aws.String(clusterOfAnother)}),
	"UpdateCustomKeyStore CustomKeyStoreInvalidState": with("KeyStorePassword", text("password")),
	"Verify KMSInvalidSignature":                      with("Message", func(*fixture) any { return []byte("another") }),
	"VerifyMac KMSInvalidMac":                         with("Message", func(*fixture) any { return []byte("another") }),
}

func updateSpare(in kms.UpdateCustomKeyStoreInput) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		f.newSpare()
		in.CustomKeyStoreId = &f.spare
		_, err := f.UpdateCustomKeyStore(t.Context(), &in)
		return err
	}
}

// fullOfAliases makes a key with as many aliases as it can have.
func fullOfAliases(f *fixture) string {
	id, _ := f.newKey(f.t)
	for range 50 {
		ok(f.CreateAlias(f.t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/" + f.name()),
			TargetKeyId: &id}))(f.t)
	}
	return id
}

// insertFails calls it while the store takes no new rows.
func insertFails(fault error) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in := f.request(op)
		f.failures.inserts.Store(&fault)
		defer f.failures.inserts.Store(nil)
		return invoke(t.Context(), f.Client, op, in)
	}
}

// importOther imports material that the key has not had before.
func importOther(f *fixture, t *testing.T, op string) error {
	params := ok(f.GetParametersForImport(t.Context(),
		f.request("GetParametersForImport").(*kms.GetParametersForImportInput)))(t)
	in := f.request(op).(*kms.ImportKeyMaterialInput)
	in.ImportToken, in.EncryptedKeyMaterial = params.ImportToken,
		wrapOAEP(t, params.PublicKey, sha256.New(), make([]byte, 32))
	_, err := f.ImportKeyMaterial(t.Context(), in)
	return err
}

// expired calls it a day later.
func expired(f *fixture, t *testing.T, op string) error {
	in := f.request(op)
	f.age(25 * time.Hour)
	defer f.age(-25 * time.Hour)
	return invoke(t.Context(), f.Client, op, in)
}

// rotation calls it for a key with a rotation of its own.
func rotation(r service.Rotation) provoker {
	return func(f *fixture, t *testing.T, op string) error {
		in := f.request(op)
		if err := f.Store.UpdateKey(t.Context(), region, f.keyOf(in), func(k *service.Key) error {
			k.Rotation = r
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return invoke(t.Context(), f.Client, op, in)
	}
}
