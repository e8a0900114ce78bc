package transport_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/verenc/kms/hsm"
	"github.com/verenc/kms/service"
)

// brokenToken is the real token until it is told to fail.
type brokenToken struct {
	service.Token

	mu       sync.Mutex
	failures []error // guarded by mu: of the next calls, in order
	calls    int     // guarded by mu
}

func (b *brokenToken) GenerateWrapped(ctx context.Context, keys hsm.SealingKeys, n int, aad []byte) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls++
	if len(b.failures) > 0 {
		err := b.failures[0]
		b.failures = b.failures[1:]
		return nil, err
	}
	return b.Token.GenerateWrapped(ctx, keys, n, aad)
}

// fail makes the next calls fail, and counts from zero.
func (b *brokenToken) fail(errs ...error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures, b.calls = errs, 0
}

func (b *brokenToken) called() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.calls
}

// breakable is a server whose token can be told to fail.
func breakable(t *testing.T) (*server, *brokenToken) {
	t.Helper()
	b := &brokenToken{}
	s := newServer(t, options{service: func(c *service.Config) { b.Token, c.Token = c.Token, b }})
	return s, b
}

// TestEveryDeclaredError: each error that the API Reference declares for
// GenerateDataKeyWithoutPlaintext has a way to occur.
func TestEveryDeclaredError(t *testing.T) {
	s, token := breakable(t)
	_, arn := s.newKey(t)
	disabled, disabledARN := s.newKey(t)
	if _, err := s.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &disabled}); err != nil {
		t.Fatal(err)
	}
	doomed, doomedARN := s.newKey(t)
	if _, err := s.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &doomed}); err != nil {
		t.Fatal(err)
	}
	lost := keyWithoutObjects(t, s)
	signing := insertSigningKey(t, s)
	const unavailable = "The request was rejected because the specified KMS key was not available. You can retry the request."
	arnOf := func(id string) string { return "arn:verenc:" + account + ":key/" + id }

	cases := []struct {
		code    string
		status  int
		message string
		in      kms.GenerateDataKeyWithoutPlaintextInput
		token   error
	}{
		{code: "DependencyTimeoutException", status: 503,
			message: "The system timed out while trying to fulfill the request. You can retry the request.",
			in:      kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn},
			token:   fmt.Errorf("C_GenerateKey: %w", hsm.ErrTimeout)},
		{code: "DisabledException", status: 400, message: disabledARN + " is disabled.",
			in: kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &disabled}},
		{code: "DryRunOperationException", status: 400,
			message: "The request would have succeeded, but the DryRun option is set.",
			in:      kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, DryRun: aws.Bool(true)}},
		{code: "InvalidGrantTokenException", status: 400, message: "The specified grant token is not valid.",
			in: kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, GrantTokens: []string{"not base64!"}}},
		{code: "InvalidKeyUsageException", status: 400,
			message: arnOf(signing) +
				" key usage is SIGN_VERIFY which is not valid for GenerateDataKeyWithoutPlaintext.",
			in: kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &signing}},
		{code: "KeyUnavailableException", status: 500, message: unavailable,
			in:    kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn},
			token: fmt.Errorf("C_GenerateKey: %w", hsm.ErrUnavailable)},
		{code: "KeyUnavailableException", status: 500, message: unavailable, // its objects are gone from the token
			in: kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &lost}},
		{code: "KMSInternalException", status: 500,
			message: "The request was rejected because an internal exception occurred. The request can be retried.",
			in:      kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn},
			token:   errors.New("CKR_FUNCTION_FAILED in slot 7")},
		{code: "KMSInvalidStateException", status: 400, message: doomedARN + " is pending deletion.",
			in: kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &doomed}},
		{code: "NotFoundException", status: 400, message: "Alias arn:verenc:" + account + ":alias/none is not found.",
			in: kms.GenerateDataKeyWithoutPlaintextInput{KeyId: aws.String("alias/none")}},
	}
	var tested []string
	for _, test := range cases {
		t.Run(test.code, func(t *testing.T) {
			if test.token != nil {
				token.fail(test.token)
			}
			test.in.KeySpec = types.DataKeySpecAes256
			_, err := s.GenerateDataKeyWithoutPlaintext(t.Context(), &test.in)
			wantError(t, err, test.code, test.message)
			var answer *smithyhttp.ResponseError
			if !errors.As(err, &answer) || answer.HTTPStatusCode() != test.status {
				t.Errorf("status of %v is not %d", err, test.status)
			}
			// The SDK has a type for what the operation declares; an error that it doesn't know is a plain one.
			var plain *smithy.GenericAPIError
			if errors.As(err, &plain) {
				t.Errorf("the SDK does not know %s as an error of the operation", test.code)
			}
		})
		tested = append(tested, test.code)
	}
	for _, declared := range []string{"DependencyTimeoutException", "DisabledException", "DryRunOperationException",
		"InvalidGrantTokenException",
		"InvalidKeyUsageException", "KeyUnavailableException", "KMSInternalException", "KMSInvalidStateException",
		"NotFoundException"} {
		if !slices.Contains(tested, declared) {
			t.Errorf("%s has no test", declared)
		}
	}
	token.fail()
	if _, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
		&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &arn, KeySpec: types.DataKeySpecAes256}); err != nil {
		t.Errorf("after all that the key does not work: %v", err)
	}
}

