package transport_test

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/softhsm"
)

const (
	absentKey  = "11111111-2222-4333-8444-555555555555"
	openPolicy = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"` + rootUser +
		`"},"Action":"kms:*","Resource":"*"}}`
	grantee  = "arn:aws:iam::" + account + ":role/worker"
	rootUser = "arn:aws:iam::" + account + ":root"
)

// cluster returns the CloudHsmClusterId of a number below 26.
func cluster(n int) string { return "cluster-222222222" + "22" + string(rune('a'+n)) }

const clusterOfAnother = "cluster-33333333333" // with another trust anchor

// openToken is hsm.Open of a token with the PIN of a custom key store.
func openToken(soft softhsm.Token) service.TokenSource {
	return service.TokenSource{Open: func(ctx context.Context, pin string) (service.ClosableToken, error) {
		return hsm.Open(ctx, hsm.Config{Module: soft.Module, Label: soft.Label, Serial: soft.Serial, PIN: pin,
			CallTimeout: time.Minute, GenerateTimeout: 5 * time.Minute})
	}}
}

// fixture is a server with keys of every kind, and a request for every operation.
type fixture struct {
	*server
	t        testing.TB
	failures *failures

	symmetric, rsa, signing, mac, agreeing, primary string // key ids
	encapsulating                                   string
	external                                        string // symmetric, with imported material
	waiting                                         string // EXTERNAL, pending import
	keyStore, stored                                string // a custom key store, connected, and a key in it

	material      []byte // of external
	importToken   []byte // for external
	wrapped       []byte // material, for importToken
	sealed        []byte // by symmetric
	encapsulated  []byte // by encapsulating
	mac256        []byte // of "message" by mac
	signature     []byte // of "message" by signing
	peerPublicKey []byte // P-256

	spareToken      softhsm.Token // of the clusters but the first
	spare           string        // a custom key store in it
	names, clusters int           // drawn so far
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureIn(t, service.ResidencyToken)
}

// newFixtureIn is newFixture with a residency, also of the custom key stores' tokens.
func newFixtureIn(t testing.TB, residency service.Residency) *fixture {
	t.Helper()
	return newFixtureWith(t, residency, options{})
}

// newFixtureWith is newFixtureIn with options for its server.
func newFixtureWith(t testing.TB, residency service.Residency, o options) *fixture {
	t.Helper()
	first, spare := softhsm.New(t), softhsm.New(t)
	f := &fixture{t: t, failures: &failures{}, spareToken: spare}
	o.quantum = true
	change := o.service
	o.service = func(c *service.Config) {
		c.TokenSources = map[string]service.TokenSource{cluster(0): openToken(first)}
		for n := 1; n < 26; n++ {
			c.TokenSources[cluster(n)] = openToken(spare)
		}
		other := openToken(spare)
		other.TrustAnchor = "another anchor"
		c.TokenSources[clusterOfAnother] = other
		c.Residency = residency
		for id, cluster := range c.TokenSources {
			cluster.Residency = residency
			c.TokenSources[id] = cluster
		}
		if change != nil {
			change(c)
		}
		f.failures.install(c)
	}
	f.server = newServer(t, o)
	t.Cleanup(f.endKeyStores)
	ctx := t.Context()
	key := func(in kms.CreateKeyInput) string { return *f.makeKey(t, in).KeyId }
	f.symmetric = key(kms.CreateKeyInput{})
	f.rsa = key(kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt})
	f.signing = key(kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeSignVerify})
	f.mac = key(kms.CreateKeyInput{KeySpec: types.KeySpecHmac256, KeyUsage: types.KeyUsageTypeGenerateVerifyMac})
	f.agreeing = key(kms.CreateKeyInput{KeySpec: types.KeySpecEccNistP256, KeyUsage: types.KeyUsageTypeKeyAgreement})
	f.encapsulating = key(kms.CreateKeyInput{KeySpec: types.KeySpecMlKem768,
		KeyUsage: types.KeyUsageTypeEncapsulateDecapsulate})
	f.primary = key(kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	f.external = key(kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	f.waiting = key(kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	ok(f.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: &f.primary, ReplicaRegion: aws.String(otherRegion)}))(t)

	params := ok(f.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: &f.external,
		WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048}))(t)
	f.material = make([]byte, 32)
	_, _ = rand.Read(f.material)
	f.importToken, f.wrapped = params.ImportToken, wrapOAEP(t, params.PublicKey, sha256.New(), f.material)
	ok(f.ImportKeyMaterial(ctx, f.request("ImportKeyMaterial").(*kms.ImportKeyMaterialInput)))(t)

	f.keyStore = *ok(f.CreateCustomKeyStore(ctx, &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("first"),
		CloudHsmClusterId: aws.String(cluster(0)), KeyStorePassword: &first.PIN,
		TrustAnchorCertificate: aws.String("anchor")}))(t).CustomKeyStoreId
	ok(f.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &f.keyStore}))(t)
	f.connected(t, f.keyStore, types.ConnectionStateTypeConnected)
	f.stored = key(kms.CreateKeyInput{CustomKeyStoreId: &f.keyStore, Origin: types.OriginTypeAwsCloudhsm})

	f.sealed = ok(f.Encrypt(ctx, &kms.EncryptInput{KeyId: &f.symmetric, Plaintext: []byte("message")}))(t).
		CiphertextBlob
	f.encapsulated = ok(f.Encapsulate(ctx, f.request("Encapsulate").(*kms.EncapsulateInput)))(t).
		SharedSecretCiphertextBlob
	f.mac256 = ok(f.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: &f.mac, Message: []byte("message"),
		MacAlgorithm: types.MacAlgorithmSpecHmacSha256}))(t).Mac
	f.signature = ok(f.Sign(ctx, &kms.SignInput{KeyId: &f.signing, Message: []byte("message"),
		SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}))(t).Signature
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if f.peerPublicKey, err = x509.MarshalPKIXPublicKey(peer.PublicKey()); err != nil {
		t.Fatal(err)
	}
	return f
}

