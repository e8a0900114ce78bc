package transport_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
	"github.com/verenc/kms/softhsm"
)

// TestCustomKeyStores goes through the life of a custom key store, on a token of its own.
func TestCustomKeyStores(t *testing.T) {
	soft, another := softhsm.New(t), softhsm.New(t)
	refused := map[string]error{cluster(3): hsm.ErrUnavailable, cluster(4): errors.New("out of order")}
	s := newServer(t, options{service: func(c *service.Config) {
		c.TokenSources = map[string]service.TokenSource{cluster(1): openToken(soft), cluster(2): openToken(another)}
		for id, err := range refused {
			c.TokenSources[id] = service.TokenSource{
				Open: func(context.Context, string) (service.ClosableToken, error) { return nil, err }}
		}
	}})
	t.Cleanup(s.endKeyStores)
	create := func(name string, n int, password string) *string {
		t.Helper()
		return ok(s.CreateCustomKeyStore(t.Context(),
			&kms.CreateCustomKeyStoreInput{CustomKeyStoreName: &name, CloudHsmClusterId: aws.String(cluster(n)),
				KeyStorePassword: &password, TrustAnchorCertificate: aws.String("anchor"),
				CustomKeyStoreType: types.CustomKeyStoreTypeAwsCloudhsm}))(t).CustomKeyStoreId
	}
	connect := func(id *string, want types.ConnectionStateType) types.CustomKeyStoresListEntry {
		t.Helper()
		ok(s.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id}))(t)
		return s.connected(t, *id, want)
	}
	disconnect := func(id *string) {
		t.Helper()
		ok(s.DisconnectCustomKeyStore(t.Context(), &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: id}))(t)
		s.connected(t, *id, types.ConnectionStateTypeDisconnected)
	}
	id := create("one", 1, soft.PIN)
	entry := s.connected(t, *id, types.ConnectionStateTypeDisconnected)
	if *entry.CustomKeyStoreId != *id || *entry.CustomKeyStoreName != "one" || *entry.CloudHsmClusterId != cluster(1) ||
		*entry.TrustAnchorCertificate != "anchor" ||
		entry.ConnectionErrorCode != "" || entry.CustomKeyStoreType != "AWS_CLOUDHSM" ||
		time.Since(*entry.CreationDate).Abs() > 10*time.Minute || entry.XksProxyConfiguration != nil {
		t.Errorf("%+v", entry)
	}
	in := kms.CreateKeyInput{CustomKeyStoreId: id, Origin: types.OriginTypeAwsCloudhsm}
	_, err := s.CreateKey(t.Context(), &in)
	wantError(t, err, "CustomKeyStoreInvalidStateException", "*")
	connect(id, types.ConnectionStateTypeConnected)
	made := s.makeKey(t, in)
	if *made.CustomKeyStoreId != *id || *made.CloudHsmClusterId != cluster(1) ||
		made.Origin != types.OriginTypeAwsCloudhsm || made.CurrentKeyMaterialId != nil {
		t.Errorf("%+v", made)
	}
	if objects := s.objectsOf(t, *made.KeyId); len(objects) != 0 {
		t.Errorf("the service's own token has %d objects of the key", len(objects))
	}
	sealed := s.sealedBy(t, made.KeyId)
	opens(t, s.Client, sealed)
	without := ok(s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: made.KeyId, KeySpec: "AES_256"}))(t)
	ok(s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: without.CiphertextBlob}))(t)
	ok(s.GenerateRandom(t.Context(), &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32), CustomKeyStoreId: id}))(t)
	_, err = s.GenerateDataKeyPair(t.Context(),
		&kms.GenerateDataKeyPairInput{KeyId: made.KeyId, KeyPairSpec: "ECC_NIST_P256"})
	wantError(t, err, "UnsupportedOperationException", "*")
	_, err = s.EnableKeyRotation(t.Context(), &kms.EnableKeyRotationInput{KeyId: made.KeyId})
	wantError(t, err, "UnsupportedOperationException",
		*made.Arn+" origin is AWS_CLOUDHSM which is not valid for this operation.")
	for name, wrong := range map[string]kms.CreateKeyInput{
		"asymmetric": {CustomKeyStoreId: id, Origin: "AWS_CLOUDHSM", KeySpec: "ECC_NIST_P256",
			KeyUsage: "SIGN_VERIFY"},
		"multi-Region": {CustomKeyStoreId: id, Origin: "AWS_CLOUDHSM", MultiRegion: aws.Bool(true)},
		"external":     {Origin: "EXTERNAL_KEY_STORE", XksKeyId: aws.String("x")},
	} {
		_, err := s.CreateKey(t.Context(), &wrong)
		if err == nil {
			t.Errorf("%s: made", name)
		}
		wantError(t, err, "UnsupportedOperationException", "*")
	}
	for _, wrong := range []kms.CreateKeyInput{{CustomKeyStoreId: id}, {Origin: "AWS_CLOUDHSM"}} {
		_, err := s.CreateKey(t.Context(), &wrong)
		wantError(t, err, "ValidationException", "*")
	}

	ok(s.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: id,
		NewCustomKeyStoreName: aws.String("renamed")}))(t)
	_, err = s.UpdateCustomKeyStore(t.Context(),
		&kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: id, KeyStorePassword: aws.String("another password")})
	wantError(t, err, "CustomKeyStoreInvalidStateException", "*")
	disconnect(id)
	_, err = s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed})
	wantError(t, err, "KMSInvalidStateException", *made.Arn+" is unavailable.")
	_, err = s.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: id})
	wantError(t, err, "CustomKeyStoreHasCMKsException", "*")

	// A wrong password is tried once, and not again.
	ok(s.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: id,
		KeyStorePassword: aws.String("wrong password")}))(t)
	if e := connect(id,
		types.ConnectionStateTypeFailed); e.ConnectionErrorCode != types.ConnectionErrorCodeTypeInvalidCredentials ||
		*e.CustomKeyStoreName != "renamed" {
		t.Errorf("%+v", e)
	}
	_, err = s.ConnectCustomKeyStore(t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: id})
	wantError(t, err, "CustomKeyStoreInvalidStateException", "*")
	disconnect(id)
	ok(s.UpdateCustomKeyStore(t.Context(), &kms.UpdateCustomKeyStoreInput{CustomKeyStoreId: id,
		KeyStorePassword: &soft.PIN}))(t)
	connect(id, types.ConnectionStateTypeConnected)
	opens(t, s.Client, sealed)
	if strings.Contains(s.Log.String(), soft.PIN) || strings.Contains(s.Log.String(), "wrong password") {
		t.Error("the log has the password")
	}

	// A key's deletion needs its key store; then the key store can go.
	ok(s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: made.KeyId,
		PendingWindowInDays: aws.Int32(7)}))(t)
	s.age(7*days + time.Minute)
	s.reconcile(t)
	_, err = s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: made.KeyId})
	wantError(t, err, "NotFoundException", "*")
	disconnect(id)
	ok(s.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: id}))(t)
	_, err = s.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: id})
	wantError(t, err, "CustomKeyStoreNotFoundException", "*")

	for n, code := range map[int]types.ConnectionErrorCodeType{3: types.ConnectionErrorCodeTypeNetworkErrors,
		4: types.ConnectionErrorCodeTypeInternalError} {
		id := create("cluster "+string(code), n, "password")
		if e := connect(id, types.ConnectionStateTypeFailed); e.ConnectionErrorCode != code {
			t.Errorf("%+v", e)
		}
	}
}