// keyWithoutObjects makes a key and destroys its objects behind the service's back.
func keyWithoutObjects(t *testing.T, s *server) string {
	t.Helper()
	id, _ := s.newKey(t)
	objects := s.objectsOf(t, id)
	if len(objects) == 0 {
		t.Fatal("it has none")
	}
	for _, o := range objects {
		if err := s.Token.Destroy(t.Context(), o.ID); err != nil {
			t.Fatal(err)
		}
	}
	return id
}

// insertSigningKey stores a key of another usage.
func insertSigningKey(t *testing.T, s *server) string {
	t.Helper()
	const id = "99999999-8888-4777-8666-555555555555"
	err := s.Store.InsertKey(t.Context(), &service.Key{ID: id, Account: account, Region: region, Spec: "RSA_2048",
		Usage:  "SIGN_VERIFY",
		Policy: `{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}}`,
		Origin: "AWS_KMS", State: service.StateEnabled, CreatedAt: time.Now(),
		Materials: []service.Material{{Ordinal: 1, ID: "00", CreatedAt: time.Now(),
			Objects: map[service.Role]service.ObjectID{}}}})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestClientsRetry: the SDK repeats what AWS calls a fault of the server, and nothing else.
func TestClientsRetry(t *testing.T) {
	s, token := breakable(t)
	id, _ := s.newKey(t)
	patient := kms.New(s.Options(), func(o *kms.Options) {
		o.RetryMaxAttempts = 3
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
			o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
		})
	})
	for _, test := range []struct {
		name  string
		err   error
		calls int // of the token
		code  string
	}{
		{"DependencyTimeoutException", hsm.ErrTimeout, 3, ""},
		{"KeyUnavailableException", hsm.ErrUnavailable, 3, ""},
		{"KMSInternalException", errors.New("fault"), 3, ""},
		{"InvalidCiphertextException", hsm.ErrAuthentication, 1, "InvalidCiphertextException"}, // stands for any 400
	} {
		t.Run(test.name, func(t *testing.T) {
			token.fail(test.err, test.err)
			_, err := patient.GenerateDataKeyWithoutPlaintext(t.Context(),
				&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, NumberOfBytes: aws.Int32(8)})
			if test.code != "" {
				wantError(t, err, test.code, "*")
			} else if err != nil {
				t.Errorf("the third attempt: %v", err)
			}
			if n := token.called(); n != test.calls {
				t.Errorf("the token was called %d times, want %d", n, test.calls)
			}
		})
	}
}

func TestDataKeyValidation(t *testing.T) {
	s := newServer(t, options{})
	id, _ := s.newKey(t)
	const either = "Please specify either number of bytes or key spec."
	for _, test := range []struct {
		name, message string
		spec          types.DataKeySpec
		bytes         *int32
	}{
		{"neither", either, "", nil},
		{"both", either, types.DataKeySpecAes128, aws.Int32(16)},
		{"0 bytes",
			"1 validation error detected: Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
			"", aws.Int32(0)},
		{"-1 bytes",
			"1 validation error detected: Value '-1' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
			"", aws.Int32(-1)},
		{"1025 bytes",
			"1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024",
			"", aws.Int32(1025)},
		{"unknown spec",
			"1 validation error detected: Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]",
			"AES_512", nil},
		{"two errors",
			"2 validation errors detected: Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]; " +
				"Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
			"AES_512", aws.Int32(0)},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := s.GenerateDataKeyWithoutPlaintext(t.Context(),
				&kms.GenerateDataKeyWithoutPlaintextInput{KeyId: &id, KeySpec: test.spec, NumberOfBytes: test.bytes})
			wantError(t, err, "ValidationException", test.message)
			if test.name == "two errors" {
				return // GenerateDataKey has its members in another order
			}
			_, err = s.GenerateDataKey(t.Context(),
				&kms.GenerateDataKeyInput{KeyId: &id, KeySpec: test.spec, NumberOfBytes: test.bytes})
			wantError(t, err, "ValidationException", test.message)
		})
	}
}
