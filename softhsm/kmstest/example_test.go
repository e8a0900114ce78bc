package kmstest_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/softhsm/kmstest"
)

// A test that uses a real server. In a program of your own it is called Test..., and go test gives it its t.
func ExampleNew() {
	_ = func(t *testing.T) {
		server := kmstest.New(t, kmstest.SeedText(`
accounts:
  "000000000000":
    keys:
      us-east-1:
        11111111-2222-4333-8444-555555555555: {aliases: [alias/orders]}
`))
		client := kms.NewFromConfig(server.Config)
		_, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/orders"),
			Plaintext: []byte("message")})
		if err != nil {
			t.Fatal(err)
		}
		server.Reset(t) // the next test finds what the seed declares
	}
}