func TestDescribeCustomKeyStores(t *testing.T) {
	s := newServer(t, options{service: func(c *service.Config) {
		c.TokenSources = map[string]service.TokenSource{}
		for n := range 11 {
			c.TokenSources[cluster(n)] = service.TokenSource{}
		}
	}})
	create := func(n int) (*kms.CreateCustomKeyStoreOutput, error) {
		return s.CreateCustomKeyStore(t.Context(),
			&kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("store " + cluster(n)),
				CloudHsmClusterId: aws.String(cluster(n)),
				KeyStorePassword:  aws.String("password"), TrustAnchorCertificate: aws.String("anchor")})
	}
	for n := range 10 {
		ok(create(n))(t)
	}
	_, err := create(10)
	wantError(t, err, "LimitExceededException", "*")
	seen := map[string]bool{}
	pages := kms.NewDescribeCustomKeyStoresPaginator(s, &kms.DescribeCustomKeyStoresInput{Limit: aws.Int32(3)})
	count := 0
	for pages.HasMorePages() {
		count++
		for _, entry := range ok(pages.NextPage(t.Context()))(t).CustomKeyStores {
			seen[*entry.CustomKeyStoreName] = true
		}
	}
	if len(seen) != 10 || count != 4 {
		t.Errorf("%d key stores on %d pages", len(seen), count)
	}
	byName := ok(s.DescribeCustomKeyStores(t.Context(),
		&kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: aws.String("store " + cluster(7))}))(t)
	if len(byName.CustomKeyStores) != 1 || *byName.CustomKeyStores[0].CloudHsmClusterId != cluster(7) ||
		byName.Truncated {
		t.Errorf("%+v", byName)
	}
	_, err = s.DescribeCustomKeyStores(t.Context(),
		&kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: aws.String("none")})
	wantError(t, err, "CustomKeyStoreNotFoundException", "*")
	there := s.client(s.Secret, otherRegion)
	out := ok(there.DescribeCustomKeyStores(t.Context(), &kms.DescribeCustomKeyStoresInput{}))(t)
	if len(out.CustomKeyStores) != 0 {
		t.Errorf("%+v", out)
	}
	_, err = there.DescribeCustomKeyStores(t.Context(),
		&kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: byName.CustomKeyStores[0].CustomKeyStoreId})
	wantError(t, err, "CustomKeyStoreNotFoundException", "*")
	for name, in := range map[string]kms.CreateCustomKeyStoreInput{
		"no password": {CloudHsmClusterId: aws.String(cluster(10)), TrustAnchorCertificate: aws.String("anchor")},
		"no cluster":  {KeyStorePassword: aws.String("password"), TrustAnchorCertificate: aws.String("anchor")},
		"no anchor":   {CloudHsmClusterId: aws.String(cluster(10)), KeyStorePassword: aws.String("password")},
	} {
		in.CustomKeyStoreName = &name
		_, err := s.CreateCustomKeyStore(t.Context(), &in)
		wantError(t, err, "ValidationException", "*")
	}
	_, err = s.CreateCustomKeyStore(t.Context(),
		&kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("x"),
			CustomKeyStoreType: types.CustomKeyStoreTypeExternalKeyStore})
	if err == nil || !strings.HasPrefix(err.Error(), "operation error KMS: CreateCustomKeyStore") ||
		!strings.Contains(err.Error(), "Xks") {
		t.Errorf("%v", err)
	}
}