// connected waits until a custom key store has left CONNECTING, which takes no longer than the server's own deadline.
func (s *server) connected(t testing.TB, id string, want types.ConnectionStateType) types.CustomKeyStoresListEntry {
	t.Helper()
	for {
		entry := ok(s.DescribeCustomKeyStores(t.Context(),
			&kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &id}))(t).CustomKeyStores[0]
		if entry.ConnectionState == types.ConnectionStateTypeConnecting {
			continue
		}
		if entry.ConnectionState != want {
			t.Fatalf("the key store is %s (%s), not %s", entry.ConnectionState, entry.ConnectionErrorCode, want)
		}
		return entry
	}
}

// name returns a new name.
func (f *fixture) name() string {
	f.names++
	return fmt.Sprintf("name-%d", f.names)
}

func (f *fixture) alias() *string {
	name := "alias/" + f.name()
	ok(f.CreateAlias(f.t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &f.symmetric}))(f.t)
	return &name
}

func (f *fixture) grant() *kms.CreateGrantOutput {
	return ok(f.CreateGrant(f.t.Context(), f.request("CreateGrant").(*kms.CreateGrantInput)))(f.t)
}

// request returns a request that succeeds, after making what it needs.
func (f *fixture) request(op string) any {
	f.t.Helper()
	build, known := requests[op]
	if !known {
		f.t.Fatalf("there is no request for %s", op)
	}
	return build(f)
}

// requests has every operation. It is set by init, since some build on others.
var requests map[string]func(*fixture) any

