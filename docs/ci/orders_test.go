// orders_test.go
package orders

import (
	"bytes"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/verenc/kms/softhsm/kmstest"
)

func TestAnOrderIsSealed(t *testing.T) {
	server := kmstest.New(t, kmstest.Seed("keys.yaml"))
	client := kms.NewFromConfig(server.Config)
	sealed, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: aws.String("alias/orders"),
		Plaintext: []byte("3 apples")})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := client.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if err != nil || !bytes.Equal(opened.Plaintext, []byte("3 apples")) {
		t.Errorf("%v, %v", opened, err)
	}
	server.Reset(t) // the keys of the seed again, and no others
}
