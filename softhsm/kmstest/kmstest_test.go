package kmstest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/verenc/kms/softhsm/kmstest"
	"github.com/verenc/kms/softhsm/reset"
)

const seed = `
accounts:
  "111122223333":
    users: {app: {}}
    keys:
      eu-central-1:
        11111111-2222-4333-8444-555555555555:
          aliases: [alias/orders]
          grants: [{grantee: "arn:aws:iam::111122223333:user/app", operations: [Decrypt]}]
        21111111-2222-4333-8444-555555555555:
          material: MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
          aliases: [alias/known]
`

// TestNew: servers run beside each other and one after another, each with its own keys.
func TestNew(t *testing.T) {
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			one := kmstest.New(t, kmstest.Account("111122223333"), kmstest.Region("eu-central-1"),
				kmstest.SeedText(seed))
			other := kmstest.New(t)
			client := kms.NewFromConfig(one.Config)
			sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/orders"),
				Plaintext: []byte("message")})
			if err != nil {
				t.Fatal(err)
			}
			opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
			if err != nil || !bytes.Equal(opened.Plaintext, []byte("message")) {
				t.Errorf("%v, %v", opened, err)
			}
			if keys, err := kms.NewFromConfig(other.Config).ListKeys(t.Context(), &kms.ListKeysInput{}); err != nil ||
				len(keys.Keys) != 0 {
				t.Errorf("%v, %v", keys, err)
			}
			who, err := sts.NewFromConfig(one.Config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			if err != nil || aws.ToString(who.Account) != "111122223333" {
				t.Errorf("%v, %v", who, err)
			}
		})
	}
}

// TestReset: whatever clients have done, the seed's keys are back with their material, and later ones are gone.
func TestReset(t *testing.T) {
	server := kmstest.New(t, kmstest.Account("111122223333"), kmstest.Region("eu-central-1"), kmstest.SeedText(seed))
	client, ctx := kms.NewFromConfig(server.Config), t.Context()
	alias := aws.String("alias/known")
	sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: []byte("message")})
	if err != nil {
		t.Fatal(err)
	}
	orders := aws.String("11111111-2222-4333-8444-555555555555")
	for range 2 {
		later, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func() error{
			"rotate": func() error {
				_, err := client.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: orders})
				return err
			},
			"delete": func() error {
				_, err := client.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{
					KeyId: later.KeyMetadata.KeyId})
				return err
			},
			"delete material": func() error {
				_, err := client.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{
					KeyId: sealed.KeyId})
				return err
			},
			"unname": func() error {
				_, err := client.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/orders")})
				return err
			},
		} {
			if err := change(); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		server.Reset(t)
		opened, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
		if err != nil || string(opened.Plaintext) != "message" {
			t.Errorf("%v, %v", opened, err)
		}
		var gone *types.NotFoundException
		_, err = client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: later.KeyMetadata.KeyId})
		if !errors.As(err, &gone) {
			t.Errorf("the later key: %v", err)
		}
		found, err := client.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/orders")})
		if err != nil || aws.ToString(found.KeyMetadata.KeyId) != *orders {
			t.Errorf("%v, %v", found, err)
		}
		grants, err := client.ListGrants(ctx, &kms.ListGrantsInput{KeyId: orders})
		if err != nil || len(grants.Grants) != 1 {
			t.Errorf("%v, %v", grants, err)
		}
		rotations, err := client.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: orders})
		if err != nil || len(rotations.Rotations) != 0 {
			t.Errorf("%v, %v", rotations, err)
		}
	}
}

// TestResetByHTTP: a reset by HTTP is for programs on this machine, and not for web pages.
func TestResetByHTTP(t *testing.T) {
	server := kmstest.New(t)
	asked := http.Header{reset.Header: {"1"}}
	with := func(name, value string) http.Header { return http.Header{reset.Header: {"1"}, name: {value}} }
	for name, test := range map[string]struct {
		method, host string
		header       http.Header
		status       int
	}{
		"reset":          {"POST", "", asked, http.StatusNoContent},
		"localhost":      {"POST", "localhost:8600", asked, http.StatusNoContent},
		"GET":            {"GET", "", asked, http.StatusMethodNotAllowed},
		"preflight":      {"OPTIONS", "", http.Header{"Origin": {"https://example.com"}}, http.StatusMethodNotAllowed},
		"form":           {"POST", "", nil, http.StatusForbidden},
		"script":         {"POST", "", with("Origin", server.URL), http.StatusForbidden},
		"fetch":          {"POST", "", with("Sec-Fetch-Site", "same-origin"), http.StatusForbidden},
		"rebound name":   {"POST", "evil.example.com", asked, http.StatusForbidden},
		"another's name": {"POST", "localhost.example.com:8600", asked, http.StatusForbidden},
	} {
		r, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+reset.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if r.Host = test.host; test.header != nil {
			r.Header = test.header
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(resp.Body)
		if errors.Join(err, resp.Body.Close()) != nil || resp.StatusCode != test.status {
			t.Errorf("%s: %s, want %d: %s", name, resp.Status, test.status, said)
		}
	}
}

// TestNewFails: what is wrong with a seed is told.
func TestNewFails(t *testing.T) {
	f := &failing{TB: t}
	func() {
		defer func() { _ = recover() }()
		kmstest.New(f, kmstest.SeedText("accounts: {111122223333: {key: {}}}"))
	}()
	if !strings.Contains(f.said, `seed:1:27: account 111122223333 has no field "key"`) {
		t.Errorf("%q", f.said)
	}
}

// failing is a test that notes how it failed.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}