func init() {
	requests = map[string]func(*fixture) any{
		"CancelKeyDeletion": func(f *fixture) any {
			id, _ := f.newKey(f.t)
			ok(f.ScheduleKeyDeletion(f.t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id}))(f.t)
			return &kms.CancelKeyDeletionInput{KeyId: &id}
		},
		"ConnectCustomKeyStore": func(f *fixture) any {
			f.newSpare()
			return &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare}
		},
		"CreateAlias": func(f *fixture) any {
			return &kms.CreateAliasInput{AliasName: aws.String("alias/" + f.name()), TargetKeyId: &f.symmetric}
		},
		"CreateCustomKeyStore": func(f *fixture) any { return f.keyStoreRequest() },
		"CreateGrant": func(f *fixture) any {
			return &kms.CreateGrantInput{KeyId: &f.symmetric, GranteePrincipal: aws.String(grantee),
				RetiringPrincipal: aws.String(rootUser),
				Operations:        []types.GrantOperation{types.GrantOperationDecrypt}}
		},
		"CreateKey": func(f *fixture) any {
			return &kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}},
				Policy: aws.String(openPolicy)}
		},
		"Decapsulate": func(f *fixture) any {
			return &kms.DecapsulateInput{KeyId: &f.encapsulating,
				EncapsulationAlgorithm:     types.EncapsulationAlgorithmSpecMlKem,
				SharedSecretCiphertextBlob: f.encapsulated}
		},
		"Decrypt":     func(f *fixture) any { return &kms.DecryptInput{CiphertextBlob: f.sealed, KeyId: &f.symmetric} },
		"DeleteAlias": func(f *fixture) any { return &kms.DeleteAliasInput{AliasName: f.alias()} },
		"DeleteCustomKeyStore": func(f *fixture) any {
			f.newSpare()
			return &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &f.spare}
		},
		"DeleteImportedKeyMaterial": func(f *fixture) any {
			return &kms.DeleteImportedKeyMaterialInput{KeyId: &f.waiting}
		},
		"DeriveSharedSecret": func(f *fixture) any {
			return &kms.DeriveSharedSecretInput{KeyId: &f.agreeing,
				KeyAgreementAlgorithm: types.KeyAgreementAlgorithmSpecEcdh, PublicKey: f.peerPublicKey}
		},
		"DescribeCustomKeyStores": func(f *fixture) any {
			return &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: &f.keyStore}
		},
		"DescribeKey": func(f *fixture) any { return &kms.DescribeKeyInput{KeyId: &f.symmetric} },
		"DisableKey": func(f *fixture) any {
			id, _ := f.newKey(f.t)
			return &kms.DisableKeyInput{KeyId: &id}
		},
		"DisableKeyRotation": func(f *fixture) any { return &kms.DisableKeyRotationInput{KeyId: &f.symmetric} },
		"DisconnectCustomKeyStore": func(f *fixture) any {
			f.newSpare()
			ok(f.ConnectCustomKeyStore(f.t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare}))(f.t)
			f.connected(f.t, f.spare, types.ConnectionStateTypeConnected)
			return &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare}
		},
		"EnableKey": func(f *fixture) any { return &kms.EnableKeyInput{KeyId: &f.symmetric} },
		"EnableKeyRotation": func(f *fixture) any {
			return &kms.EnableKeyRotationInput{KeyId: &f.symmetric, RotationPeriodInDays: aws.Int32(90)}
		},
		"Encapsulate": func(f *fixture) any {
			return &kms.EncapsulateInput{KeyId: &f.encapsulating,
				EncapsulationAlgorithm: types.EncapsulationAlgorithmSpecMlKem}
		},
		"Encrypt": func(f *fixture) any { return &kms.EncryptInput{KeyId: &f.symmetric, Plaintext: []byte("message")} },
		"GenerateDataKey": func(f *fixture) any {
			return &kms.GenerateDataKeyInput{KeyId: &f.symmetric, KeySpec: types.DataKeySpecAes256}
		},
		"GenerateDataKeyPair": func(f *fixture) any {
			return &kms.GenerateDataKeyPairInput{KeyId: &f.symmetric, KeyPairSpec: types.DataKeyPairSpecEccNistP256}
		},
		"GenerateDataKeyPairWithoutPlaintext": func(f *fixture) any {
			return &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: &f.symmetric,
				KeyPairSpec: types.DataKeyPairSpecEccNistP256}
		},
		"GenerateDataKeyWithoutPlaintext": func(f *fixture) any {
			return &kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &f.symmetric, KeySpec: types.DataKeySpecAes256}
		},
		"GenerateMac": func(f *fixture) any {
			return &kms.GenerateMacInput{KeyId: &f.mac, Message: []byte("message"),
				MacAlgorithm: types.MacAlgorithmSpecHmacSha256}
		},
		"GenerateRandom": func(f *fixture) any {
			return &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(16), CustomKeyStoreId: &f.keyStore}
		},
		"GetKeyLastUsage": func(f *fixture) any { return &kms.GetKeyLastUsageInput{KeyId: &f.symmetric} },
		"GetKeyPolicy": func(f *fixture) any {
			return &kms.GetKeyPolicyInput{KeyId: &f.symmetric, PolicyName: aws.String("default")}
		},
		"GetKeyRotationStatus": func(f *fixture) any { return &kms.GetKeyRotationStatusInput{KeyId: &f.symmetric} },
		"GetParametersForImport": func(f *fixture) any {
			return &kms.GetParametersForImportInput{KeyId: &f.external,
				WrappingAlgorithm: types.AlgorithmSpecRsaesOaepSha256, WrappingKeySpec: types.WrappingKeySpecRsa2048}
		},
		"GetPublicKey": func(f *fixture) any { return &kms.GetPublicKeyInput{KeyId: &f.signing} },
		"ImportKeyMaterial": func(f *fixture) any {
			return &kms.ImportKeyMaterialInput{KeyId: &f.external, ImportToken: f.importToken,
				EncryptedKeyMaterial: f.wrapped,
				ExpirationModel:      types.ExpirationModelTypeKeyMaterialDoesNotExpire}
		},
		"ListAliases":      func(f *fixture) any { return &kms.ListAliasesInput{KeyId: &f.symmetric} },
		"ListGrants":       func(f *fixture) any { return &kms.ListGrantsInput{KeyId: &f.symmetric} },
		"ListKeyPolicies":  func(f *fixture) any { return &kms.ListKeyPoliciesInput{KeyId: &f.symmetric} },
		"ListKeyRotations": func(f *fixture) any { return &kms.ListKeyRotationsInput{KeyId: &f.symmetric} },
		"ListKeys":         func(f *fixture) any { return &kms.ListKeysInput{} },
		"ListResourceTags": func(f *fixture) any { return &kms.ListResourceTagsInput{KeyId: &f.symmetric} },
		"ListRetirableGrants": func(f *fixture) any {
			return &kms.ListRetirableGrantsInput{RetiringPrincipal: aws.String(rootUser)}
		},
		"PutKeyPolicy": func(f *fixture) any {
			return &kms.PutKeyPolicyInput{KeyId: &f.symmetric, Policy: aws.String(openPolicy),
				PolicyName: aws.String("default")}
		},
		"ReEncrypt": func(f *fixture) any {
			return &kms.ReEncryptInput{CiphertextBlob: f.sealed, SourceKeyId: &f.symmetric,
				DestinationKeyId: &f.symmetric}
		},
		"ReplicateKey": func(f *fixture) any {
			id := *f.makeKey(f.t, kms.CreateKeyInput{MultiRegion: aws.Bool(true)}).KeyId
			return &kms.ReplicateKeyInput{KeyId: &id, ReplicaRegion: aws.String(otherRegion)}
		},
		"RetireGrant": func(f *fixture) any {
			return &kms.RetireGrantInput{KeyId: &f.symmetric, GrantId: f.grant().GrantId}
		},
		"RevokeGrant": func(f *fixture) any {
			return &kms.RevokeGrantInput{KeyId: &f.symmetric, GrantId: f.grant().GrantId}
		},
		"RotateKeyOnDemand": func(f *fixture) any {
			id, _ := f.newKey(f.t)
			return &kms.RotateKeyOnDemandInput{KeyId: &id}
		},
		"ScheduleKeyDeletion": func(f *fixture) any {
			id, _ := f.newKey(f.t)
			return &kms.ScheduleKeyDeletionInput{KeyId: &id}
		},
		"Sign": func(f *fixture) any {
			return &kms.SignInput{KeyId: &f.signing, Message: []byte("message"),
				SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256}
		},
		"TagResource": func(f *fixture) any {
			return &kms.TagResourceInput{KeyId: &f.symmetric,
				Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}}
		},
		"UntagResource": func(f *fixture) any {
			return &kms.UntagResourceInput{KeyId: &f.symmetric, TagKeys: []string{"a"}}
		},
		"UpdateAlias": func(f *fixture) any {
			return &kms.UpdateAliasInput{AliasName: f.alias(), TargetKeyId: &f.symmetric}
		},
		"UpdateCustomKeyStore": func(f *fixture) any {
			return &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: &f.keyStore,
				NewCustomKeyStoreName: aws.String(f.name())}
		},
		"UpdateKeyDescription": func(f *fixture) any {
			return &kms.UpdateKeyDescriptionInput{KeyId: &f.symmetric, Description: aws.String("new")}
		},
		"UpdatePrimaryRegion": func(f *fixture) any {
			in := f.request("ReplicateKey").(*kms.ReplicateKeyInput)
			ok(f.ReplicateKey(f.t.Context(), in))(f.t)
			return &kms.UpdatePrimaryRegionInput{KeyId: in.KeyId, PrimaryRegion: aws.String(otherRegion)}
		},
		"Verify": func(f *fixture) any {
			return &kms.VerifyInput{KeyId: &f.signing, Message: []byte("message"),
				SigningAlgorithm: types.SigningAlgorithmSpecEcdsaSha256, Signature: f.signature}
		},
		"VerifyMac": func(f *fixture) any {
			return &kms.VerifyMacInput{KeyId: &f.mac, Message: []byte("message"),
				MacAlgorithm: types.MacAlgorithmSpecHmacSha256, Mac: f.mac256}
		},
	}
}

// endKeyStores closes the connections as the end of Service.Run does.
func (s *server) endKeyStores() {
	ended, end := context.WithCancel(context.Background())
	end()
	s.Service.Run(ended, 0)
}

// keyStoreRequest gives up the previous spare key store, so that there are never ten.
func (f *fixture) keyStoreRequest() *kms.CreateCustomKeyStoreInput {
	if f.spare != "" { // it may be disconnected, or deleted
		_, _ = f.DisconnectCustomKeyStore(f.t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: &f.spare})
		_, _ = f.DeleteCustomKeyStore(f.t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: &f.spare})
		f.spare = ""
	}
	f.clusters++
	return &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String(f.name()),
		CloudHsmClusterId: aws.String(cluster(f.clusters)),
		KeyStorePassword:  &f.spareToken.PIN, TrustAnchorCertificate: aws.String("anchor")}
}

func (f *fixture) newSpare() {
	f.spare = *ok(f.CreateCustomKeyStore(f.t.Context(), f.keyStoreRequest()))(f.t).CustomKeyStoreId
}

// invoke calls an operation by its name.
func invoke(ctx context.Context, c *kms.Client, op string, in any) error {
	out := reflect.ValueOf(c).MethodByName(op).Call([]reflect.Value{reflect.ValueOf(ctx), reflect.ValueOf(in)})
	err, _ := out[1].Interface().(error)
	return err
}

// set changes a member of a request, if it has it.
func set(in any, member string, value any) bool {
	f := reflect.ValueOf(in).Elem().FieldByName(member)
	if f.IsValid() {
		f.Set(reflect.ValueOf(value))
	}
	return f.IsValid()
}

// keyMember names the member that names the key of a request; empty when it has none.
func keyMember(in any) string {
	for _, member := range []string{"DestinationKeyId", "KeyId", "TargetKeyId"} {
		if f := reflect.ValueOf(in).Elem().FieldByName(member); f.IsValid() && !f.IsNil() {
			return member
		}
	}
	return ""
}

// TestEveryOperation calls each once, with success, in both residencies.
func TestEveryOperation(t *testing.T) {
	for _, residency := range []service.Residency{service.ResidencyToken, service.ResidencyWrapped} {
		f := newFixtureIn(t, residency)
		for _, op := range operationNames() {
			t.Run(string(residency)+"/"+op, func(t *testing.T) {
				if err := invoke(t.Context(), f.Client, op, f.request(op)); err != nil {
					t.Error(err)
				}
			})
		}
		f.checkResidency(t, residency)
	}
}

// checkResidency looks where the fixture's keys are: with residency wrapped, only imported ones are in the token.
func (f *fixture) checkResidency(t *testing.T, residency service.Residency) {
	t.Helper()
	for name, id := range map[string]string{"symmetric": f.symmetric, "rsa": f.rsa, "signing": f.signing, "mac": f.mac,
		"agreeing": f.agreeing,
		"primary":  f.primary, "external": f.external} {
		objects := len(f.objectsOf(t, id))
		if (objects == 0) != (residency == service.ResidencyWrapped && id != f.external) {
			t.Errorf("%s, residency %s: %d token objects", name, residency, objects)
		}
	}
}

// operationNames are those of the SDK's client, which the table of operations is compared with elsewhere.
func operationNames() (names []string) {
	client := reflect.TypeFor[*kms.Client]()
	for m := range client.Methods() {
		if m.Type.NumIn() == 4 && m.Type.In(1) == reflect.TypeFor[context.Context]() && m.Type.NumOut() == 2 {
			names = append(names, m.Name)
		}
	}
	return names
}
